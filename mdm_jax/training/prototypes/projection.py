"""The nearest images of every prototype, and the push: each prototype becomes the nearest patch.

For prototype p_j and the features z of an image (the patches of a ProtoPNet, the one pooled feature
f_j of an XProtoNet)

    d_j(image) = min over z of |z - p_j|^2  or  1 - cosine(f_j, p_j)
    p_j <- the z of the image with the smallest d_j

among the images of the prototype's own class. Source: ProtoPNet's push.py; of equals the first
image and position is taken."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int

from mdm_jax.data.loader import LoaderConfig, eval_batches
from mdm_jax.data.source import Source, read_image
from mdm_jax.errors import InputError
from mdm_jax.training.prototypes.ownership import own_prototypes
from mdm_jax.training.prototypes.record import PushedPrototype

# A feature that is shorter has no direction, and nothing is pushed onto it.
SHORTEST = 1e-6


class Nearest(NamedTuple):
    """The k nearest images of each of m prototypes, nearest first."""

    items: Int[np.ndarray, "m k"]
    """indices in the source; -1 where there are fewer than k images"""
    distances: Float32[np.ndarray, "m k"]
    """squared L2, or 1 - cosine; infinite where there is no image"""
    positions: Int[np.ndarray, "m k 2"]
    """(row, column) in the grid of features; -1 for pooled features, which have none"""
    own: Bool[np.ndarray, "m k"]
    """whether the image is of the prototype's class"""
    labels: Int[np.ndarray, "m k"]
    """class of the image; of an image of several classes the prototype's where it has that, else
    the first; -1 for none"""
    features: Float32[np.ndarray, "m k d"]
    """the patch or pooled feature itself"""
    skipped: tuple[str, ...]
    """a sentence for each image that could not be read"""


class _Best(NamedTuple):
    """What is known after some batches, on the device."""

    items: Int[Array, "m k"]
    distances: Float[Array, "m k"]
    places: Int[Array, "m k"]
    """index in the flattened grid"""
    own: Bool[Array, "m k"]
    labels: Int[Array, "m k"]
    features: Float[Array, "m k d"]


def find_nearest(
    classifier: Any,
    source: Source,
    *,
    k: int = 1,
    own_class: bool = True,
    limit: int | None = None,
    batch: int = 64,
    workers: int = 0,
    on_batch: Callable[[int, int], object] | None = None,
) -> Nearest:
    """The k nearest images in a source of each prototype of a classifier.

    With `own_class` only images of the prototype's class count. The classifier is a ready prototype
    network (see `load_model`). `limit` uses so many items, spread evenly, and `workers` processes
    read them (0: threads). `on_batch(items done, all items)` is called after each batch and may
    raise to end the search. Raises InputError for a network without prototypes and for a source
    without an image that can be read."""
    classes = prototype_classes(classifier)
    if k < 1:
        raise InputError(f"k is {k}: give the number of nearest images, from 1")
    loading = LoaderConfig(batch=batch, workers=workers, limit=limit)
    count = len(source) if limit is None else min(limit, len(source))
    best: _Best | None = None
    grid, done, skipped = (1, 1), 0, []
    for part in eval_batches(source, loading, classifier.preprocessing.fit):
        skipped += list(part.skipped)
        here = min(batch, count - done)
        items = np.full(batch, -1, np.int32)
        # evenly spaced items, as the loader takes them; an incomplete batch ends in -1
        items[:here] = (np.arange(done, done + here) * len(source)) // count
        if best is None:
            best, grid = _no_images_yet(classifier, part.images, len(classes), k)
        best = _merge_batch(
            classifier,
            best,
            part.images,
            part.labels,
            part.valid,
            items,
            classes,
            own_class,
        )
        done += here
        if on_batch is not None:
            on_batch(done, count)
    if best is None or len(skipped) == count:
        raise InputError(
            f"no image of {source.name} could be read: mend or replace them"
            f" ({skipped[0] if skipped else 'none'})"
        )
    # one transfer at the end; until then everything stays on the device
    found = jax.device_get(best)
    rows, columns = np.divmod(found.places, grid[1])
    placed = np.where(
        (found.places >= 0)[..., None], np.stack([rows, columns], axis=-1), -1
    )
    return Nearest(
        found.items,
        found.distances,
        placed,
        found.own,
        found.labels,
        found.features,
        tuple(skipped),
    )


def push_records(
    found: Nearest,
    source: Source,
    classes: tuple[int, ...],
    class_names: tuple[str, ...],
) -> tuple[PushedPrototype, ...]:
    """What each prototype becomes: the first of its nearest images, or nothing, and why."""
    ids: dict[int, str] = {}
    records = []
    for j, class_index in enumerate(classes):
        item, position = int(found.items[j, 0]), found.positions[j, 0]
        reason = ""
        if item < 0:
            reason = f"no image of the class {class_names[class_index]!r} could be read"
        # written so that NaN counts as too short
        elif position[0] < 0 and not np.linalg.norm(found.features[j, 0]) > SHORTEST:
            reason = f"it occurs in no image of the class {class_names[class_index]!r}"
        if reason:
            records.append(
                PushedPrototype(j, class_index, None, "", -1, None, None, reason)
            )
            continue
        if item not in ids:
            ids[item] = str(read_image(source, item).id)
        place = (int(position[0]), int(position[1])) if position[0] >= 0 else None
        label, distance = int(found.labels[j, 0]), float(found.distances[j, 0])
        records.append(
            PushedPrototype(j, class_index, item, ids[item], label, place, distance)
        )
    return tuple(records)


def project(
    prototypes: Float[Array, "m d"],
    found: Nearest,
    records: tuple[PushedPrototype, ...],
) -> Float[np.ndarray, "m d"]:
    """The prototypes after the push that `records` tells; those not pushed stay as they are."""
    moves = np.asarray([each.item is not None for each in records])
    return np.where(moves[:, None], found.features[:, 0], np.asarray(prototypes)).astype(
        np.float32
    )


def prototype_classes(classifier: Any) -> tuple[int, ...]:
    """The class of each prototype. Raises InputError for a network without prototypes."""
    classes = getattr(getattr(classifier, "network", None), "prototype_classes", None)
    if classes is None:
        raise InputError("this network has no prototypes: give a protopnet or an xprotonet")
    return tuple(classes)


def _no_images_yet(
    classifier: Any, images: np.ndarray, m: int, k: int
) -> tuple[_Best, tuple[int, int]]:
    """What is known before the first batch, and the (height, width) of the grid of features."""
    shapes = jax.eval_shape(lambda network, images: network(images)[1], classifier, images)
    _, height, width, d = shapes["patches"].shape
    minus = jnp.full((m, k), -1, jnp.int32)
    nowhere = jnp.full((m, k), jnp.inf, jnp.float32)
    own, features = jnp.zeros((m, k), bool), jnp.zeros((m, k, d), jnp.float32)
    return _Best(minus, nowhere, minus, own, minus, features), (height, width)


@partial(jax.jit, static_argnames=("classes", "own_class"))
def _merge_batch(
    classifier: Any,
    best: _Best,
    images: Float[Array, "b h w c"],
    labels: Array,
    valid: Bool[Array, " b"],
    items: Int[Array, " b"],
    classes: tuple[int, ...],
    own_class: bool,
) -> _Best:
    """The best of what was known and of a batch; of equals what was known, then the first."""
    _, out = classifier(images)
    own = own_prototypes(labels, classes).T
    allowed = valid & own if own_class else jnp.broadcast_to(valid, own.shape)
    distances = jnp.where(allowed, out["distances"].astype(jnp.float32).T, jnp.inf)
    k = best.distances.shape[1]
    # stable, so that of equals what was known comes first
    both = jnp.concatenate([best.distances, distances], axis=1)
    order = jnp.argsort(both, axis=1, stable=True)[:, :k]
    new, i = order >= k, jnp.maximum(order - k, 0)
    j = jnp.arange(len(classes))[:, None]
    places, features = _winning_features(out, i, j)
    if labels.ndim == 1:
        classes_of_images = labels[i]
    else:
        own_classes = jnp.asarray(classes)[:, None]
        classes_of_images = _one_label(labels[i], own[j, i], own_classes)

    def either(fresh: Array, known: Array) -> Array:
        extra = (1,) * (known.ndim - 2)
        kept = jnp.minimum(order, k - 1).reshape(order.shape + extra)
        chosen = jnp.take_along_axis(known, kept, axis=1)
        return jnp.where(new.reshape(new.shape + extra), fresh, chosen)

    merged = _Best(
        either(items[i], best.items),
        either(jnp.take_along_axis(distances, i, axis=1), best.distances),
        either(places, best.places),
        either(own[j, i], best.own),
        either(classes_of_images.astype(jnp.int32), best.labels),
        either(features.astype(jnp.float32), best.features),
    )
    exists = jnp.isfinite(merged.distances)
    return merged._replace(
        items=jnp.where(exists, merged.items, -1),
        places=jnp.where(exists, merged.places, -1),
        own=merged.own & exists,
        labels=jnp.where(exists, merged.labels, -1),
    )


def _winning_features(out: Any, i: Array, j: Array) -> tuple[Array, Array]:
    """Place and feature of image i that is nearest to prototype j; -1 for pooled features."""
    if "distance_maps" not in out:
        return jnp.full(i.shape, -1, jnp.int32), out["pooled"][i, j]
    maps = out["distance_maps"]
    flat = maps.reshape(len(maps), -1, maps.shape[-1])
    places = jnp.argmin(flat, axis=1).T.astype(jnp.int32)[j, i]
    patches = out["patches"].reshape(len(maps), -1, out["patches"].shape[-1])
    return places, patches[i, places]


def _one_label(labels: Array, own: Array, classes: Array) -> Array:
    """One class of images with any number: the prototype's, else their first, else -1."""
    first = jnp.where(jnp.any(labels > 0, axis=-1), jnp.argmax(labels, axis=-1), -1)
    return jnp.where(own, classes, first)
