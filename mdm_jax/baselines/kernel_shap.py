"""KernelSHAP (Lundberg and Lee, arXiv 1705.07874): Shapley values of superpixels by a weighted
regression.

Follows `KernelExplainer` of the authors' package in which coalitions are taken: small and large
ones all of them, as far as the samples reach, and the others drawn, each with its complement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from math import ceil, comb
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines import superpixels
from mdm_jax.baselines.attribution import check_reduction, make_explanation
from mdm_jax.baselines.masked_scores import masked_scores
from mdm_jax.errors import InputError
from mdm_jax.execution import chunked
from mdm_jax.masks import HIGHEST
from mdm_jax.problem import begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KernelSHAP:
    """The package takes 2 k + 2048 coalitions of k superpixels, and its example for images their
    mean color; SLIC's paper for the superpixels."""

    num_samples: int | None = field(default=None, metadata=STATIC)
    """coalitions, without the empty and the full one; None: 2 k + 2048, at most the 2^k - 2 that
    there are"""
    segments: int = field(default=49, metadata=STATIC)
    """about how many superpixels (k), ours"""
    compactness: Any = 10.0
    """weight of place against color in SLIC (leaf)"""
    rounds: int = field(default=10, metadata=STATIC)
    """rounds of SLIC"""
    baseline: Any = "mean"
    """what hidden superpixels show: "segments" for their own mean color, or see
    `baseline_image.draw_baseline` (leaf)"""
    reduction: str = field(default="signed", metadata=STATIC)
    """a name of `attribution.REDUCTIONS`"""
    chunk: int = field(default=chunked.CHUNK, metadata=STATIC)
    """coalitions evaluated at a time"""

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown name."""
        if self.num_samples is not None:
            chunked.check_count("num_samples", self.num_samples, least=2)
        chunked.check_count("chunk", self.chunk)
        superpixels.check_superpixels(
            self.segments, self.compactness, self.rounds, self.baseline
        )
        check_reduction(self.reduction)


class Plan(NamedTuple):
    """Which coalitions are taken: some given, the others drawn."""

    given: Float[np.ndarray, "n k"]
    given_weights: Float[np.ndarray, " n"]
    sizes: Int[np.ndarray, " s"]
    """of the coalitions that are drawn, whose complements are taken too"""
    size_weights: Float[np.ndarray, " s"]
    """how often each size is drawn, in sum one"""
    pairs: int
    """how many are drawn"""
    drawn_weight: float
    """of each that is drawn, and of its complement"""


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: KernelSHAP | None = None,
    trace: bool = False,
) -> Explanation:
    """S = phi of argmin_phi sum_z w(z) (g(z) - g(0) - z phi)^2 with sum phi = g(x) - g(0).

    w(z) = (k - 1) / (C(k, |z|) |z| (k - |z|)), z says which of k superpixels are shown, g(0) is
    the node where all are hidden. One forward evaluation a coalition, and one for g(0). Where all
    coalitions are taken, phi are the Shapley values. Image [h, w, c] in [0, 1].
    """
    config = config or KernelSHAP()
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
    coalitions, weights = draw_coalitions(
        make_plan(grid.segments, config.num_samples), key=key
    )
    empty = jnp.zeros((1, grid.segments))
    scores = masked_scores(
        predict,
        problem,
        background,
        jnp.concatenate([empty, coalitions]),
        lambda each: superpixels.show(each, labels),
        node=node,
        chunk=config.chunk,
    )
    values = fit_shapley(
        coalitions, scores[1:] - scores[0], weights, problem.reference.sum() - scores[0]
    )
    return make_explanation(
        predict,
        problem,
        superpixels.show(values, labels)[..., None],
        node=node,
        reduction=config.reduction,
        forwards=len(scores),
    )


@cache
def make_plan(k: int, num_samples: int | None = None) -> Plan:
    """The coalitions of k superpixels for a number of samples.

    Sizes s and k - s are taken whole from s = 1 on, as long as samples in proportion to the
    kernel's weight of the sizes that are left would reach for all of their coalitions. Raises
    InputError for fewer samples than the sizes 1 and k - 1 need.
    """
    smaller = np.arange(1, k // 2 + 1)
    # of a size and that of its complements together; for even k, the middle is its own
    pair_weights = np.where(2 * smaller == k, 0.5, 1.0) * 2.0 * (k - 1)
    pair_weights = pair_weights / (smaller * (k - smaller))
    pair_weights = pair_weights / pair_weights.sum()
    left = min(2 * k + 2048 if num_samples is None else num_samples, 2**k - 2)
    given, given_weights, whole = [np.zeros((0, k))], [np.zeros(0)], 0
    for size, weight in enumerate(pair_weights, start=1):
        coalitions = comb(k, size) * (1 if 2 * size == k else 2)
        if left * weight / pair_weights[whole:].sum() < coalitions * (1 - 1e-8):
            break
        rows = np.zeros((comb(k, size), k))
        for row, members in zip(rows, combinations(range(k), size)):
            row[list(members)] = 1.0
        rows = rows if 2 * size == k else np.concatenate([rows, 1.0 - rows])
        given.append(rows)
        given_weights.append(np.full(len(rows), weight / coalitions))
        left -= coalitions
        whole += 1
    if whole == 0:
        least = min(2**k - 2, ceil(2 * k / pair_weights[0]))
        raise InputError(
            f"num_samples is {num_samples}: give at least {least} for {k} superpixels, so that each"
            " is seen alone"
        )
    pairs = left // 2
    remaining = pair_weights[whole:].sum()
    return Plan(
        np.concatenate(given).astype(np.float32),
        np.concatenate(given_weights).astype(np.float32),
        smaller[whole:],
        pair_weights[whole:] / (remaining or 1.0),
        pairs,
        float(remaining / (2 * pairs)) if pairs else 0.0,
    )


def draw_coalitions(
    plan: Plan, *, key: Key[Array, ""]
) -> tuple[Float[Array, "n k"], Float[Array, " n"]]:
    """The coalitions of a plan [n, k] and their weights [n]."""
    given, given_weights = jnp.asarray(plan.given), jnp.asarray(plan.given_weights)
    if plan.pairs == 0:
        return given, given_weights
    size_key, order_key = jax.random.split(key)
    sizes = jax.random.choice(
        size_key, jnp.asarray(plan.sizes), (plan.pairs,), p=jnp.asarray(plan.size_weights)
    )
    k = given.shape[1]
    order = jax.vmap(lambda own: jax.random.permutation(own, k))(
        jax.random.split(order_key, plan.pairs)
    )
    drawn = (order < sizes[:, None]).astype(jnp.float32)
    drawn_weights = jnp.full(2 * plan.pairs, plan.drawn_weight)
    return (
        jnp.concatenate([given, drawn, 1.0 - drawn]),
        jnp.concatenate([given_weights, drawn_weights]),
    )


def fit_shapley(
    coalitions: Float[Array, "n k"],
    gains: Float[Array, " n"],
    weights: Float[Array, " n"],
    total: Float[Array, ""],
) -> Float[Array, " k"]:
    """The weighted least squares whose values sum to `total`; gains are over the empty coalition.

    By a Lagrange multiplier: phi = A^-1 (b - 1 (1 A^-1 b - total) / (1 A^-1 1)), A = Z' W Z,
    b = Z' W y.
    """
    k = coalitions.shape[1]
    # what equal shares of the total say is taken away first: the rest is small, and so is rounding
    gains = gains - coalitions.mean(axis=1) * total
    weighted = coalitions * weights[:, None]
    gram = jnp.matmul(weighted.T, coalitions, precision=HIGHEST)
    product = jnp.matmul(weighted.T, gains, precision=HIGHEST)
    right_sides = jnp.stack([product, jnp.ones(k)], axis=-1)
    solved = jax.scipy.linalg.solve(gram, right_sides, assume_a="pos")
    free, ones = solved[:, 0], solved[:, 1]
    return free - ones * free.sum() / ones.sum() + total / k


METHOD = Method("kernel_shap", explain, KernelSHAP, "probability")
