"""Curves of a prototype's node when only a region stays, or is removed, at given areas.

    kept(a)    = g(R_a * x + (1 - R_a) * b)      removed(a) = g((1 - R_a) * x + R_a * b)

R_a: the fraction a of the pixels that the map ranks highest (`boxes.ranks`), b: a fill, g:
similarity or distance. One set of masked images gives both nodes at all areas, and all maps use the
same compiled program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from mdm_jax import fills as fills_
from mdm_jax.errors import InputError
from mdm_jax.execution.chunked import map_over
from mdm_jax.execution.keys import as_key, id_numbers
from mdm_jax.execution.micro_batches import run_in_micro_batches
from mdm_jax.execution.network import as_network, join, split
from mdm_jax.images import check_batch
from mdm_jax.metrics.perturbed import chunk_for
from mdm_jax.problem import activation
from mdm_jax.prototypes.boxes import pixel_count, ranks
from mdm_jax.prototypes.search import PairOptions
from mdm_jax.types import AnyArray, Predict

# Fractions of the image at which regions are compared.
AREAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

# Further fractions that are kept, so that the least area is found to within a fourth of itself
# between 3 % and 50 %.
FINER_AREAS = (
    0.005,
    0.015,
    0.03,
    0.04,
    0.06,
    0.08,
    0.12,
    0.15,
    0.25,
    0.3,
    0.4,
    0.6,
    0.7,
    0.8,
    0.9,
)

# All fractions that are kept: 0 is the fill alone and 1 the clean image.
RUNGS = (0.0, *sorted({*AREAS, *FINER_AREAS}), 1.0)

# What stands where pixels are gone: names of `mdm_jax.fills.FILLS`.
FILLS = ("gray", "blur")
NODES = ("similarity", "distance")


class Response(NamedTuple):
    """The node in both its units; the axes run over masked images."""

    similarity: Float[AnyArray, "..."]
    distance: Float[AnyArray, "..."]


class Curves(NamedTuple):
    """One map's curves for a pair; every field gains a leading axis for many."""

    kept: Response
    """[fills, rungs]: only the fraction `RUNGS[r]` stays"""
    removed: Response
    """[fills, areas]: the fraction `AREAS[a]` is removed"""


def curves(
    predict: Predict,
    image: Float[AnyArray, "h w c"],
    saliency: Float[AnyArray, "h w"],
    prototype: Any,
    *,
    key: Key[Array, ""],
    fills: Sequence[Any] = FILLS,
    chunk: int | None = None,
) -> Curves:
    """The curves of one map of one image in [0, 1]; a map with a NaN gives NaN.

    f (r + a) forward evaluations for f fills, `chunk` at a time. Fills are drawn from `key`.
    """
    image, saliency = jnp.asarray(image), jnp.asarray(saliency)
    place = ranks(saliency)
    backgrounds = jnp.stack(
        [
            fills_.resolve(fill)(image, key=jax.random.fold_in(key, i))
            for i, fill in enumerate(fills)
        ]
    )
    # rungs (kept) come first, then areas (removed): one loop over both
    shares = np.asarray([*RUNGS, *AREAS], np.float32)
    size = (image.shape[0], image.shape[1])
    counts = jnp.stack([pixel_count(share, size) for share in shares])
    keeps_region = jnp.arange(len(shares)) < len(RUNGS)

    def respond(which: tuple[Array, Array]) -> Response:
        fill, rung = which
        visible = (place < counts[rung]) == keeps_region[rung]
        outputs = predict(jnp.where(visible[..., None], image, backgrounds[fill])[None])
        # a node sees one image, without the batch axis
        outputs = jax.tree.map(lambda leaf: leaf[0], outputs)
        return Response(
            *(activation(node, outputs, jnp.asarray(prototype)) for node in NODES)
        )

    which = (
        jnp.repeat(jnp.arange(len(fills)), len(shares)),
        jnp.tile(jnp.arange(len(shares)), len(fills)),
    )
    found = map_over(respond, which, chunk_for(image.shape, chunk))
    # ranks of a map with NaN would look like any other
    sound = jnp.isfinite(saliency).all()
    grid = (len(fills), len(shares))
    found = jax.tree.map(lambda leaf: jnp.where(sound, leaf, jnp.nan).reshape(grid), found)
    kept = jax.tree.map(lambda leaf: leaf[:, : len(RUNGS)], found)
    removed = jax.tree.map(lambda leaf: leaf[:, len(RUNGS) :], found)
    return Curves(kept, removed)


def curves_of(
    classifier: Any,
    images: Any,
    saliency: Any,
    prototypes: Any,
    *,
    fills: Sequence[str] = FILLS,
    on_progress: Callable[[int], None] | None = None,
    **options: Unpack[PairOptions],
) -> Curves:
    """`curves` of many pairs, as NumPy arrays with a leading axis n.

    Images [n, h, w, c], maps [n, h, w], prototypes [n]; options: key, ids and micro_batch as in
    `mdm_jax.explain`. Nothing is compiled anew for the maps of another method. Raises InputError
    for maps of another shape."""
    images, saliency = check_batch(images), np.asarray(saliency, np.float32)
    n = len(images)
    if saliency.shape != images.shape[:3]:
        raise InputError(
            f"maps have shape {saliency.shape} for images {images.shape}: give one map [h, w] for"
            " each image"
        )
    ids = options.get("ids")
    # an id seeds the fills of its pair, whatever else is in the batch
    numbers = id_numbers(range(n) if ids is None else ids)
    key = as_key(options.get("key", 0))
    arrays, rest = split(as_network(classifier, images.shape[1:])[0])
    program = partial(_curves_chunk, arrays, rest, tuple(fills), key)
    prototypes = np.broadcast_to(np.asarray(prototypes, np.int32), (n,))
    # one pair at a time fills a CPU; a GPU takes a few
    at_once = options.get("micro_batch") or (1 if jax.default_backend() == "cpu" else 4)
    report = on_progress or (lambda done: None)
    together = (images, saliency, prototypes, numbers)
    return run_in_micro_batches(program, together, at_once, report)


@partial(jax.jit, static_argnums=(1, 2))
def _curves_chunk(
    arrays: list[Any],
    rest: Any,
    fills: tuple[str, ...],
    key: Any,
    images: Array,
    maps: Array,
    prototypes: Array,
    ids: Array,
) -> Curves:
    network = join(arrays, rest)

    def one(image: Array, map_: Array, prototype: Array, number: Array) -> Curves:
        return curves(
            network,
            image,
            map_,
            prototype,
            key=jax.random.fold_in(key, number),
            fills=fills,
        )

    return jax.vmap(one)(images, maps, prototypes, ids)


def area_under(values: Float[AnyArray, "*n areas"], start: Any) -> Float[np.ndarray, "*n"]:
    """Mean height of a curve over the areas from 0 to 50 %, by trapezoids.

    The curve is `start` at 0, then `values` at `AREAS`."""
    values = np.asarray(values, np.float64)
    start = np.broadcast_to(np.asarray(start, np.float64), values.shape[:-1])[..., None]
    heights = np.concatenate([start, values], axis=-1)
    widths = np.diff(np.asarray([0.0, *AREAS]))
    trapezoids = (heights[..., 1:] + heights[..., :-1]) / 2 * widths
    return np.asarray(trapezoids.sum(axis=-1) / AREAS[-1])


def at_areas(kept: Float[AnyArray, "*n rungs"]) -> Float[np.ndarray, "*n areas"]:
    """The values at `AREAS` among those at `RUNGS`."""
    return np.asarray(kept)[..., [RUNGS.index(area) for area in AREAS]]


def least_area(holds: Any) -> Float[np.ndarray, "*n"]:
    """The smallest area of `RUNGS` for which a condition holds [..., rungs].

    0 where it holds for the fill alone, NaN where it never does. A node need not grow with the
    area: the first rung counts, whatever happens above it."""
    holds = np.asarray(holds, bool)
    first = np.asarray(RUNGS)[holds.argmax(axis=-1)]
    return np.where(holds.any(axis=-1), first, np.nan)


def keeps_node(kept: Response, share: float = 0.9) -> dict[str, Any]:
    """Whether a fraction `share` of the node is kept, by node, [..., rungs].

    Similarity: g(kept) >= share * g(x). Distance: it has gone at most 1 - share of the way from the
    clean image's to the fill's, d(kept) <= d(x) + (1 - share) * max(d(b) - d(x), 0). Near a
    distance of 0 the log similarity changes by much where the distance hardly moves (from 9.21 to
    6.81 for 0.001), so that the two can differ widely."""
    similarity = np.asarray(kept.similarity, np.float64)
    distance = np.asarray(kept.distance, np.float64)
    clean, fill = distance[..., -1:], distance[..., :1]
    # float32 networks give the clean image a little less in another batch
    rounding = 1e-6 * np.abs(similarity[..., -1:])
    return {
        "similarity": similarity >= share * similarity[..., -1:] - rounding,
        "distance": distance <= clean + (1 - share) * np.maximum(fill - clean, 0.0) + 1e-6,
    }
