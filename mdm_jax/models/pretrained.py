"""Classifiers ready to use: `load_model` gives a callable over images in [0, 1] with all that belongs to it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mdm_jax.errors import InputError, unknown
from mdm_jax.models import locate
from mdm_jax.models.architectures import FAMILIES, STANDARD, known, resolve, shapes
from mdm_jax.models.folding import fold as fold_norms
from mdm_jax.models.naming import timm_names
from mdm_jax.models.preprocessing import PUBLISHED, TORCHVISION, Preprocessing, from_config
from mdm_jax.models.vit import PATCH, ViT
from mdm_jax.models.weights import fill
from mdm_jax.types import AnyArray

_PACKAGE = Path(str(resources.files("mdm_jax.models")))
EMBEDDED = {family: _PACKAGE / "embedded" / f"digits_{family}" for family in FAMILIES}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

FILES = {".safetensors", *locate.PICKLES}
AUGREG = {
    f"vit_{size}_patch{patch}_224"
    for size, patch in (("tiny", 16), ("small", 16), ("small", 32), ("base", 16), ("base", 32), ("large", 16))
}
"""ViTs that AugReg's authors fine-tuned on ImageNet-1k at 224 pixels"""
HEADS = {"resnet": "fc", "densenet": "classifier", "vit": "head"}
FIRST = {"resnet": "conv1", "densenet": "features.conv0", "vit": "patch_embed.proj"}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Classifier:
    """A network in inference mode over images in [0, 1]: `(logits, out) = classifier(images)`.

    `out` holds the intermediates by name (see the network's own docstring); the network computes in `dtype`, logits are
    float32. Keywords go to the network, such as `attention=True` to a Transformer.
    """

    network: Any
    name: str = field(metadata={"static": True})
    class_names: tuple[str, ...] = field(metadata={"static": True})
    preprocessing: Preprocessing = field(metadata={"static": True})
    dtype: str = field(default="float32", metadata={"static": True})

    def __call__(self, images: AnyArray, **request: Any) -> tuple[Float[Array, "n classes"], dict[str, Any]]:
        images = jnp.asarray(images)
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(f"images are {images.dtype}: give floats in [0, 1], for 8-bit images images / 255")
        exact = jnp.promote_types(images.dtype, jnp.float32)
        mean, std = (jnp.asarray(value, exact) for value in (self.preprocessing.mean, self.preprocessing.std))
        normalised = (images.astype(exact) - mean) / std
        if self.dtype != "float32":
            normalised = normalised.astype(DTYPES[self.dtype])
        logits, out = self.network(normalised, **request)
        return logits.astype(exact), out


def load_model(
    name: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    dtype: str = "float32",
    fold: bool = True,
    remat: bool = False,
) -> Classifier:
    """A classifier by name, by its weights, or both.

    `load_model()`, `load_model("vit")`: the embedded digits networks `resnet`, `densenet`, `vit`.
    `load_model("resnet50")`: a published network with its usual weights, from the hugging face hub or its local cache.
    `load_model("timm/resnet50.tv_in1k")`, `load_model("resnet50", weights="timm/resnet50.tv_in1k")`, `load_model(weights=
    "folder")`: see `locate.find` for what weights may be. A safetensors file without a config.json needs the name, and gets
    the preprocessing of the family's published weights. `image_size` (a side or (height, width), pixels) replaces the
    config's; `dtype` is what the network computes in; `fold` folds batch norms away; `remat` computes a Transformer's blocks
    again in the backward pass to save memory. Raises InputError for what cannot be loaded, saying what to do.
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    name, place = _named(name, weights)
    found = locate.find(place)
    arrays = timm_names(found.arrays)
    if found.config is None:
        if name is None:
            raise InputError(f"{place} has no config.json beside it: name the network, as with --model resnet50")
        architecture, preprocessing = name, _published(name, arrays, found.arrays)
        arguments: dict[str, Any] = {}
        names = _class_names({}, _classes(name, arrays))
    else:
        architecture, arguments, preprocessing, names = _described(found)
        if name is not None and _same(name) != _same(architecture):
            raise InputError(f"the weights at {place} are of {architecture}, not of {name}: name that one, or none")
    family, _ = resolve(architecture)
    if remat and family == "vit":
        arguments = arguments | {"remat": True}
    network = _shapes(architecture, arguments, arrays, preprocessing, len(names), found.described)
    try:
        network = fill(network, arrays)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    classifier = Classifier(_for_inference(network, fold, dtype), found.name, names, preprocessing.resized(image_size), dtype)
    _check_size(classifier)
    return classifier


def _shapes(
    architecture: str,
    arguments: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    preprocessing: Preprocessing,
    classes: int,
    described: str,
) -> nnx.Module:
    size = _grid_size(architecture, arguments, arrays, preprocessing.size)
    try:
        return shapes(architecture, num_classes=classes, channels=preprocessing.channels, size=size, **arguments)
    except InputError:
        raise
    except Exception as error:  # a stranger's file, of any form
        raise InputError(f"{described} does not describe a {architecture} ({type(error).__name__}: {error})") from error


def _for_inference(network: nnx.Module, fold: bool, dtype: str) -> Any:
    network = fold_norms(network) if fold else network
    if dtype != "float32":
        network = jax.tree.map(lambda leaf: leaf.astype(DTYPES[dtype]), network)
    return jax.device_put(nnx.view(network, deterministic=True, use_running_average=True, raise_if_not_found=False))


def _named(name: str | Path | None, place: str | Path | None) -> tuple[str | None, str | Path]:
    """The network's name, where it was given, and the place of its weights."""
    if name is None:
        return None, EMBEDDED["resnet"] if place is None else place
    text = str(name)
    if place is None and text in EMBEDDED:
        return text, EMBEDDED[text]
    architecture, _, tag = text.partition(".")
    is_path = (
        isinstance(name, Path)
        or "/" in text
        or Path(text).suffix.lower() in FILES
        or (not known(architecture) and os.path.exists(text))
    )
    if place is None and is_path:
        return None, name
    resolve(architecture)
    if place is None:
        place = f"timm/{text}" if tag else _usual_weights(architecture)
    return architecture, place


def _usual_weights(architecture: str) -> str:
    """The hub id whose numbers the literature quotes: torchvision's first weights, AugReg's Transformers, DeiT's own."""
    if architecture.startswith(("resnet", "densenet")) and architecture not in FAMILIES:
        return f"timm/{architecture}.tv_in1k"
    sized = architecture if architecture.rpartition("_")[2].isdigit() else f"{architecture}_224"
    if sized in AUGREG:
        return f"timm/{sized}.augreg_in21k_ft_in1k"
    if sized.startswith("deit") and sized.endswith("_224"):
        return f"timm/{sized}.fb_in1k"
    raise InputError(f"{architecture} has no usual weights: give some with --weights")


def _same(architecture: str) -> tuple[str, str]:
    """What two names of one network share: a Transformer's name may leave out its input size."""
    family, arguments = resolve(architecture)
    return family, repr(arguments) if arguments else ""


def _described(found: locate.Found) -> tuple[str, dict[str, Any], Preprocessing, tuple[str, ...]]:
    """Architecture, its arguments, preprocessing and class names, as the config tells."""
    config = found.config
    assert config is not None
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        raise unknown("architecture", architecture, [*FAMILIES, *STANDARD])
    pools = "token" if resolve(architecture)[0] == "vit" else "avg"
    if config.get("global_pool", pools) != pools:
        raise InputError(f"{found.described}: global_pool {config['global_pool']!r} is not supported, only {pools!r}")
    if config.get("num_classes") == 0:
        raise InputError(f"{found.described}: the network has no classifier (num_classes is 0): choose weights that have one")
    try:
        arguments = dict(config.get("model_args") or {})
        return architecture, arguments, from_config(config["pretrained_cfg"]), _class_names(config, config["num_classes"])
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{found.described} lacks {error}: it must describe the network as timm does") from None
    except Exception as error:  # a stranger's file, of any form
        raise InputError(f"{found.described} does not describe a {architecture} ({type(error).__name__}: {error})") from error


def _class_names(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Names of the config, or torchvision's names of the 1000 ImageNet classes, or numbers."""
    names = config.get("label_names")
    if names is None and count == 1000:
        return tuple((_PACKAGE / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines())
    names = tuple(map(str, range(count) if names is None else names))
    if len(names) != count:
        raise InputError(f"the config has {len(names)} label_names for {count} classes: give one each")
    described = config.get("label_descriptions") or {}
    return tuple(str(described.get(name, name)) for name in names)


def _published(name: str, arrays: Mapping[str, np.ndarray], original: Iterable[str]) -> Preprocessing:
    """Preprocessing of the published weights of a family, for the channels that the arrays tell and the size in the name.

    `original` are the names before they were turned into timm's: torchvision's Transformers have their own.
    """
    family, _ = resolve(name)
    first = arrays.get(f"{FIRST[family]}.weight")
    if first is None or first.ndim != 4:
        raise InputError(f"the weights lack {FIRST[family]}.weight: they are of another network than {name}")
    tail = name.rpartition("_")[2]
    side = int(tail) if family == "vit" and tail.isdigit() else 224
    given = PUBLISHED["deit" if name.startswith("deit") else family]
    if first.shape[1] != 3:
        raise InputError(f"the weights take {first.shape[1]} channels: a config.json must tell how they are normalised")
    if side == 384:
        given = given | {"crop_pct": 1.0}
    preprocessing = from_config({"input_size": (3, side, side), **given})
    return replace(preprocessing, **TORCHVISION) if any(each.endswith("class_token") for each in original) else preprocessing


def _classes(name: str, arrays: Mapping[str, np.ndarray]) -> int:
    head = f"{HEADS[resolve(name)[0]]}.weight"
    if head not in arrays:
        raise InputError(f"the weights lack {head!r}: they are of another network than {name}")
    return len(arrays[head])


def _grid_size(
    architecture: str, arguments: Mapping[str, Any], arrays: Mapping[str, np.ndarray], size: tuple[int, int]
) -> tuple[int, int]:
    """The input size that a Transformer's position embeddings were learned for; the config's for all other networks.

    The config may name another size: embeddings are then interpolated.
    """
    family, given = resolve(architecture)
    places = arrays.get("pos_embed")
    if family != "vit" or places is None or places.ndim != 3:
        return size
    given = given | dict(arguments)
    patch, tokens = given.get("patch", PATCH), places.shape[1] - (2 if given.get("distilled") else 1)
    if not isinstance(patch, int) or patch < 1 or (size[0] // patch) * (size[1] // patch) == tokens:
        return size
    side = math.isqrt(max(tokens, 0))
    return (side * patch, side * patch) if side * side == tokens else size


def _check_size(classifier: Classifier) -> None:
    """Raises InputError for an input size that the network cannot take."""
    size, channels = classifier.preprocessing.size, classifier.preprocessing.channels
    if min(size) < 64 or isinstance(classifier.network, ViT):  # any larger image suits the others
        jax.eval_shape(classifier, jax.ShapeDtypeStruct((1, *size, channels), jnp.float32))
