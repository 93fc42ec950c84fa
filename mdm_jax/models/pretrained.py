"""Classifiers by name: `load_model` finds the weights and makes their network ready to use."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mdm_jax.errors import InputError, reason_of, unknown
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.models.architectures import (
    CLASSIFIERS,
    build_shapes,
    is_known,
    resolve,
    usual_weights,
)
from mdm_jax.models.classifier import DTYPES, Classifier
from mdm_jax.models.find_weights import PICKLES, StoredWeights, find_weights
from mdm_jax.models.fold_batch_norm import fold_batch_norms
from mdm_jax.models.model_config import ModelConfig, find_config, trained_size
from mdm_jax.models.vit import ViT
from mdm_jax.models.weights import fill

_FOLDER = Path(str(resources.files("mdm_jax.models"))) / "embedded"

# Folders of the networks that come with the package, trained on `Digits`.
EMBEDDED = {
    family: _FOLDER / f"digits_{family}"
    for family in ("resnet", "densenet", "vit", "protopnet", "xprotonet")
}
WEIGHT_FILES = {".safetensors", *PICKLES}


@own_settings()
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

    | call | network |
    |---|---|
    | `load_model()`, `load_model("vit")` | an embedded one, trained on digits: see `EMBEDDED` |
    | `load_model("resnet50")` | a published one with its usual weights, from the Hugging Face hub |
    | `load_model("timm/resnet50.tv_in1k")` | a repository on the hub, or its local cache |
    | `load_model("resnet50", weights="timm/resnet50.tv_in1k")` | the same, checked to be one |
    | `load_model(weights="folder")` | what lies there: see `find_weights` |

    A safetensors file without a config.json needs the name, and gets the preprocessing of the
    family's published weights.

    Args:
      name: an architecture, a hub id, or a place of weights.
      weights: where the weights are.
      image_size: a side or (height, width) in pixels, in place of the config's.
      dtype: what the network computes in, "float32" or "bfloat16".
      fold: fold batch norms into the convolutions before them.
      remat: compute a Transformer's blocks again in the backward pass, to save memory.

    Raises InputError for what cannot be loaded, saying what to do."""
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    architecture, place = _locate(name, weights)
    stored = find_weights(place)
    config = find_config(stored, architecture)
    blank = _blank_network(config, stored, remat=remat)
    try:
        network = fill(blank, stored.arrays)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    classifier = Classifier(
        _for_inference(network, fold, dtype),
        stored.name,
        config.class_names,
        config.preprocessing.resized(image_size),
        dtype,
    )
    _check_size(classifier)
    return classifier


def _blank_network(
    config: ModelConfig, stored: StoredWeights, *, remat: bool
) -> nnx.Module:
    """The network of a config, of shapes only. Raises InputError for impossible arguments."""
    family, _ = resolve(config.architecture)
    arguments = config.arguments
    if remat and family in CLASSIFIERS and CLASSIFIERS[family].can_remat:
        arguments = arguments | {"remat": True}
    try:
        return build_shapes(
            config.architecture,
            num_classes=len(config.class_names),
            channels=config.preprocessing.channels,
            size=trained_size(config, stored.arrays),
            **arguments,
        )
    except InputError:
        raise
    except Exception as error:  # another author's file, of any form
        raise InputError(
            f"{stored.config_place} does not describe a {config.architecture}"
            f" ({reason_of(error)})"
        ) from error


def _for_inference(network: nnx.Module, fold: bool, dtype: str) -> Any:
    if fold:
        network = fold_batch_norms(network)
    if dtype != "float32":
        network = jax.tree.map(lambda leaf: leaf.astype(DTYPES[dtype]), network)
    # Dropout and batch norms ask for these flags; a network that has neither has none to set.
    view = nnx.view(
        network, deterministic=True, use_running_average=True, raise_if_not_found=False
    )
    return jax.device_put(view)


def _locate(
    name: str | Path | None, place: str | Path | None
) -> tuple[str | None, str | Path]:
    """The network's architecture, where it was given, and the place of its weights."""
    if name is None:
        return None, EMBEDDED["resnet"] if place is None else place
    text = str(name)
    if place is None and text in EMBEDDED:
        return text, EMBEDDED[text]
    if place is None and _is_place(name):
        return None, name
    # "resnet50.tv_in1k" is timm's way to name an architecture and a tag of its weights.
    architecture, _, tag = text.partition(".")
    resolve(architecture)
    if place is None:
        place = f"timm/{text}" if tag else usual_weights(architecture)
    return architecture, place


def _is_place(name: str | Path) -> bool:
    """Whether it names a file, a folder or a repository rather than an architecture."""
    text = str(name)
    if isinstance(name, Path) or "/" in text:
        return True
    if Path(text).suffix.lower() in WEIGHT_FILES:
        return True
    # A folder that happens to be called like a network does not hide the network.
    return not is_known(text.partition(".")[0]) and os.path.exists(text)


def _check_size(classifier: Classifier) -> None:
    """Raises InputError for an input size that the network cannot take."""
    size, channels = classifier.preprocessing.size, classifier.preprocessing.channels
    # Any larger image suits a convolutional network, and tracing a large one takes a second.
    if min(size) < 64 or isinstance(classifier.network, ViT):
        jax.eval_shape(classifier, jax.ShapeDtypeStruct((1, *size, channels), jnp.float32))
