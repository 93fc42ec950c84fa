"""Similarity of two maps of one image: by rank, by structure, by the directions of their edges."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import rankdata
from jaxtyping import Array, Float

from mdm_jax.errors import InputError

HIGHEST = jax.lax.Precision.HIGHEST

# SSIM's Gaussian window, in pixels.
WINDOW, SIGMA = 11, 1.5

# HOG: pixels a cell's side, cells a block's side, and bins for the directions from 0 to 180
# degrees.
CELL, BLOCK, ORIENTATIONS = 16, 3, 9


def ranks(values: Float[Array, "..."]) -> Float[Array, " n"]:
    """The rank of every value among all, from 0; equal values share the mean of their ranks."""
    return rankdata(values.ravel()) - 1


def spearman(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, ""]:
    """Spearman's rank correlation in [-1, 1], Pearson's of the `ranks`.

    0 where either map is constant and ranks nothing; NaN where either holds a NaN or infinity.
    """
    # Ranks and their mean, (n - 1) / 2, are exact, so that a constant map leaves no rounding to
    # correlate. Divided by n, because sums of squared ranks of a large image lose digits in
    # float32.
    x, y = ((rank - (rank.size - 1) / 2) / rank.size for rank in (ranks(a), ranks(b)))
    scale = jnp.sqrt(jnp.square(x).sum() * jnp.square(y).sum())
    r = jnp.where(scale > 0, (x * y).sum() / jnp.where(scale > 0, scale, 1.0), 0.0)
    return jnp.where(jnp.isfinite(a).all() & jnp.isfinite(b).all(), r, jnp.nan)


def ssim(a: Float[Array, "h w"], b: Float[Array, "h w"]) -> Float[Array, ""]:
    """Structural similarity of two maps in [0, 1], at most 1; 1 for equal maps.

    The mean over all positions of the window of (2 m_a m_b + C1)(2 v_ab + C2) / ((m_a^2 + m_b^2 +
    C1)(v_a + v_b + C2)), with means m and sample covariances v under a Gaussian of 11 pixels and
    sigma 1.5, C1 = 0.01^2, C2 = 0.03^2. Raises InputError for maps smaller than the window. Wang et
    al. 2004, as skimage's `structural_similarity(a, b, gaussian_weights=True, data_range=1)`.
    """
    if min(a.shape) < WINDOW:
        raise InputError(
            f"maps of {a.shape[0]}x{a.shape[1]} are too small for SSIM: its window has {WINDOW}"
            " pixels a side"
        )
    mean_a, mean_b, aa, bb, ab = _windowed(jnp.stack([a, b, a * a, b * b, a * b]))
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    moments = (aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b)
    var_a, var_b, cov = (unbiased * moment for moment in moments)
    c1, c2 = 0.01**2, 0.03**2
    similar = (
        (2 * mean_a * mean_b + c1)
        * (2 * cov + c2)
        / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    return similar.mean()


def _windowed(maps: Float[Array, "k h w"]) -> Float[Array, "k h2 w2"]:
    """Means under the Gaussian window, at all positions inside the map."""
    distance = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (distance / SIGMA) ** 2)
    weights /= weights.sum()

    def banded(n: int) -> np.ndarray:
        matrix = np.zeros((n - WINDOW + 1, n), np.float32)
        for row, line in enumerate(matrix):
            line[row : row + WINDOW] = weights
        return matrix

    rows, columns = banded(maps.shape[1]), banded(maps.shape[2])
    return jnp.einsum("yh,khw,xw->kyx", rows, maps, columns, precision=HIGHEST)


def hog(image: Float[Array, "h w"], cell: int = CELL) -> Float[Array, " n"]:
    """Histograms of oriented gradients: 9 directions per cell of `cell` pixels a side.

    Hard bins of 20 degrees, normalized in blocks of 3x3 cells by "L2-Hys" (clipped at 0.2); pixels
    outside of whole cells are left out. Raises InputError where the map has less than 3 cells a
    side. Dalal and Triggs 2005, as skimage's `hog(image, pixels_per_cell=(cell, cell))`.
    """
    rows, columns = (side // cell for side in image.shape)
    if min(rows, columns) < BLOCK:
        raise InputError(
            f"a map of {image.shape[0]}x{image.shape[1]} has less than {BLOCK} cells of {cell}"
            " pixels a side"
        )
    down = jnp.pad(image[2:] - image[:-2], ((1, 1), (0, 0)))
    right = jnp.pad(image[:, 2:] - image[:, :-2], ((0, 0), (1, 1)))
    length = jnp.hypot(right, down)
    # Directions without sign, in the half circle from 0 (included) to 180 degrees; compared by
    # cross products, because an angle from arctan2 can be rounded across the end of the circle.
    upper = (down > 0) | ((down == 0) & (right >= 0))
    down, right = jnp.where(upper, down, -down), jnp.where(upper, right, -right)
    edges = np.deg2rad(180 / ORIENTATIONS * np.arange(1, ORIENTATIONS))[:, None, None]
    bins = (np.cos(edges) * down - np.sin(edges) * right >= 0).sum(axis=0)
    votes = jax.nn.one_hot(bins, ORIENTATIONS) * length[..., None]
    votes = votes[: rows * cell, : columns * cell]
    cells = votes.reshape(rows, cell, columns, cell, ORIENTATIONS).mean(axis=(1, 3))
    block_rows = np.arange(rows - BLOCK + 1)[:, None] + np.arange(BLOCK)
    block_columns = np.arange(columns - BLOCK + 1)[:, None] + np.arange(BLOCK)
    blocks = cells[block_rows[:, None, :, None], block_columns[None, :, None, :]]
    return jax.vmap(_hysteresis)(blocks.reshape(-1, BLOCK * BLOCK * ORIENTATIONS)).ravel()


def _hysteresis(block: Float[Array, " n"]) -> Float[Array, " n"]:
    """L2 norm 1, values clipped at 0.2, L2 norm 1 again; zeros stay zeros."""
    block = block / jnp.sqrt(jnp.square(block).sum() + 1e-10)
    block = jnp.minimum(block, 0.2)
    return block / jnp.sqrt(jnp.square(block).sum() + 1e-10)


def hog_spearman(
    a: Float[Array, "h w"], b: Float[Array, "h w"], cell: int | None = None
) -> Float[Array, ""]:
    """Spearman's correlation of two maps' `hog`; 0 where either has no edge.

    `cell` is 16 pixels, or a third of the short side where 3 cells of 16 do not fit.
    """
    cell = cell or max(1, min(CELL, min(a.shape) // BLOCK))
    return spearman(hog(a, cell), hog(b, cell))
