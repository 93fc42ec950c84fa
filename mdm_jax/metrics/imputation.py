"""Noisy linear imputation of ROAD (Rong et al., arXiv 2202.00449).

Removed pixels become a weighted mean of their neighbors. Each removed pixel is the mean of its 8
neighbors, of weight 1/6 at an edge and 1/12 at a corner, and those beyond the border count for
nothing; the removed ones among them are unknown themselves. So for all removed pixels i together

    sum_j w_ij (x_i - x_j) = 0,    over the neighbors j inside the image

which is the graph Laplacian of the image's grid with the remaining pixels held: symmetric and
positive definite wherever a hole touches a pixel that remains. The authors' code, and others,
factorize it on the host, image by image. Here conjugate gradients solve many masks at a time,
preconditioned over all scales (Bramble, Pasciak and Xu, 1990): the number of steps hardly grows
with the size of the holes, about 14 at 64x64 and 18 at 224x224. `jax.scipy.sparse.linalg.cg(M=)`
is not used: it does not say whether it converged, so an unsolved system could not be NaN, and one
system a mask by `vmap` took several times as long.

Fields are [h, w, k]: the k systems come last, so that neighbors are whole rows of memory apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.types import AnyArray

Field = Float[Array, "h w k"]

# Of the residual, in the preconditioner's norm and relative to the image's; pixels are then right
# to about 1e-4.
TOLERANCE = 2e-6

# Ten times what was ever needed; a system that is not solved by then gives NaN.
MAX_STEPS = 200

# Masks solved at a time.
ON_CPU = 9

# Rows down, columns right and weight of half of the neighbors; the others are opposite.
NEIGHBORS = ((0, 1, 1 / 6), (1, 0, 1 / 6), (1, 1, 1 / 12), (1, -1, 1 / 12))


def impute(
    image: Float[AnyArray, "h w c"],
    removed: Bool[AnyArray, "masks h w"],
    *,
    tolerance: float = TOLERANCE,
    at_once: int | None = None,
) -> Float[Array, "masks h w c"]:
    """The image with each mask's pixels imputed, without noise, for all masks [masks, h, w].

    `at_once` masks are solved together: by default 9 on CPU, whose caches hold no more, and else
    all. Where nothing remains there is nothing to impute from: all pixels are then 0.
    """
    masks, *shape = removed.shape
    if at_once is None:
        at_once = ON_CPU if jax.default_backend() == "cpu" else masks
    parts = -(-masks // at_once)
    size = -(-masks // parts)
    padded = jnp.concatenate([removed, jnp.zeros((parts * size - masks, *shape), bool)])
    padded = padded.reshape(parts, size, *shape)
    filled = jax.lax.map(lambda part: solve(image, part, tolerance=tolerance)[0], padded)
    return filled.reshape(parts * size, *image.shape)[:masks]


def solve(
    image: Float[AnyArray, "h w c"],
    removed: Bool[AnyArray, "masks h w"],
    *,
    tolerance: float = TOLERANCE,
) -> tuple[Float[Array, "masks h w c"], Int[Array, ""]]:
    """What `impute` returns, all masks at once, and the number of conjugate gradient steps."""
    height, width, channels = image.shape
    masks = len(removed)
    unknown = jnp.repeat(jnp.moveaxis(removed, 0, -1), channels, axis=-1).astype(
        jnp.float32
    )
    known = jnp.tile(image, (1, 1, masks)) * (1 - unknown)
    precondition = multilevel(unknown)

    mean = known.sum((0, 1)) / jnp.maximum((1 - unknown).sum((0, 1)), 1.0)
    x = unknown * mean
    residual = -unknown * laplacian(known + x)
    z = precondition(residual)
    power = _dot(residual, z)
    enough = tolerance**2 * jnp.maximum(_dot(known, known), 1e-12)

    def unsolved(state: Any) -> Array:
        *_, power, step = state
        return (power > enough).any() & (step < MAX_STEPS)

    def improve(state: Any) -> Any:
        x, residual, direction, power, step = state
        product = unknown * laplacian(direction)
        length = _ratio(power, _dot(direction, product))
        x, residual = x + length * direction, residual - length * product
        z = precondition(residual)
        after = _dot(residual, z)
        return x, residual, z + _ratio(after, power) * direction, after, step + 1

    x, _, _, power, steps = jax.lax.while_loop(
        unsolved, improve, (x, residual, z, power, jnp.int32(0))
    )
    filled = jnp.where(power <= enough, known + x, jnp.nan)
    return jnp.moveaxis(filled.reshape(height, width, masks, channels), 2, 0), steps


def laplacian(x: Field) -> Field:
    """sum_j w_ij (x_i - x_j) over the neighbors inside the image.

    By differences, not as s_i x_i - sum_j w_ij x_j: in float32 the rounding of the latter, the same
    all over a smooth hole, would add up to a visible error in its middle.
    """
    height, width = x.shape[:2]
    total = jnp.zeros_like(x)
    for down, right, weight in NEIGHBORS:
        left, over = max(0, -right), max(0, right)
        first, second = (
            x[: height - down, left : width - over],
            x[down:, over : width - left],
        )
        flow = weight * (first - second)
        total += jnp.pad(flow, ((0, down), (left, over), (0, 0))) - jnp.pad(
            flow, ((down, 0), (over, left), (0, 0))
        )
    return total


def multilevel(unknown: Field) -> Callable[[Field], Field]:
    """The preconditioner z = D^-1 r + u sum_l P_l D_l^-1 P_l^T r, for the unknown pixels u.

    Symmetric and positive. P_l interpolates from cells of 2^l pixels. D_l is about the diagonal of
    P_l^T A P_l: a constant of the smooth hat of a cell, plus how strongly the pixels under the hat
    are tied to pixels that remain.
    """
    own = _neighborhood(jnp.ones_like(unknown[..., :1]))
    diagonals = []
    tied = unknown * _neighborhood(1 - unknown)
    while min(tied.shape[:2]) > 2:
        tied = coarser(tied)
        diagonals.append(0.5 + tied)

    def precondition(residual: Field) -> Field:
        scales = [residual]
        for _ in diagonals:
            scales.append(coarser(scales[-1]))
        z = jnp.zeros_like(scales[-1])
        for diagonal, scale, below in zip(diagonals[::-1], scales[:0:-1], scales[-2::-1]):
            z = finer(z + scale / diagonal, below.shape[:2])
        return residual / own + unknown * z

    return precondition


def coarser(x: Field) -> Float[Array, "_h _w k"]:
    """P^T: fields on cells of half the resolution, the transpose of `finer`."""
    return _halve(_halve(x, 0), 1)


def finer(x: Float[Array, "_h _w k"], shape: tuple[int, ...]) -> Field:
    """P: bilinear interpolation to twice the resolution, half-pixel centers, edges held."""
    below = jax.ShapeDtypeStruct((*shape, x.shape[-1]), x.dtype)
    return jax.linear_transpose(coarser, below)(x)[0]


def _halve(x: Field, axis: int) -> Float[Array, "_h _w k"]:
    """c_k = (f_{2k-1} + 3 f_{2k} + 3 f_{2k+1} + f_{2k+2}) / 4 along an axis.

    The pixels at both ends count fully.
    """
    n = x.shape[axis]
    if n % 2:
        x = jnp.pad(x, [(0, 1) if i == axis else (0, 0) for i in range(3)])
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))

    def part(field: Array, start: int, end: int) -> Array:
        return jax.lax.slice_in_dim(field, start, end, axis=axis)

    last = even.shape[axis] - 1
    before = jnp.concatenate([part(even, 0, 1), part(odd, 0, last)], axis)
    after = jnp.concatenate([part(even, 1, last + 1), part(odd, last, last + 1)], axis)
    return 0.75 * (even + odd) + 0.25 * (before + after)


def _neighborhood(x: Field) -> Field:
    """sum_j w_ij x_j over the neighbors in the image: [1 2 1]^T [1 2 1] / 12 without its middle."""
    padded = jnp.pad(x, ((1, 1), (0, 0), (0, 0)))
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    padded = jnp.pad(rows, ((0, 0), (1, 1), (0, 0)))
    return (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 12 - x / 3


def _dot(a: Field, b: Field) -> Float[Array, " k"]:
    return (a * b).sum((0, 1))


def _ratio(a: Float[Array, " k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)
