"""Starting a training from a network that has learned something else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from mdm_jax.models import weights
from mdm_jax.models.find_weights import find_weights
from mdm_jax.models.pretrained import EMBEDDED
from mdm_jax.models.vit import ViT, interpolate
from mdm_jax.models.weight_names import timm_names

Module = TypeVar("Module", bound=nnx.Module)
Arrays = dict[str, np.ndarray]

HEADS = {"fc", "classifier", "head", "head_dist"}

# What a prototype network has for its classes.
PER_CLASS = {"prototypes", "last_layer", "occurrence"}
BACKBONE = "backbone."


def initialize_from(module: Module, place: str | Path) -> Module:
    """The module with the weights that lie at a place (see `find_weights`), of the same network.

    A head of another number of classes stays as it is; position embeddings of another input size
    are interpolated. A prototype network takes the weights of a plain classifier into its
    backbone, all else stays. An embedded network may be named. Raises InputError for weights of
    another network."""
    own = weights.entries(module)
    given = timm_names(find_weights(EMBEDDED.get(str(place), place)).arrays)
    backbone: Any = getattr(module, "backbone", None)
    if backbone is not None and not any(name.startswith(BACKBONE) for name in given):
        given = _into_backbone(own, given)
    for name, array in own.items():
        depends_on_classes = name.split(".")[0] in HEADS | PER_CLASS
        if depends_on_classes and name in given and given[name].shape != array.shape:
            given[name] = array
    network, prefix = (module, "") if backbone is None else (backbone, BACKBONE)
    entry = f"{prefix}pos_embed"
    if (
        isinstance(network, ViT)
        and entry in given
        and given[entry].shape != own[entry].shape
    ):
        given[entry] = _fit_grid(network, given[entry])
    return weights.load(lambda: module, given)


def _into_backbone(
    own: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]
) -> Arrays:
    """The weights of a plain classifier, without its head, as those of the backbone."""
    merged = {name: array for name, array in own.items() if not name.startswith(BACKBONE)}
    for name, array in given.items():
        if name.split(".")[0] not in HEADS:
            merged[BACKBONE + name] = array
    return merged


def _fit_grid(module: ViT, embedding: np.ndarray) -> np.ndarray:
    """Embeddings of a square grid, interpolated to the module's; others as they are."""
    extra = 2 if module.distilled else 1
    places = max(embedding.shape[1] - extra, 0) if embedding.ndim == 3 else 0
    side = math.isqrt(places)
    if side * side != places or places == 0:
        return embedding
    return np.asarray(interpolate(jnp.asarray(embedding), extra, (side, side), module.grid))
