"""Starting a training from a network that has learned something else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from mdm_jax.models import find_weights, weights
from mdm_jax.models.pretrained import EMBEDDED
from mdm_jax.models.vit import ViT, interpolate
from mdm_jax.models.weight_names import timm_names

Module = TypeVar("Module", bound=nnx.Module)

HEADS = {"fc", "classifier", "head", "head_dist"}
PER_CLASS = {"prototypes", "last_layer", "occurrence"}
"""what a prototype network has for its classes"""
BACKBONE = "backbone."


def initialize_from(module: Module, place: str | Path) -> Module:
    """A fresh module with the weights that lie at a place (see `find_weights`), of the same network.

    A head of another number of classes stays fresh; position embeddings of another input size are
    interpolated. A prototype network takes the weights of a plain classifier into its backbone, all
    else stays fresh. An embedded network may be named. Raises InputError for weights of another
    network."""
    own, given = (
        weights.entries(module),
        timm_names(find_weights.find_weights(EMBEDDED.get(str(place), place)).arrays),
    )
    below: Any = getattr(module, "backbone", None)
    if below is not None and not any(name.startswith(BACKBONE) for name in given):
        plain = {
            BACKBONE + name: array
            for name, array in given.items()
            if name.split(".")[0] not in HEADS
        }
        given = {
            name: fresh for name, fresh in own.items() if not name.startswith(BACKBONE)
        } | plain
    for name, fresh in own.items():
        if (
            name.split(".")[0] in HEADS | PER_CLASS
            and name in given
            and given[name].shape != fresh.shape
        ):
            given[name] = fresh
    network, places = (module, "pos_embed") if below is None else (below, f"{BACKBONE}pos_embed")
    if isinstance(network, ViT) and places in given and given[places].shape != own[places].shape:
        given[places] = _other_grid(network, given[places])
    return weights.load(lambda: module, given)


def _other_grid(module: ViT, embedding: np.ndarray) -> np.ndarray:
    """Embeddings of a square grid, interpolated to the module's; as they are where they are of no
    square."""
    extra = 2 if module.distilled else 1
    places = max(embedding.shape[1] - extra, 0) if embedding.ndim == 3 else 0
    side = math.isqrt(places)
    if side * side != places or places == 0:
        return embedding
    return np.asarray(interpolate(jnp.asarray(embedding), extra, (side, side), module.grid))
