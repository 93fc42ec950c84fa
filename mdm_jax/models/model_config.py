"""What is to be loaded: architecture, preprocessing and class names, told by a config.json or by
the weights alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from mdm_jax.data.preprocessing import PUBLISHED, TORCHVISION, Preprocessing, from_config
from mdm_jax.errors import InputError, unknown
from mdm_jax.models.architectures import FAMILIES, PROTOTYPES, STANDARD, resolve
from mdm_jax.models.find_weights import StoredWeights
from mdm_jax.models.vit import PATCH
from mdm_jax.models.weight_names import timm_names

HEADS = {"resnet": "fc", "densenet": "classifier", "vit": "head"}
FIRST = {"resnet": "conv1", "densenet": "features.conv0", "vit": "patch_embed.proj"}


class ModelConfig(NamedTuple):
    """What a network is, without its weights."""

    architecture: str
    arguments: dict[str, Any]
    """those that differ from the architecture's own"""
    preprocessing: Preprocessing
    class_names: tuple[str, ...]


def find_config(found: StoredWeights, name: str | None) -> ModelConfig:
    """The description of weights that were found, of the network `name` where that was given.

    Raises InputError where the two disagree, where neither tells the network, and for configs of
    any other form."""
    if found.config is None:
        if name is None:
            raise InputError(
                f"{found.name} has no config.json beside it: name the network, as with --model"
                " resnet50"
            )
        if resolve(name)[0] in PROTOTYPES:
            raise InputError(
                f"{found.name} has no config.json beside it: a {name} needs one, which names its"
                " backbone"
            )
        arrays = timm_names(found.arrays)
        return ModelConfig(
            name,
            {},
            _published(name, arrays, found.arrays),
            _class_names({}, _classes(name, arrays)),
        )
    told = _from_config(found)
    if name is not None and _same(name) != _same(told.architecture):
        raise InputError(
            f"the weights at {found.name} are of {told.architecture}, not of {name}: name that one,"
            " or none"
        )
    return told


def _same(architecture: str) -> tuple[str, str]:
    """What two names of one network share: a Transformer's name may leave out its input size."""
    family, arguments = resolve(architecture)
    return family, repr(arguments) if arguments else ""


def _from_config(found: StoredWeights) -> ModelConfig:
    """What the config tells."""
    config = found.config
    assert config is not None
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        raise unknown("architecture", architecture, [*FAMILIES, *STANDARD])
    pools = "token" if resolve(architecture)[0] == "vit" else "avg"
    if config.get("global_pool", pools) != pools:
        raise InputError(
            f"{found.described}: global_pool {config['global_pool']!r} is not supported, only"
            f" {pools!r}"
        )
    if config.get("num_classes") == 0:
        raise InputError(
            f"{found.described}: the network has no classifier (num_classes is 0): choose weights"
            " that have one"
        )
    try:
        arguments = dict(config.get("model_args") or {})
        names = _class_names(config, config["num_classes"])
        return ModelConfig(architecture, arguments, from_config(config["pretrained_cfg"]), names)
    except InputError:
        raise
    except KeyError as error:
        raise InputError(
            f"{found.described} lacks {error}: it must describe the network as timm does"
        ) from None
    except Exception as error:  # a stranger's file, of any form
        raise InputError(
            f"{found.described} does not describe a {architecture} ({type(error).__name__}:"
            f" {error})"
        ) from error


def _class_names(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Names of the config, or torchvision's names of the 1000 ImageNet classes, or numbers."""
    names = config.get("label_names")
    if names is None and count == 1000:
        return tuple(
            (resources.files("mdm_jax.models") / "imagenet_classes.txt")
            .read_text(encoding="utf-8")
            .splitlines()
        )
    names = tuple(map(str, range(count) if names is None else names))
    if len(names) != count:
        raise InputError(
            f"the config has {len(names)} label_names for {count} classes: give one each"
        )
    described = config.get("label_descriptions") or {}
    return tuple(str(described.get(name, name)) for name in names)


def _published(
    name: str, arrays: Mapping[str, np.ndarray], original: Iterable[str]
) -> Preprocessing:
    """Preprocessing of the published weights of a family, for the channels that the arrays tell and
    the size in the name.

    `original` are the names before they were turned into timm's: torchvision's Transformers have
    their own."""
    family, _ = resolve(name)
    first = arrays.get(f"{FIRST[family]}.weight")
    if first is None or first.ndim != 4:
        raise InputError(
            f"the weights lack {FIRST[family]}.weight: they are of another network than {name}"
        )
    tail = name.rpartition("_")[2]
    side = int(tail) if family == "vit" and tail.isdigit() else 224
    given = PUBLISHED["deit" if name.startswith("deit") else family]
    if first.shape[1] != 3:
        raise InputError(
            f"the weights take {first.shape[1]} channels: a config.json must tell how they are"
            " normalized"
        )
    if side == 384:
        given = given | {"crop_pct": 1.0}
    preprocessing = from_config({"input_size": (3, side, side), **given})
    return (
        replace(preprocessing, **TORCHVISION)
        if any(each.endswith("class_token") for each in original)
        else preprocessing
    )


def _classes(name: str, arrays: Mapping[str, np.ndarray]) -> int:
    head = f"{HEADS[resolve(name)[0]]}.weight"
    if head not in arrays:
        raise InputError(f"the weights lack {head!r}: they are of another network than {name}")
    return len(arrays[head])


def trained_size(told: ModelConfig, arrays: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """The input size that a Transformer's position embeddings were learned for; the config's for
    all other networks.

    The config may name another size: embeddings are then interpolated.
    """
    size = told.preprocessing.size
    family, given = resolve(told.architecture)
    places = timm_names(arrays).get("pos_embed")
    if family != "vit" or places is None or places.ndim != 3:
        return size
    given = given | told.arguments
    patch, tokens = (
        given.get("patch", PATCH),
        places.shape[1] - (2 if given.get("distilled") else 1),
    )
    if not isinstance(patch, int) or patch < 1 or (size[0] // patch) * (size[1] // patch) == tokens:
        return size
    side = math.isqrt(max(tokens, 0))
    return (side * patch, side * patch) if side * side == tokens else size
