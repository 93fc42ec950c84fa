"""RISE (Petsiuk et al., arXiv 1806.07421): random masks, averaged by the score of the image seen
through them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.attribution import check_reduction, make_explanation
from mdm_jax.baselines.baseline_image import check_baseline, draw_baseline
from mdm_jax.errors import InputError, find_renamed, unknown
from mdm_jax.execution import chunked
from mdm_jax.masks import HIGHEST
from mdm_jax.problem import activation, begin, blend
from mdm_jax.types import STATIC, Explanation, Image, Mask, Method, Node, Predict, Scalar

NORMALIZATIONS = ("expected", "coverage")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RISE:
    """The paper: 4000 masks for VGG and 8000 for ResNet, 7 x 7 cells, each kept with probability
    0.5."""

    num_samples: int = field(default=4000, metadata=STATIC)
    """masks"""
    cells: int = field(default=7, metadata=STATIC)
    """cells of a mask along each side (s)"""
    keep_probability: Any = 0.5
    """probability that a cell is kept (p) (leaf)"""
    normalization: str = field(default="expected", metadata=STATIC)
    """expected: divide by num_samples * p (the paper, its code); coverage: by the sum of the masks
    at each pixel (xplique)"""
    baseline: Any = "zero"
    """what shows where the mask is zero, see `baseline_image.draw_baseline` (leaf)"""
    reduction: str = field(default="signed", metadata=STATIC)
    """a name of `attribution.REDUCTIONS`"""
    chunk: int = field(default=chunked.CHUNK, metadata=STATIC)
    """masks evaluated at a time"""

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown normalization, baseline or
        reduction."""
        chunked.check_count("num_samples", self.num_samples)
        chunked.check_count("cells", self.cells, least=2)
        chunked.check_count("chunk", self.chunk)
        chunked.check_above_zero("keep_probability", self.keep_probability, below=1.0)
        if self.normalization not in NORMALIZATIONS:
            raise unknown("normalization", self.normalization, NORMALIZATIONS)
        check_baseline(self.baseline)
        check_reduction(self.reduction)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: RISE | None = None,
    trace: bool = False,
) -> Explanation:
    """S = sum_i g(M_i * x + (1 - M_i) * x') M_i / (N p). Image [h, w, c] in [0, 1].

    One forward evaluation a mask.
    """
    config = config or RISE()
    config.check()
    height, width = image.shape[:2]
    if config.cells > min(height, width):
        raise InputError(
            f"cells is {config.cells}: give at most the image's {min(height, width)} pixels"
        )
    problem = begin(predict, image, target, node=node, key=key)
    background_key, key = jax.random.split(problem.key)
    background = draw_baseline(predict, image, config.baseline, key=background_key)

    def weighted_mask(mask_key: Key[Array, ""]) -> tuple[Array, Array]:
        mask = draw(config.cells, config.keep_probability, (height, width), key=mask_key)
        batched = predict(blend(mask[None], image, background))
        outputs = jax.tree.map(lambda leaf: leaf[0], batched)
        score = activation(node, outputs, problem.target)
        return score.sum() * mask, mask

    mask_keys = chunked.keys(key, config.num_samples)
    summed, coverage = chunked.sum_over(weighted_mask, mask_keys, config.chunk)
    if config.normalization == "expected":
        attribution = summed / (config.num_samples * config.keep_probability)
    else:
        attribution = jnp.where(
            coverage > 0, summed / jnp.where(coverage > 0, coverage, 1.0), 0.0
        )
    return make_explanation(
        predict,
        problem,
        attribution[..., None],
        node=node,
        reduction=config.reduction,
        forwards=config.num_samples,
    )


def draw(cells: int, kept: Scalar, shape: tuple[int, int], *, key: Key[Array, ""]) -> Mask:
    """One random mask [h, w] in [0, 1]: an upsampled grid of zeros and ones, at a random shift.

    A cell is ceil(h / s) pixels high; the grid [s, s] is drawn over s + 1 of them and the mask
    begins 0 .. cell - 1 pixels in.
    """
    grid_key, shift_key = jax.random.split(key)
    grid = (jax.random.uniform(grid_key, (cells, cells)) < kept).astype(jnp.float32)
    height, width = (-(-side // cells) for side in shape)
    shift = jax.random.randint(shift_key, (2,), 0, jnp.asarray([height, width]))
    return cut(grid, shift, shape)


def cut(grid: Float[Array, "s s"], shift: Int[Array, "2"], shape: tuple[int, int]) -> Mask:
    """The grid, upsampled bilinearly to (s + 1) cells a side, from `shift` on."""
    cells = grid.shape[0]
    slices = []
    for side, start in zip(shape, shift):
        pixels = (cells + 1) * -(-side // cells)
        matrix = jnp.asarray(upsampling(cells, pixels))
        slices.append(jax.lax.dynamic_slice_in_dim(matrix, start, side))
    rows, columns = slices
    return jnp.matmul(
        jnp.matmul(rows, grid, precision=HIGHEST), columns.T, precision=HIGHEST
    )


@cache
def upsampling(cells: int, pixels: int) -> np.ndarray:
    """Matrix [pixels, cells] of `skimage.transform.resize(order=1, mode="reflect")`.

    The authors' code calls it. Half-pixel centers; beyond the center of the first and last cell the
    grid is mirrored there, not held.
    """
    centers = np.abs((np.arange(pixels) + 0.5) * cells / pixels - 0.5)
    centers = (cells - 1) - np.abs(cells - 1 - centers)
    distance = np.abs(centers[:, None] - np.arange(cells)[None, :])
    return np.maximum(0.0, 1.0 - distance).astype(np.float32)


METHOD = Method("rise", explain, RISE, "probability")
RENAMED = {"RISEConfig": "RISE"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
