"""Masks of s x s cells for sensitivity analysis: the points that they are drawn from, and how they
become masks and maps of the image's size.

Follows xplique's samplers: its Sobol sequence is TensorFlow's, which leaves out the first point,
zero.
"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from mdm_jax.errors import InputError, unknown
from mdm_jax.types import Image, Mask

# A quasi-random sequence, the same for every image; or points of which each coordinate falls once
# into each of n equal intervals, drawn by the key.
SAMPLERS = ("sobol", "latin_hypercube")


def check_sampler(name: str) -> None:
    """Raises InputError for another name than those of `SAMPLERS`."""
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)


def check_cells_fit(cells: int, image: Image) -> None:
    """Raises InputError for more cells than pixels along a side."""
    side = min(image.shape[:2])
    if cells > side:
        raise InputError(f"cells is {cells}: give at most the image's {side} pixels")


def draw_points(
    sampler: str, n: int, dimensions: int, *, key: Key[Array, ""]
) -> Float[Array, "n d"]:
    """n points of the unit cube; the key is for the sampler "latin_hypercube"."""
    if sampler == "sobol":
        return jnp.asarray(sobol_sequence(n, dimensions))
    order_key, offset_key = jax.random.split(key)
    order_keys = jax.random.split(order_key, dimensions)
    interval = jax.vmap(lambda own: jax.random.permutation(own, n))(order_keys).T
    return (interval + jax.random.uniform(offset_key, (n, dimensions))) / n


@cache
def sobol_sequence(n: int, dimensions: int) -> Float[np.ndarray, "n d"]:
    """Points 1 .. n of the Sobol sequence of Joe and Kuo (2008), not scrambled."""
    from scipy.stats import qmc  # here, because importing it takes a second

    sequence = qmc.Sobol(dimensions, scramble=False)
    sequence.fast_forward(1)
    return sequence.random(n).astype(np.float32)


def spread(cells: Float[Array, "s s"], shape: tuple[int, int]) -> Mask:
    """Each pixel of the image gets the value of its cell."""
    rows, columns = (
        np.floor((np.arange(side) + 0.5) * len(cells) / side).astype(np.int32)
        for side in shape
    )
    return cells[rows][:, columns]


def enlarge(cells: Float[Array, "s s"], shape: tuple[int, int]) -> Mask:
    """A map of the image's size by bicubic interpolation (Keys, a = -0.5), as xplique's."""
    return jax.image.resize(cells, shape, "bicubic", antialias=False)
