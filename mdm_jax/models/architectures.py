"""Networks by name: what the command line, a config.json and a training config may say."""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from mdm_jax.errors import InputError
from mdm_jax.models.family import Family, Variant
from mdm_jax.models.limits import check_arguments, check_classes


def _resolve_all(places: Mapping[str, str]) -> dict[str, Any]:
    return {name: pkgutil.resolve_name(place) for name, place in places.items()}


# A new family is a file and a row: named by text, it needs no import of its own.
CLASSIFIERS: dict[str, Family] = _resolve_all(
    {
        "resnet": "mdm_jax.models.resnet:FAMILY",
        "densenet": "mdm_jax.models.densenet:FAMILY",
        "vit": "mdm_jax.models.vit:FAMILY",
    }
)

# Built on a backbone, which their argument `backbone` names and `backbone_arguments` describes.
PROTOTYPES: dict[str, Any] = _resolve_all(
    {
        "protopnet": "mdm_jax.models.protopnet:ProtoPNet",
        "xprotonet": "mdm_jax.models.xprotonet:XProtoNet",
    }
)
FAMILIES = (*CLASSIFIERS, *PROTOTYPES)


def _standard() -> dict[str, tuple[str, Variant]]:
    standard = {}
    for family, described in CLASSIFIERS.items():
        for name, variant in described.variants.items():
            standard[name] = (family, variant)
    return standard


# Published networks: family and variant.
STANDARD = _standard()


def is_known(name: str) -> bool:
    """Whether a network of that name is ours."""
    return name in FAMILIES or _without_size(name)[0] in STANDARD


def _without_size(name: str) -> tuple[str, int | None]:
    """The name of a published network, and the input size (pixels a side) that it ends in."""
    plain, _, size = name.rpartition("_")
    if size.isdecimal() and plain in STANDARD:
        family, _ = STANDARD[plain]
        if CLASSIFIERS[family].has_position_embeddings:
            return plain, int(size)
    return name, None


def resolve(name: str) -> tuple[str, dict[str, Any]]:
    """The family of a named network and its arguments. Raises InputError for an unknown one."""
    if name in FAMILIES:
        return name, {}
    plain, _ = _without_size(name)
    if plain not in STANDARD:
        near = difflib.get_close_matches(name, [*FAMILIES, *STANDARD], n=3, cutoff=0.5)
        suggestion = " or ".join(map(repr, near)) or "resnet50"
        raise InputError(
            f"unknown architecture {name!r}: did you mean {suggestion}? Variants (resnet50d,"
            " wide_resnet, resnext ...) are other networks: hand them to mdm_jax.explain as a"
            " function"
        )
    family, variant = STANDARD[plain]
    return family, dict(variant.arguments)


def published_preprocessing(name: str) -> dict[str, Any]:
    """What the published weights of a classifier were evaluated with, as timm's `pretrained_cfg`.

    Without its `input_size`: see `published_side`."""
    family, _ = resolve(name)
    _, variant = STANDARD.get(_without_size(name)[0], (family, None))
    if variant is not None and variant.preprocessing is not None:
        return dict(variant.preprocessing)
    return dict(CLASSIFIERS[family].preprocessing)


def published_side(name: str) -> int:
    """Pixels a side of the images that the published weights of a network were evaluated with."""
    _, side = _without_size(name)
    return side or 224


def usual_weights(name: str) -> str:
    """Hub id of the weights whose numbers the literature quotes.

    Raises InputError for a network that has none."""
    family, _ = resolve(name)
    place = CLASSIFIERS[family].usual_weights(name) if family in CLASSIFIERS else None
    if place is None:
        raise InputError(f"{name} has no usual weights: say where its weights are")
    return place


class _OneKey(nnx.Rngs):
    """One key for every parameter, where only shapes are wanted.

    The counters of `nnx.Rngs` make the shapes of a large network slow to trace."""

    def __init__(self) -> None:
        self.key = jax.random.key(0)

    def params(self) -> jax.Array:
        return self.key


def build_shapes(name: str, **arguments: Any) -> nnx.Module:
    """The network that `build` gives, of shapes only: what `weights.fill` fills.

    Raises InputError as `build` does."""
    return nnx.eval_shape(lambda: build(name, rngs=_OneKey(), **arguments))


def build(
    name: str,
    *,
    num_classes: int,
    channels: int = 3,
    size: tuple[int, int],
    rngs: nnx.Rngs,
    **arguments: Any,
) -> nnx.Module:
    """The network of that name with random weights; under `nnx.eval_shape` only its shapes.

    `size` is the (height, width) of its input in pixels; `arguments` replace those of the name. A
    prototype network takes the name of its `backbone` and the `backbone_arguments` beside its own.
    Raises InputError for an unknown name and for numbers beyond all bounds, and what the network
    raises for its arguments."""
    family, own = resolve(name)
    check_classes(num_classes)
    check_arguments(arguments)
    if family in CLASSIFIERS:
        described = CLASSIFIERS[family]
        if described.has_position_embeddings:
            own["size"] = tuple(size)
        network: Callable[..., nnx.Module] = described.network
        return network(
            num_classes=num_classes, channels=channels, rngs=rngs, **own | arguments
        )
    backbone = arguments.pop("backbone", "resnet")
    if resolve(backbone)[0] not in CLASSIFIERS:
        raise InputError(
            f"the backbone of a {name} cannot be a {backbone}: give one of {', '.join(CLASSIFIERS)}"
        )
    below = arguments.pop("backbone_arguments", None) or {}
    # The backbone draws its weights first: a seed stands for this order.
    features = build(
        backbone, num_classes=0, channels=channels, size=size, rngs=rngs, **below
    )
    return PROTOTYPES[family](features, num_classes=num_classes, rngs=rngs, **arguments)
