"""What is left of a prototype's node when only a region stays, or goes: every region at the same
areas.

    kept(a)    = g(R_a * x + (1 - R_a) * b)      removed(a) = g((1 - R_a) * x + R_a * b)

R_a: the share a of the pixels that the map ranks highest (`boxes.ranks`), b: a fill, g: similarity
  or distance. One set of copies of the image gives both nodes at all areas, for every map in the
  same compiled program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

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
from mdm_jax.prototypes.boxes import pixels, ranks
from mdm_jax.types import AnyArray, Predict

AREAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""shares of the image at which regions are compared"""
LADDER = (0.005, 0.015, 0.03, 0.04, 0.06, 0.08, 0.12, 0.15, 0.25, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
"""further shares that are kept, so that the least area is found to within a fourth of itself
between 3 % and 50 %"""
RUNGS = (0.0, *sorted({*AREAS, *LADDER}), 1.0)
"""all shares that are kept: 0 is the fill alone and 1 the clean image"""
FILLS = ("gray", "blur")
"""what stands where pixels are gone: names of `mdm_jax.fills.FILLS`"""
NODES = ("similarity", "distance")


class Response(NamedTuple):
    """The node in both its units, of as many copies as the axes say."""

    similarity: Float[AnyArray, "..."]
    distance: Float[AnyArray, "..."]


class Curves(NamedTuple):
    """One map's curves for a pair; every field gains a leading axis for many."""

    kept: Response
    """[fills, rungs]: only the share `RUNGS[r]` stays"""
    removed: Response
    """[fills, areas]: the share `AREAS[a]` is gone"""


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
    """The curves of one map of one image in [0, 1] at the node of a prototype; a map with a NaN
    gives NaN.

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
    shares = np.asarray([*RUNGS, *AREAS], np.float32)
    counts = jnp.stack([pixels(share, (image.shape[0], image.shape[1])) for share in shares])
    stays = jnp.arange(len(shares)) < len(RUNGS)

    def of_one(which: tuple[Array, Array]) -> Response:
        fill, rung = which
        seen = (place < counts[rung]) == stays[rung]
        outputs = predict(jnp.where(seen[..., None], image, backgrounds[fill])[None])
        outputs = jax.tree.map(lambda leaf: leaf[0], outputs)
        return Response(*(activation(node, outputs, jnp.asarray(prototype)) for node in NODES))

    which = (
        jnp.repeat(jnp.arange(len(fills)), len(shares)),
        jnp.tile(jnp.arange(len(shares)), len(fills)),
    )
    found = map_over(of_one, which, chunk_for(image.shape, chunk))
    sound = jnp.isfinite(saliency).all()
    found = jax.tree.map(
        lambda leaf: jnp.where(sound, leaf, jnp.nan).reshape(len(fills), len(shares)), found
    )
    kept, removed = (
        jax.tree.map(lambda leaf: leaf[:, : len(RUNGS)], found),
        jax.tree.map(lambda leaf: leaf[:, len(RUNGS) :], found),
    )
    return Curves(kept, removed)


def curves_of(
    classifier: Any,
    images: Any,
    saliency: Any,
    prototypes: Any,
    *,
    fills: Sequence[str] = FILLS,
    key: Any = 0,
    ids: Sequence[Any] | None = None,
    micro_batch: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Curves:
    """`curves` of many pairs: images [n, h, w, c], maps [n, h, w], prototypes [n]; NumPy arrays
    that lead with n.

    Nothing is compiled anew for another method's maps. Raises InputError for maps of another shape.
    """
    images, saliency = check_batch(images), np.asarray(saliency, np.float32)
    if saliency.shape != images.shape[:3]:
        raise InputError(
            f"maps have shape {saliency.shape} for images {images.shape}: give one map [h, w] for"
            " each image"
        )
    numbers = id_numbers(range(len(images)) if ids is None else ids)
    arrays, rest = split(as_network(classifier, images.shape[1:])[0])
    program = partial(_curves_chunk, arrays, rest, tuple(fills), as_key(key))
    together = (
        images,
        saliency,
        np.broadcast_to(np.asarray(prototypes, np.int32), (len(images),)),
        numbers,
    )
    return run_in_micro_batches(
        program,
        together,
        micro_batch or (1 if jax.default_backend() == "cpu" else 4),
        on_progress or (lambda done: None),
    )


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
            network, image, map_, prototype, key=jax.random.fold_in(key, number), fills=fills
        )

    return jax.vmap(one)(images, maps, prototypes, ids)


def area_under(values: Float[AnyArray, "*n areas"], start: Any) -> Float[np.ndarray, "*n"]:
    """Mean height of a curve over the shares from 0 to 50 %, by trapezoids: `start` at 0, then
    `values` at `AREAS`."""
    values = np.asarray(values, np.float64)
    start = np.broadcast_to(np.asarray(start, np.float64), values.shape[:-1])[..., None]
    heights, at = np.concatenate([start, values], axis=-1), np.asarray([0.0, *AREAS])
    return np.asarray(
        ((heights[..., 1:] + heights[..., :-1]) / 2 * np.diff(at)).sum(axis=-1) / AREAS[-1]
    )


def at_areas(kept: Float[AnyArray, "*n rungs"]) -> Float[np.ndarray, "*n areas"]:
    """The values at `AREAS` among those at `RUNGS`."""
    return np.asarray(kept)[..., [RUNGS.index(area) for area in AREAS]]


def least_area(holds: Any) -> Float[np.ndarray, "*n"]:
    """The smallest share of `RUNGS` for which something holds [..., rungs]; 0 where it does for the
    fill alone, NaN for none.

    A node need not grow with the area: the first rung counts, whatever happens above it.
    """
    holds = np.asarray(holds, bool)
    return np.where(holds.any(axis=-1), np.asarray(RUNGS)[holds.argmax(axis=-1)], np.nan)


def keeps(kept: Response, share: float = 0.9) -> dict[str, Any]:
    """Whether a `share` of the node is kept, by node, [..., rungs].

    Similarity: g(kept) >= share * g(x). Distance: the distance has gone at most 1 - share of the
      way from the clean image's to the fill's, d(kept) <= d(x) + (1 - share) * max(d(b) - d(x), 0).
      Near a distance of 0 the log similarity changes by much where the distance hardly moves (from
      9.21 to 6.81 for 0.001), so that the two can differ widely."""
    similarity, distance = (np.asarray(each, np.float64) for each in kept)
    whole, fill = distance[..., -1:], distance[..., :1]
    rounding = 1e-6 * np.abs(similarity[..., -1:])
    return {
        "similarity": similarity >= share * similarity[..., -1:] - rounding,
        "distance": distance <= whole + (1 - share) * np.maximum(fill - whole, 0.0) + 1e-6,
    }
