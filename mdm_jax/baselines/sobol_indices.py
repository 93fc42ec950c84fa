"""Sobol attribution (Fel et al., arXiv 2111.04138): the share of the node's variance that a cell
takes part in.

Follows xplique's `SobolAttributionMethod` with its `JansenEstimator`.
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
from mdm_jax.execution import chunked
from mdm_jax.problem import begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict

# Least variance that is divided by, xplique's.
LEAST_VARIANCE = 1e-12


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SobolIndices:
    """xplique's defaults."""

    num_samples: int = field(default=32, metadata=STATIC)
    """rows of the design, each of which is evaluated once and once more for every cell (N,
    `nb_design`); a power of two suits the Sobol sequence"""
    cells: int = field(default=8, metadata=STATIC)
    """cells of a mask along each side (`grid_size`)"""
    sampler: str = field(default="sobol", metadata=STATIC)
    """a name of `cell_designs.SAMPLERS`"""
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
        check_baseline(self.baseline)
        check_reduction(self.reduction)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: SobolIndices | None = None,
    trace: bool = False,
) -> Explanation:
    """S_d = E[Var(y | all cells but d)] / Var(y), y = g(M * x + (1 - M) * x'), M in [0, 1].

    num_samples (cells^2 + 1) forward evaluations: xplique's num_samples more, of the second half
    of the design as it is, do not enter Jansen's estimator and are left out. The map
    [cells, cells] is enlarged by bicubic interpolation. Image [h, w, c] in [0, 1].
    """
    config = config or SobolIndices()
    config.check()
    cell_designs.check_cells_fit(config.cells, image)
    problem = begin(predict, image, target, node=node, key=key)
    background_key, key = jax.random.split(problem.key)
    background = draw_baseline(predict, image, config.baseline, key=background_key)
    shape = (image.shape[0], image.shape[1])
    cells, n = config.cells, config.num_samples
    dimensions = cells * cells
    points = cell_designs.draw_points(config.sampler, n, 2 * dimensions, key=key)
    first, second = points[:, :dimensions], points[:, dimensions:]

    def render(row_and_changed: tuple[Array, Array]) -> Float[Array, "h w"]:
        row, changed = row_and_changed
        is_changed = jnp.arange(dimensions) == changed
        values = jnp.where(is_changed, second[row], first[row])
        return cell_designs.spread(values.reshape(cells, cells), shape)

    # the design itself, in which no cell is changed, then its copies for one cell after another
    changed = jnp.repeat(jnp.arange(-1, dimensions), n)
    rows = jnp.tile(jnp.arange(n), dimensions + 1)
    scores = masked_scores(
        predict,
        problem,
        background,
        (rows, changed),
        render,
        node=node,
        chunk=config.chunk,
    ).reshape(dimensions + 1, n)
    indices = jansen(scores[0], scores[1:])
    attribution = cell_designs.enlarge(indices.reshape(cells, cells), shape)
    return make_explanation(
        predict,
        problem,
        attribution[..., None],
        node=node,
        reduction=config.reduction,
        forwards=n * (dimensions + 1),
    )


def jansen(scores: Float[Array, " n"], changed: Float[Array, "d n"]) -> Float[Array, " d"]:
    """Total Sobol indices by Jansen (1999): mean((y - y_d)^2) / (2 Var(y)).

    y are the scores of the design, y_d those in which cell d alone is drawn anew, and the variance
    is the unbiased one of y.
    """
    variance = jnp.maximum(scores.var(ddof=1), LEAST_VARIANCE)
    return jnp.square(scores - changed).mean(axis=1) / (2.0 * variance)


METHOD = Method("sobol_indices", explain, SobolIndices, "probability")
