"""What a network is: architecture, preprocessing and class names, by config.json or weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from mdm_jax.data.preprocessing import Preprocessing, from_config
from mdm_jax.errors import InputError, reason_of, unknown
from mdm_jax.models.architectures import (
    CLASSIFIERS,
    FAMILIES,
    PROTOTYPES,
    STANDARD,
    published_preprocessing,
    published_side,
    resolve,
)
from mdm_jax.models.find_weights import StoredWeights
from mdm_jax.models.limits import check_arguments, check_classes
from mdm_jax.models.vit import PATCH, TORCHVISION
from mdm_jax.models.weight_names import timm_names


class ModelConfig(NamedTuple):
    """What a network is, without its weights."""

    architecture: str
    arguments: dict[str, Any]
    """those that differ from the architecture's own"""
    preprocessing: Preprocessing
    class_names: tuple[str, ...]


def find_config(stored: StoredWeights, name: str | None) -> ModelConfig:
    """The config of stored weights, of the network `name` where that was given.

    Raises InputError where the two disagree, where neither names the network, and for configs of
    any other form."""
    if stored.config is None:
        return _from_weights(stored, name)
    config = _from_json(stored, stored.config)
    if name is not None and _identity(name) != _identity(config.architecture):
        raise InputError(
            f"the weights at {stored.name} are of {config.architecture}, not of {name}: name that"
            " one, or none"
        )
    return config


def _identity(architecture: str) -> tuple[str, str]:
    """What two names of one network share: a Transformer's name may leave out its input size."""
    family, arguments = resolve(architecture)
    return family, repr(arguments) if arguments else ""


def _from_weights(stored: StoredWeights, name: str | None) -> ModelConfig:
    """The config of a named network, for a weight file that has none beside it."""
    if name is None:
        raise InputError(
            f"{stored.name} has no config.json beside it: name the network, such as resnet50"
        )
    if resolve(name)[0] in PROTOTYPES:
        raise InputError(
            f"{stored.name} has no config.json beside it: a {name} needs one, which names its"
            " backbone"
        )
    arrays = timm_names(stored.arrays)
    # The names as they are stored: they tell whether the weights are torchvision's own.
    preprocessing = _published(name, arrays, stored.arrays)
    return ModelConfig(
        name, {}, preprocessing, _class_names({}, _count_classes(name, arrays))
    )


def _from_json(stored: StoredWeights, config: Mapping[str, Any]) -> ModelConfig:
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        raise unknown("architecture", architecture, [*FAMILIES, *STANDARD])
    family, _ = resolve(architecture)
    pool = CLASSIFIERS[family].pool if family in CLASSIFIERS else "avg"
    if config.get("global_pool", pool) != pool:
        raise InputError(
            f"{stored.config_place}: global_pool {config['global_pool']!r} is not supported, only"
            f" {pool!r}"
        )
    if config.get("num_classes") == 0:
        raise InputError(
            f"{stored.config_place}: the network has no classifier (num_classes is 0): choose"
            " weights that have one"
        )
    try:
        arguments = dict(config.get("model_args") or {})
        check_arguments(arguments)
        check_classes(config["num_classes"])
        class_names = _class_names(config, config["num_classes"])
        preprocessing = from_config(config["pretrained_cfg"])
        return ModelConfig(architecture, arguments, preprocessing, class_names)
    except InputError as error:
        raise InputError(f"{stored.config_place}: {error}") from error
    except KeyError as error:
        raise InputError(
            f"{stored.config_place} lacks {error}: it must describe the network as timm does"
        ) from None
    except Exception as error:  # another author's file, of any form
        raise InputError(
            f"{stored.config_place} does not describe a {architecture} ({reason_of(error)})"
        ) from error


def _class_names(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Names of the config, or torchvision's names of the 1000 ImageNet classes, or numbers."""
    names = config.get("label_names")
    if names is None and count == 1000:
        file = resources.files("mdm_jax.models") / "imagenet_classes.txt"
        return tuple(file.read_text(encoding="utf-8").splitlines())
    names = tuple(map(str, range(count) if names is None else names))
    if len(names) != count:
        raise InputError(
            f"the config has {len(names)} label_names for {count} classes: give one each"
        )
    descriptions = config.get("label_descriptions") or {}
    return tuple(str(descriptions.get(name, name)) for name in names)


def _published(
    name: str, arrays: Mapping[str, np.ndarray], stored_names: Iterable[str]
) -> Preprocessing:
    """Preprocessing of the published weights of a classifier, of the size in its name."""
    layer = CLASSIFIERS[resolve(name)[0]].first_layer
    first = _entry(name, arrays, layer)
    if first.ndim != 4:
        raise InputError(
            f"{layer}.weight is of no convolution: it is another network than {name}"
        )
    if first.shape[1] != 3:
        raise InputError(
            f"the weights take {first.shape[1]} channels: a config.json must tell how they are"
            " normalized"
        )
    side = published_side(name)
    settings = published_preprocessing(name)
    if side == 384:  # as in the publications: fine-tuned and evaluated on uncropped images
        settings["crop_pct"] = 1.0
    preprocessing = from_config({"input_size": (3, side, side), **settings})
    if any(each.endswith("class_token") for each in stored_names):
        return replace(preprocessing, **TORCHVISION)
    return preprocessing


def _count_classes(name: str, arrays: Mapping[str, np.ndarray]) -> int:
    return len(_entry(name, arrays, CLASSIFIERS[resolve(name)[0]].head))


def _entry(name: str, arrays: Mapping[str, np.ndarray], layer: str) -> np.ndarray:
    """The weight of a layer that the network has."""
    entry = f"{layer}.weight"
    if entry not in arrays:
        raise InputError(
            f"the weights lack {entry}: they are of another network than {name}"
        )
    return arrays[entry]


def trained_size(config: ModelConfig, arrays: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """The input size that position embeddings were learned for; without them the config's.

    The config may name another size: embeddings are then interpolated."""
    size = config.preprocessing.size
    family, own = resolve(config.architecture)
    embeddings = timm_names(arrays).get("pos_embed")
    has_embeddings = family in CLASSIFIERS and CLASSIFIERS[family].has_position_embeddings
    if not has_embeddings or embeddings is None or embeddings.ndim != 3:
        return size
    arguments = own | config.arguments
    patch = arguments.get("patch", PATCH)
    extra = 2 if arguments.get("distilled") else 1
    places = embeddings.shape[1] - extra
    # A patch that no network can have is reported when the network is built.
    if not isinstance(patch, int) or patch < 1:
        return size
    if (size[0] // patch) * (size[1] // patch) == places:
        return size
    # The shape of a grid is nowhere stored: another one than the config's is taken to be square.
    side = math.isqrt(max(places, 0))
    return (side * patch, side * patch) if side * side == places else size
