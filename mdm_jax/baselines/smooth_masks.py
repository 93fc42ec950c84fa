"""Smooth masks (Fong, Patrick, Vedaldi, arXiv 1910.08485, section 3.3): a soft maximum of one
smooth bump per parameter.

    m(u) = smax_i k(|u - u_i| / sigma) p_i,    k(z) = exp(-2 max(0, z - 1/2)^2),    smax_i v_i =
    sum_i v_i softmax(coldness v)_i

over the parameters near u, which lie every few pixels, with a margin of sigma around the image.
Follows TorchRay's `MaskGenerator` with softmax pooling."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdm_jax.errors import InputError
from mdm_jax.masks import HIGHEST


class Smoother(NamedTuple):
    """From parameters [cells] in [0, 1] to a mask with a margin, and from this to the image's."""

    size: tuple[int, int]
    """of the image"""
    cells: tuple[int, int]
    """of the parameters"""
    step: int
    """pixels a cell"""
    margin: int
    """pixels around the image"""
    gathers: tuple[Float[np.ndarray, "_a _b"], Float[np.ndarray, "_c _d"]]
    """matrices that take the parameters in reach of every cell, along rows and along columns; zero
    outside"""
    weights: Float[np.ndarray, "_k _h _l _w"]
    """the kernel from each of k x l parameters in reach to every pixel"""

    def render(
        self, parameters: Float[Array, "_h _w"], coldness: Any
    ) -> Float[Array, "_oh _ow"]:
        """The mask with its margin, within [0, 1]."""
        rows, columns = self.gathers
        near = jnp.matmul(rows, parameters, precision=HIGHEST)
        near = jnp.matmul(near, columns.T, precision=HIGHEST)
        k, height, _, width = self.weights.shape
        near = near.reshape(k, len(rows) // k, k, len(columns) // k)
        near = _repeat(_repeat(near, 1, self.step), 3, self.step)
        values = self.weights * near[:, :height, :, :width]
        soft_maximum = (values * jax.nn.softmax(coldness * values, axis=(0, 2))).sum(
            axis=(0, 2)
        )
        return jnp.clip(soft_maximum, 0.0, 1.0)

    def crop(self, mask: Float[Array, "_oh _ow"]) -> Float[Array, "_h _w"]:
        """The part of a mask that lies on the image."""
        height, width = self.size
        return mask[self.margin : self.margin + height, self.margin : self.margin + width]


def smoother(size: tuple[int, int], *, cell: float | int, sigma: float | int) -> Smoother:
    """The smooth masks of images of `size`, with a parameter every `cell` pixels (rounded).

    Bumps have a radius of `sigma` pixels. Raises InputError where bumps are narrower than the
    parameters lie apart, so that the mask would have holes.
    """
    step = max(1, round(cell))
    sigma = round(float(sigma), 6)  # 21 * 96 / 224 is 9, not a little more
    if sigma < step:
        raise InputError(
            f"a sigma of {sigma:.3g} pixels is less than the {step} pixels of a cell: give a"
            " larger one"
        )
    padding = 1 + math.ceil(2 * sigma / step)
    radius = 1 + math.ceil(sigma / step)
    reach = 2 * radius + 1
    cells = tuple(math.ceil(side / step) for side in size)
    middle = tuple(n + 2 * padding - reach + 1 for n in cells)
    outer = tuple(step * n - step + 1 for n in middle)
    margin = round(sigma)
    if any(margin + side > out for side, out in zip(size, outer)):
        raise InputError(
            f"a sigma of {sigma:.3g} pixels leaves no margin for cells of {step}: give three cells"
            " or more"
        )
    gathers = tuple(_gather(n, m, reach, padding) for n, m in zip(cells, middle))
    along = [_distances(out, step, reach, padding, sigma) for out in outer]
    distance = np.hypot(along[0][:, :, None, None], along[1][None, None, :, :])
    weights = np.exp(-2.0 * np.maximum(distance / sigma - 0.5, 0.0) ** 2).astype(np.float32)
    return Smoother(
        size, (cells[0], cells[1]), step, margin, (gathers[0], gathers[1]), weights
    )


def _gather(cells: int, middle: int, reach: int, padding: int) -> Float[np.ndarray, "_r n"]:
    """Row k * middle + i takes parameter i + k - padding, or nothing where there is none."""
    wanted = (np.arange(reach)[:, None] + np.arange(middle)[None, :] - padding).reshape(-1)
    return (wanted[:, None] == np.arange(cells)[None, :]).astype(np.float32)


def _distances(
    pixels: int, step: int, reach: int, padding: int, sigma: float
) -> Float[np.ndarray, "_k _p"]:
    """From every pixel to the k-th parameter in its reach, along one axis.

    Parameter i lies at margin + step i.
    """
    position = np.arange(pixels)
    index = position // step + np.arange(reach)[:, None] - padding
    return (position - (sigma + step * index)).astype(np.float64)


def _repeat(array: Array, axis: int, times: int) -> Array:
    """Every entry along an axis repeated `times`, as a broadcast, whose gradient is a sum."""
    shape = list(array.shape)
    repeated = [*shape[: axis + 1], times, *shape[axis + 1 :]]
    wide = jnp.broadcast_to(jnp.expand_dims(array, axis + 1), repeated)
    shape[axis] *= times
    return wide.reshape(shape)
