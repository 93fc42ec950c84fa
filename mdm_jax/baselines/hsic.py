"""HSIC attribution (Novello, Fel and Vigouroux, arXiv 2206.06219): how far the node depends on
whether a cell is shown, by the Hilbert-Schmidt independence criterion.

Follows xplique's `HsicAttributionMethod` with its `BinaryEstimator`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines import cell_designs
from mdm_jax.baselines.attribution import check_reduction, make_explanation
from mdm_jax.baselines.baseline_image import check_baseline, draw_baseline
from mdm_jax.baselines.masked_scores import masked_scores
from mdm_jax.errors import unknown
from mdm_jax.execution import chunked
from mdm_jax.masks import HIGHEST
from mdm_jax.problem import begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict

# Width of the kernel of the scores: the median of the scores (xplique), or of their distances (the
# usual rule for such kernels).
WIDTHS = ("median_score", "median_distance")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HSIC:
    """xplique's defaults; the paper draws its masks by a Latin hypercube."""

    num_samples: int = field(default=500, metadata=STATIC)
    """masks (p, `nb_design`)"""
    cells: int = field(default=8, metadata=STATIC)
    """cells of a mask along each side (`grid_size`)"""
    sampler: str = field(default="sobol", metadata=STATIC)
    """a name of `cell_designs.SAMPLERS`; points are rounded to zeros and ones"""
    width: str = field(default="median_score", metadata=STATIC)
    """a name of `WIDTHS`"""
    baseline: Any = "zero"
    """what shows where the mask is zero, see `baseline_image.draw_baseline` (leaf)"""
    reduction: str = field(default="signed", metadata=STATIC)
    """a name of `attribution.REDUCTIONS`"""
    chunk: int = field(default=chunked.CHUNK, metadata=STATIC)
    """masks evaluated at a time"""

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown name."""
        chunked.check_count("num_samples", self.num_samples, least=2)
        chunked.check_count("cells", self.cells, least=2)
        chunked.check_count("chunk", self.chunk)
        cell_designs.check_sampler(self.sampler)
        if self.width not in WIDTHS:
            raise unknown("width", self.width, WIDTHS)
        check_baseline(self.baseline)
        check_reduction(self.reduction)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: HSIC | None = None,
    trace: bool = False,
) -> Explanation:
    """S_d = HSIC(M_d, g(M * x + (1 - M) * x')), M_d whether cell d is shown.

    One forward evaluation a mask; the kernel takes num_samples^2 numbers. The map [cells, cells]
    is enlarged by bicubic interpolation. Image [h, w, c] in [0, 1].
    """
    config = config or HSIC()
    config.check()
    cell_designs.check_cells_fit(config.cells, image)
    problem = begin(predict, image, target, node=node, key=key)
    background_key, key = jax.random.split(problem.key)
    background = draw_baseline(predict, image, config.baseline, key=background_key)
    shape = (image.shape[0], image.shape[1])
    cells = config.cells
    points = cell_designs.draw_points(
        config.sampler, config.num_samples, cells * cells, key=key
    )
    shown = jnp.round(points)
    scores = masked_scores(
        predict,
        problem,
        background,
        shown,
        lambda each: cell_designs.spread(each.reshape(cells, cells), shape),
        node=node,
        chunk=config.chunk,
    )
    dependence = estimate(shown, scores, kernel_width(scores, config.width))
    attribution = cell_designs.enlarge(dependence.reshape(cells, cells), shape)
    return make_explanation(
        predict,
        problem,
        attribution[..., None],
        node=node,
        reduction=config.reduction,
        forwards=config.num_samples,
    )


def estimate(
    shown: Float[Array, "p d"], scores: Float[Array, " p"], width: Float[Array, ""]
) -> Float[Array, " d"]:
    """HSIC_d = trace(K_d H L H) / p, K_d = 3/2 - (m_i - m_j)^2, L = exp(-(y_i - y_j)^2 / (2 w^2)).

    With zeros and ones, H K_d H = 2 c c^T, where c is column d less its mean. H also takes away
    every constant of L, so that L - 1 stands for it, which keeps small differences exact.
    """
    distance = scores[:, None] - scores[None, :]
    safe_width = jnp.where(width == 0, 1.0, width)
    output_kernel = jnp.expm1(-0.5 * jnp.square(distance / safe_width))
    centered = shown - shown.mean(axis=0)
    product = jnp.matmul(output_kernel, centered, precision=HIGHEST)
    return 2.0 * (centered * product).sum(axis=0) / len(scores)


def kernel_width(scores: Float[Array, " p"], width: str) -> Float[Array, ""]:
    """The width w of the kernel of the scores, by a name of `WIDTHS`."""
    if width == "median_score":
        return jnp.median(scores)
    above = jnp.triu_indices(len(scores), k=1)
    return jnp.median(jnp.abs(scores[:, None] - scores[None, :])[above])


METHOD = Method("hsic", explain, HSIC, "probability")
