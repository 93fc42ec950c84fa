"""Maps of a page: mask vectors or reduced saliency maps as a byte a cell, and their energy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped, UInt8

from mdm_jax import masks
from mdm_jax.metrics import energy_pointing

# Cells; larger saliency maps are reduced to at most so many a side.
SIDE = 64


def quantize(maps: Float[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "n bytes"]:
    """Each map as its lowest and highest value (float32) and a byte a cell between them.

    Both are NaN for a map that is not finite."""
    maps = maps.astype(np.float32)
    low, high = maps.min(axis=(1, 2)), maps.max(axis=(1, 2))
    there = np.isfinite(low) & np.isfinite(high)
    low, high = np.where(there, low, np.nan), np.where(there, high, np.nan)
    # a flat map has no reach to divide by
    reach = np.where(there & (high > low), high - low, 1.0)[:, None, None]
    start = np.where(there, low, 0.0)[:, None, None]
    cells = np.where(there[:, None, None], (maps - start) / reach, 0.0)
    ends = np.ascontiguousarray(np.stack([low, high], axis=1).astype("<f4"))
    bytes_ = np.round(cells * 255).astype(np.uint8).reshape(len(maps), -1)
    return np.concatenate([ends.view(np.uint8), bytes_], axis=1)


def reduce_maps(maps: Float[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n _h _w"]:
    """Maps averaged down to at most SIDE cells a side."""
    height, width = reduced_size((maps.shape[1], maps.shape[2]))
    maps = np.ascontiguousarray(maps, np.float32)
    if (height, width) == maps.shape[1:]:
        return maps
    return (
        masks.area_average_matrix(maps.shape[1], height)
        @ maps
        @ masks.area_average_matrix(maps.shape[2], width).T
    )


def reduced_size(shape: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a reduced map: its sides divided by a whole number."""
    # one whole number for both sides keeps cells square
    by = -(-max(shape) // SIDE)
    return max(1, shape[0] // by), max(1, shape[1] // by)


def stack_masks(
    vectors: Sequence[Float[np.ndarray, "n _h _w"]],
    shape: tuple[int, int],
    weights: Sequence[float] | None,
) -> Float32[np.ndarray, "n h w"]:
    """The stacked masks of many mask vectors, as `masks.render` and `masks.stack` make one."""
    shares = np.ones(len(vectors)) if weights is None else np.asarray(weights, np.float64)
    # float32 as in `masks.stack`, so that the page agrees with the run
    total = np.zeros((len(vectors[0]), *shape), np.float32)
    for vector, share in zip(vectors, shares / shares.sum()):
        rows, columns = (
            masks.bilinear_matrix(vector.shape[1], shape[0]),
            masks.bilinear_matrix(vector.shape[2], shape[1]),
        )
        total += np.float32(share) * (rows @ vector.astype(np.float32) @ columns.T)
    return total


def energies(
    maps: Float[np.ndarray, "n h w"],
    objects: Bool[np.ndarray, "n h w"],
    room: int,
    *,
    stretch: bool,
) -> Float32[np.ndarray, " n"]:
    """`energy_pointing` of each map, `room` at a time; `stretch` brings maps to [0, 1]."""
    found = []
    for start in range(0, len(maps), room):
        part = np.arange(start, min(start + room, len(maps)))
        # filled up with the same again: one shape, so that one program does
        rows = np.resize(part, room)
        measured = _energies(maps[rows].astype(np.float32), objects[rows], stretch)
        found.append(np.asarray(measured)[: len(part)])
    return np.concatenate(found)


@partial(jax.jit, static_argnums=2)
def _energies(maps: Any, objects: Any, stretch: bool) -> Any:
    saliency = jax.vmap(masks.normalize)(maps) if stretch else maps
    return jax.vmap(energy_pointing)(saliency, objects)


def read_rows(
    array: Any, rows: Shaped[np.ndarray, " n"], shape: tuple[int, ...]
) -> Float32[np.ndarray, "n h w"]:
    """Rows of a stored array, NaN where a row is -1."""
    found = np.full((len(rows), *shape), np.nan, np.float32)
    there = np.flatnonzero(rows >= 0)
    if len(there):
        found[there] = np.asarray(array[rows[there]], np.float32)
    return found
