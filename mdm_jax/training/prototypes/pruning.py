"""Pruning: prototypes whose nearest training images are of other classes are dropped.

With the k nearest images of each prototype over all classes (k = 6), one is dropped that has fewer
than 3 of its own class among them. Source: ProtoPNet's prune.py; that a class keeps its best
prototype whatever its neighbors are is ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from flax import nnx
from jaxtyping import Bool, Float

from mdm_jax.models import weights
from mdm_jax.training.prototypes.record import PushRecord


def prototypes_to_keep(
    own: Bool[np.ndarray, "m k"],
    distances: Float[np.ndarray, "m k"],
    prototype_classes: Sequence[int],
    fewer: int,
) -> tuple[int, ...]:
    """The prototypes that stay, given which of their k nearest images are of their own class.

    Those with at least `fewer` of their own class; in a class without such a one the prototype with
    most of them, of equals the one with the nearest image."""
    counts, classes = own.sum(axis=1), np.asarray(prototype_classes)
    stays = counts >= fewer
    # a class without a prototype could not be predicted any more
    for each in np.unique(classes):
        members = np.flatnonzero(classes == each)
        if not stays[members].any():
            # its last key counts first: the count, then the distance, then the number
            closest = np.lexsort((members, distances[members, 0], -counts[members]))[0]
            stays[members[closest]] = True
    return tuple(int(j) for j in np.flatnonzero(stays))


def prune_weights(
    arrays: Mapping[str, np.ndarray],
    keep: Sequence[int],
    construct: Callable[[], nnx.Module],
) -> dict[str, np.ndarray]:
    """The weights `arrays` without the prototypes that are not in `keep`.

    `construct` describes the network that is left. Every array whose shape differs has one axis
    along the prototypes, and loses the others there."""
    places = weights.places(nnx.eval_shape(construct))
    found = {}
    for name, array in arrays.items():
        path, leaf = places[name]
        wanted = weights.torch_shape(leaf.shape, path[-1])
        found[name] = array
        for axis, (now, then) in enumerate(zip(array.shape, wanted)):
            if now != then:  # at most one axis runs along the prototypes
                found[name] = np.take(array, keep, axis=axis)
                break
    return found


def prune_record(record: PushRecord, keep: Sequence[int]) -> PushRecord:
    """The record of the prototypes that stay, numbered anew."""
    pushed = tuple(
        record.pushed[old]._replace(prototype=new) for new, old in enumerate(keep)
    )
    return replace(record, pushed=pushed)
