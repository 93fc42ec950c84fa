"""Mask vectors: their sizes, start and parametrization; rendering, stacking and normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, Num

from mdm_jax.errors import InputError, unknown
from mdm_jax.types import Scalar

Size = tuple[int, int]
Vectors = tuple[Float[Array, "_h _w"], ...]

# The matrices are tiny, and products in TF32 or bfloat16 would blur exact masks.
HIGHEST = jax.lax.Precision.HIGHEST


# Pixels of the short side, below which the default sizes are those of small images.
SMALL_IMAGE = 112
DEFAULT_CELLS_SMALL = (8, 16, 32)

# Line up with the 16-pixel patches of a 224-pixel image.
DEFAULT_CELLS = (7, 14, 28, 56)


def resolve_sizes(
    sizes: int | Sequence[int | Size] | None, image_shape: Size
) -> tuple[Size, ...]:
    """Sizes as (height, width) pairs: an integer is a square, None the default of the image's size.

    By default coarse masks find the object, and fine ones its strokes, without which a map's peak
    falls beside them. The longer side of a non-square image gets cells in proportion. Raises
    InputError outside 1 .. image size.
    """
    height, width = image_shape
    if sizes is None:
        short = min(height, width)
        defaults = DEFAULT_CELLS_SMALL if short < SMALL_IMAGE else DEFAULT_CELLS
        cells = [min(c, short) for c in defaults]
        return tuple((round(c * height / short), round(c * width / short)) for c in cells)
    sizes = (sizes,) if isinstance(sizes, int) else sizes
    pairs = tuple((s, s) if isinstance(s, int) else (int(s[0]), int(s[1])) for s in sizes)
    if not pairs:
        raise InputError(
            "sizes is empty: give at least one mask size, for example (7, 14, 28)"
        )
    for h, w in pairs:
        if not (1 <= h <= height and 1 <= w <= width):
            raise InputError(
                f"mask size {h}x{w} does not fit: give 1 up to the image's {height}x{width}"
            )
    return pairs


class Parametrization(NamedTuple):
    """How free parameters become mask values in [0, 1]."""

    decode: Callable[[Float[Array, "_h _w"]], Float[Array, "_h _w"]]
    """mask vector of parameters"""
    encode: Callable[[Float[Array, "_h _w"]], Float[Array, "_h _w"]]
    """parameters of a mask vector, the inverse"""
    project: Callable[[Any], Any]
    """parameters after an update, back in the feasible set"""


# A sigmoid cannot start at exactly 0 or 1; values are moved this far inside, where the gradient
# still flows.
SIGMOID_MARGIN = 0.02

PARAMETRIZATIONS = {
    "sigmoid": Parametrization(
        decode=jax.nn.sigmoid,
        encode=lambda v: jax.scipy.special.logit(
            jnp.clip(v, SIGMOID_MARGIN, 1 - SIGMOID_MARGIN)
        ),
        project=lambda parameters: parameters,
    ),
    "box": Parametrization(
        decode=lambda parameters: parameters,
        encode=lambda v: jnp.clip(v, 0.0, 1.0),
        project=lambda parameters: jax.tree.map(
            optax.projections.projection_hypercube, parameters
        ),
    ),
}


def project_to_area(parameters: Any, budget: Scalar, name: str, weights: Any = None) -> Any:
    """Parameters P - s, by the least s >= 0 that keeps the mean mask value within `budget`.

    One s for all, found by bisection, so the order of mask values stays. The mean is over all
    sizes, weighted as they are stacked.
    """
    decode, project = PARAMETRIZATIONS[name].decode, PARAMETRIZATIONS[name].project

    def shift_by(shift: Array) -> Any:
        return project(jax.tree.map(lambda leaf: leaf - shift, parameters))

    def mean_area(parameters: Any) -> Array:
        means = jnp.stack([decode(leaf).mean() for leaf in jax.tree.leaves(parameters)])
        if weights is None:
            return means.mean()
        return jnp.average(means, weights=jnp.asarray(weights, means.dtype))

    def bisect(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        area = mean_area(shift_by(middle))
        return jnp.where(area > budget, middle, low), jnp.where(area > budget, high, middle)

    area = mean_area(parameters)
    greatest = jnp.max(jnp.stack([leaf.max() for leaf in jax.tree.leaves(parameters)]))
    largest_shift = greatest + DEPTH_OF_ZERO[name]
    _, shift = jax.lax.fori_loop(0, BISECTION_STEPS, bisect, (jnp.zeros(()), largest_shift))
    return jax.tree.map(
        lambda leaf, shifted: jnp.where(area > budget, shifted, leaf),
        parameters,
        shift_by(shift),
    )


# Parameters this far below zero are a mask of zeros.
DEPTH_OF_ZERO = {"sigmoid": 16.0, "box": 0.0}

# Of a range of some tens: finer than float32 resolves a mask value.
BISECTION_STEPS = 24


def parametrization(name: str) -> Parametrization:
    """The parametrization of that name. Raises InputError for another."""
    if name not in PARAMETRIZATIONS:
        raise unknown("parametrization", name, PARAMETRIZATIONS)
    return PARAMETRIZATIONS[name]


# Names of a start; a baseline's name is resolved before, see `mdm.warm_start`.
STARTS = ("ones", "half", "random")


def start(
    kind: str | Num[Any, "..."] | float, sizes: Sequence[Size], *, key: Key[Array, ""]
) -> Vectors:
    """First mask vectors: one of `STARTS`, a number everywhere, or a map [h, w] to begin from.

    "ones" keeps everything, "random" is uniform in [0, 1]. A map (say, of Grad-CAM) is averaged
    down to every size. Raises InputError for another name.
    """
    if isinstance(kind, str):
        if kind == "random":
            keys = jax.random.split(key, len(sizes))
            return tuple(jax.random.uniform(k, size) for k, size in zip(keys, sizes))
        values = {"ones": 1.0, "half": 0.5}
        if kind not in values:
            raise unknown("start", kind, STARTS)
        return tuple(jnp.full(size, values[kind]) for size in sizes)
    kind = jnp.asarray(kind, jnp.float32)
    if kind.ndim == 0:
        return tuple(jnp.broadcast_to(kind, size) for size in sizes)
    height, width = kind.shape
    vectors = []
    for cells_down, cells_across in sizes:
        rows = area_average_matrix(height, cells_down)
        columns = area_average_matrix(width, cells_across)
        averaged = jnp.matmul(rows, kind, precision=HIGHEST)
        vectors.append(jnp.matmul(averaged, columns.T, precision=HIGHEST))
    return tuple(vectors)


def render(vector: Float[Array, "_h _w"], shape: Size) -> Float[Array, "H W"]:
    """Bilinear upsampling of a mask vector as two small matrix products.

    M = R_H V R_W^T, half-pixel centers, edges held (torch's `align_corners=False`). Rows of R sum
    to one, so values stay within those of V, and the gradient is the exact transpose."""
    rows, columns = (bilinear_matrix(n, m) for n, m in zip(vector.shape, shape))
    return jnp.matmul(
        jnp.matmul(rows, vector, precision=HIGHEST), columns.T, precision=HIGHEST
    )


@cache
def bilinear_matrix(cells: int, pixels: int) -> Float[np.ndarray, "pixels cells"]:
    """Bilinear interpolation from cells to pixels, along one axis.

    `jax.image.resize` computes the same to one rounding (a test compares them). It is not used,
    because that rounding changes masks: in a ReLU network it can grow from step to step.
    """
    centers = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    distance = np.abs(centers[:, None] - np.arange(cells)[None, :])
    return np.maximum(0.0, 1.0 - distance).astype(np.float32)


def area_average_matrix(pixels: int, cells: int) -> Float[np.ndarray, "cells pixels"]:
    """Averages pixels over each cell, by the part of the pixel that the cell covers."""
    edges = np.linspace(0.0, pixels, cells + 1)
    left = np.arange(pixels)
    covered = np.minimum(edges[1:, None], left + 1) - np.maximum(edges[:-1, None], left)
    return (np.maximum(covered, 0.0) * cells / pixels).astype(np.float32)


def stack(masks: Float[Array, "k h w"], weights: Any = None) -> Float[Array, "h w"]:
    """Weighted mean of rendered masks, sum_k w_k M_k / sum_k w_k; equal weights by default."""
    if weights is None:
        return masks.mean(axis=0)
    weights = jnp.asarray(weights, masks.dtype)
    return jnp.tensordot(weights / weights.sum(), masks, axes=1, precision=HIGHEST)


def resolve_weights(weights: Any, sizes: Sequence[Sequence[int]]) -> Any:
    """Stacking weights of masks of these sizes: those given, or (h w)^(p / 2) from one number p.

    That is the cells a side to the power of p: 0 weighs all alike, with 1 twice the cells a side
    count twice. None stays None, equal weights.
    """
    if weights is None or isinstance(weights, tuple | list) or np.ndim(weights) > 0:
        return weights
    cells = np.asarray([height * width for height, width in sizes], np.float32)
    return jnp.asarray(cells) ** (jnp.asarray(weights, jnp.float32) / 2)


def normalize(mask: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Stretch a map to [0, 1].

    A constant map, which prefers no pixel, becomes all zeros, and one with a NaN all NaN.
    """
    low, high = mask.min(), mask.max()
    constant = high - low <= 1e-6 * jnp.maximum(jnp.abs(high), jnp.abs(low))
    stretched = jnp.where(
        constant, 0.0, (mask - low) / jnp.where(constant, 1.0, high - low)
    )
    # asked for itself, because XLA's min and max on CPU may pass over a NaN
    return jnp.where(jnp.isnan(mask).any(), jnp.nan, stretched)
