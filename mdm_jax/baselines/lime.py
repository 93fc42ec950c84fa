"""LIME (Ribeiro, Singh and Guestrin, arXiv 1602.04938): a linear model of the node by the
superpixels that are shown.

Follows `lime_image` of the authors' package, with SLIC for its quickshift.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines import superpixels
from mdm_jax.baselines.attribution import check_reduction, make_explanation
from mdm_jax.baselines.masked_scores import masked_scores
from mdm_jax.execution import chunked
from mdm_jax.masks import HIGHEST
from mdm_jax.problem import begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LIME:
    """The package's defaults, and those of SLIC's paper for the superpixels."""

    num_samples: int = field(default=1000, metadata=STATIC)
    """coalitions of superpixels; the first is the whole image, the others show each superpixel
    with probability 0.5"""
    segments: int = field(default=49, metadata=STATIC)
    """about how many superpixels, ours"""
    compactness: Any = 10.0
    """weight of place against color in SLIC (leaf)"""
    rounds: int = field(default=10, metadata=STATIC)
    """rounds of SLIC"""
    kernel_width: Any = 0.25
    """of the kernel that weighs a sample by its cosine distance to the whole image (leaf)"""
    ridge: Any = 1.0
    """weight of the squared coefficients (alpha) (leaf)"""
    baseline: Any = "segments"
    """what hidden superpixels show: their mean color, or see `baseline_image.draw_baseline`
    (leaf)"""
    reduction: str = field(default="signed", metadata=STATIC)
    """a name of `attribution.REDUCTIONS`"""
    chunk: int = field(default=chunked.CHUNK, metadata=STATIC)
    """samples evaluated at a time"""

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown name."""
        chunked.check_count("num_samples", self.num_samples, least=2)
        chunked.check_count("chunk", self.chunk)
        chunked.check_above_zero("kernel_width", self.kernel_width)
        chunked.check_above_zero("ridge", self.ridge)
        superpixels.check_superpixels(
            self.segments, self.compactness, self.rounds, self.baseline
        )
        check_reduction(self.reduction)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: LIME | None = None,
    trace: bool = False,
) -> Explanation:
    """S = b of argmin_{b, c} sum_i w_i (g(z_i) - z_i b - c)^2 + alpha |b|^2, at each superpixel.

    z_i says which superpixels sample i shows. One forward evaluation a sample. Image [h, w, c] in
    [0, 1].
    """
    config = config or LIME()
    config.check()
    grid = superpixels.make_grid(image.shape, config.segments)
    problem = begin(predict, image, target, node=node, key=key)
    background_key, key = jax.random.split(problem.key)
    labels = superpixels.slic(
        image, grid, compactness=config.compactness, rounds=config.rounds
    )
    background = superpixels.draw_background(
        predict,
        image,
        labels,
        config.baseline,
        segments=grid.segments,
        key=background_key,
    )
    drawn = jax.random.bernoulli(key, 0.5, (config.num_samples, grid.segments))
    coalitions = drawn.at[0].set(True).astype(jnp.float32)
    scores = masked_scores(
        predict,
        problem,
        background,
        coalitions,
        lambda each: superpixels.show(each, labels),
        node=node,
        chunk=config.chunk,
    )
    weights = proximity(coalitions, config.kernel_width)
    coefficients = fit_ridge(coalitions, scores, weights, config.ridge)
    return make_explanation(
        predict,
        problem,
        superpixels.show(coefficients, labels)[..., None],
        node=node,
        reduction=config.reduction,
        forwards=config.num_samples,
    )


def proximity(coalitions: Float[Array, "n k"], kernel_width: Any) -> Float[Array, " n"]:
    """w = exp(-d^2 / (2 width^2)), with the cosine distance d = 1 - sqrt(shown / k) to all ones."""
    distance = 1.0 - jnp.sqrt(coalitions.mean(axis=1))
    return jnp.exp(-0.5 * jnp.square(distance / kernel_width))


def fit_ridge(
    inputs: Float[Array, "n k"],
    outputs: Float[Array, " n"],
    weights: Float[Array, " n"],
    ridge: Any,
) -> Float[Array, " k"]:
    """The coefficients of a weighted ridge regression with an intercept, which is not shrunk."""
    share = weights / weights.sum()
    inputs = inputs - jnp.matmul(share, inputs, precision=HIGHEST)
    outputs = outputs - jnp.matmul(share, outputs, precision=HIGHEST)
    weighted = inputs * weights[:, None]
    gram = jnp.matmul(weighted.T, inputs, precision=HIGHEST)
    gram = gram + ridge * jnp.eye(inputs.shape[1])
    product = jnp.matmul(weighted.T, outputs, precision=HIGHEST)
    return jax.scipy.linalg.solve(gram, product, assume_a="pos")


METHOD = Method("lime", explain, LIME, "probability")
