"""Classifiers by name: `load_model` finds the weights, puts them into their network and makes it
ready for inference."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mdm_jax.errors import InputError, unknown
from mdm_jax.models import find_weights
from mdm_jax.models.architectures import FAMILIES, build_shapes, is_known, resolve
from mdm_jax.models.classifier import DTYPES, Classifier
from mdm_jax.models.fold_batch_norm import fold_batch_norms as fold_norms
from mdm_jax.models.model_config import ModelConfig, find_config, trained_size
from mdm_jax.models.vit import ViT
from mdm_jax.models.weights import fill

_PACKAGE = Path(str(resources.files("mdm_jax.models")))
EMBEDDED = {family: _PACKAGE / "embedded" / f"digits_{family}" for family in FAMILIES}
FILES = {".safetensors", *find_weights.PICKLES}
AUGREG = {
    f"vit_{size}_patch{patch}_224"
    for size, patch in (
        ("tiny", 16),
        ("small", 16),
        ("small", 32),
        ("base", 16),
        ("base", 32),
        ("large", 16),
    )
}
"""ViTs that AugReg's authors fine-tuned on ImageNet-1k at 224 pixels"""


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
    `load_model("resnet50")`: a published network with its usual weights, from the hugging face hub
    or its local cache. `load_model("timm/resnet50.tv_in1k")`, `load_model("resnet50",
    weights="timm/resnet50.tv_in1k")`, `load_model(weights= "folder")`: see `find_weights` for what
    weights may be. A safetensors file without a config.json needs the name, and gets the
    preprocessing of the family's published weights. `image_size` (a side or (height, width),
    pixels) replaces the config's; `dtype` is what the network computes in; `fold` folds batch norms
    away; `remat` computes a Transformer's blocks again in the backward pass to save memory. Raises
    InputError for what cannot be loaded, saying what to do."""
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    name, place = _named(name, weights)
    found = find_weights.find_weights(place)
    told = find_config(found, name)
    blank = _shapes(told, found, remat=remat)
    try:
        network = fill(blank, found.arrays)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    preprocessing = told.preprocessing.resized(image_size)
    classifier = Classifier(
        _for_inference(network, fold, dtype), found.name, told.class_names, preprocessing, dtype
    )
    _check_size(classifier)
    return classifier


def _shapes(told: ModelConfig, found: find_weights.StoredWeights, *, remat: bool) -> nnx.Module:
    """The network that was told of, of shapes only. Raises InputError for arguments that it cannot
    take."""
    arguments = told.arguments | (
        {"remat": True} if remat and resolve(told.architecture)[0] == "vit" else {}
    )
    channels, classes = told.preprocessing.channels, len(told.class_names)
    try:
        return build_shapes(
            told.architecture,
            num_classes=classes,
            channels=channels,
            size=trained_size(told, found.arrays),
            **arguments,
        )
    except InputError:
        raise
    except Exception as error:  # a stranger's file, of any form
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{found.described} does not describe a {told.architecture} ({reason})"
        ) from error


def _for_inference(network: nnx.Module, fold: bool, dtype: str) -> Any:
    network = fold_norms(network) if fold else network
    if dtype != "float32":
        network = jax.tree.map(lambda leaf: leaf.astype(DTYPES[dtype]), network)
    return jax.device_put(
        nnx.view(network, deterministic=True, use_running_average=True, raise_if_not_found=False)
    )


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
        or (not is_known(architecture) and os.path.exists(text))
    )
    if place is None and is_path:
        return None, name
    resolve(architecture)
    if place is None:
        place = f"timm/{text}" if tag else _usual_weights(architecture)
    return architecture, place


def _usual_weights(architecture: str) -> str:
    """The hub id whose numbers the literature quotes: torchvision's first weights, AugReg's
    Transformers, DeiT's own."""
    if architecture.startswith(("resnet", "densenet")) and architecture not in FAMILIES:
        return f"timm/{architecture}.tv_in1k"
    sized = architecture if architecture.rpartition("_")[2].isdigit() else f"{architecture}_224"
    if sized in AUGREG:
        return f"timm/{sized}.augreg_in21k_ft_in1k"
    if sized.startswith("deit") and sized.endswith("_224"):
        return f"timm/{sized}.fb_in1k"
    raise InputError(f"{architecture} has no usual weights: give some with --weights")


def _check_size(classifier: Classifier) -> None:
    """Raises InputError for an input size that the network cannot take."""
    size, channels = classifier.preprocessing.size, classifier.preprocessing.channels
    if min(size) < 64 or isinstance(classifier.network, ViT):  # any larger image suits the others
        jax.eval_shape(classifier, jax.ShapeDtypeStruct((1, *size, channels), jnp.float32))
