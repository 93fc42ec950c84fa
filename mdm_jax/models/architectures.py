"""Networks by name: what `--model`, a config.json and a training config may say."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from mdm_jax.errors import InputError
from mdm_jax.models.densenet import DenseNet
from mdm_jax.models.protopnet import ProtoPNet
from mdm_jax.models.resnet import ResNet
from mdm_jax.models.vit import ViT
from mdm_jax.models.xprotonet import XProtoNet

CLASSIFIERS: dict[str, Callable[..., nnx.Module]] = {
    "resnet": ResNet,
    "densenet": DenseNet,
    "vit": ViT,
}
PROTOTYPES: dict[str, Callable[..., nnx.Module]] = {"protopnet": ProtoPNet, "xprotonet": XProtoNet}
"""built on a backbone, which their argument `backbone` names and `backbone_arguments` describes"""
FAMILIES = CLASSIFIERS | PROTOTYPES

_RESNETS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
_DENSENETS = {
    121: (32, 64, (6, 12, 24, 16)),
    161: (48, 96, (6, 12, 36, 24)),
    169: (32, 64, (6, 12, 32, 32)),
    201: (32, 64, (6, 12, 48, 32)),
}
_VITS = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}

STANDARD: dict[str, tuple[str, dict[str, Any]]] = (
    {
        f"resnet{layers}": (
            "resnet",
            {"block": block, "depths": depths, "widths": (64, 128, 256, 512), "stem": "imagenet"},
        )
        for layers, (block, depths) in _RESNETS.items()
    }
    | {
        f"densenet{layers}": (
            "densenet",
            {"growth": growth, "initial": initial, "blocks": blocks, "stem": "imagenet"},
        )
        for layers, (growth, initial, blocks) in _DENSENETS.items()
    }
    | {
        f"vit_{name}_patch{patch}": (
            "vit",
            {"width": width, "depth": depth, "heads": heads, "patch": patch},
        )
        for name, (width, depth, heads) in _VITS.items()
        for patch in (16, 32)
    }
    | {
        f"deit_{name}{'_distilled' * distilled}_patch16": (
            "vit",
            {"width": width, "depth": depth, "heads": heads, "patch": 16, "distilled": distilled},
        )
        for name, (width, depth, heads) in _VITS.items()
        if name != "large"
        for distilled in (False, True)
    }
)
"""Published networks: family and its arguments. A Transformer's name may end in its input size, as
in `..._patch16_224`."""


def is_known(name: str) -> bool:
    """Whether a network of that name is ours."""
    return name in FAMILIES or _without_size(name) in STANDARD


def _without_size(name: str) -> str:
    transformer = re.fullmatch(r"((?:vit|deit)_\w+?_patch\d+)_(\d+)", name)
    return transformer[1] if transformer else name


def resolve(name: str) -> tuple[str, dict[str, Any]]:
    """The family of a named network and its arguments. Raises InputError for a network that is not
    ours."""
    if name in FAMILIES:
        return name, {}
    plain = _without_size(name)
    if not is_known(name):
        near = difflib.get_close_matches(name, [*FAMILIES, *STANDARD], n=3, cutoff=0.5)
        raise InputError(
            f"unknown architecture {name!r}: did you mean"
            f" {' or '.join(map(repr, near)) or 'resnet50'}? Variants (resnet50d, wide_resnet,"
            " resnext ...) are other networks: hand them to mdm_jax.explain as a function"
        )
    family, arguments = STANDARD[plain]
    return family, dict(arguments)


class _OneKey(nnx.Rngs):
    """For where only shapes are wanted: the counters of `nnx.Rngs` make a large network's slow to
    trace."""

    def __init__(self) -> None:
        self.key = jax.random.key(0)

    def params(self) -> jax.Array:
        return self.key


def build_shapes(name: str, **arguments: Any) -> nnx.Module:
    """What `build` gives, of shapes only and without weights: what `weights.fill` fills. Raises as
    `build` does."""
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
    """The network of that name with fresh weights; under `nnx.eval_shape` only its shapes.

    `size` is the (height, width) of its input in pixels; `arguments` replace those of the name. A
    prototype network takes the name of its `backbone` and the `backbone_arguments` beside its own.
    Raises InputError for an unknown name, and what the network raises for its arguments."""
    family, given = resolve(name)
    if family in PROTOTYPES:
        arguments = dict(arguments)
        backbone = arguments.pop("backbone", "resnet")
        if resolve(backbone)[0] in PROTOTYPES:
            raise InputError(
                f"the backbone of a {name} cannot be a {backbone}: give one of"
                f" {', '.join(CLASSIFIERS)}"
            )
        below = dict(arguments.pop("backbone_arguments", None) or {})
        network = build(backbone, num_classes=0, channels=channels, size=size, rngs=rngs, **below)
        return PROTOTYPES[family](network, num_classes=num_classes, rngs=rngs, **arguments)
    if family == "vit":
        given["size"] = tuple(size)
    return FAMILIES[family](
        num_classes=num_classes, channels=channels, rngs=rngs, **given | arguments
    )
