"""Guided integrated gradients (Kapishnikov et al., arXiv 2106.09788): the way around noise.

From the baseline to the image those values move first whose gradient is small, within a band around
the straight line."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from mdm_jax.baselines.attribution import check_reduction, make_explanation
from mdm_jax.baselines.baseline_image import check_baseline, draw_baseline
from mdm_jax.baselines.gradient import input_gradient
from mdm_jax.baselines.integrated_masks import channel_deviation
from mdm_jax.execution import chunked
from mdm_jax.execution.convolutions import canonical
from mdm_jax.problem import begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict, Scalar

# A distance to the target of a step, as a share of the whole way, that counts as none.
CLOSE = 1e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GuidedIG:
    """The authors' code (PAIR saliency), whose baseline is zero in the network's input."""

    steps: int = field(default=200, metadata=STATIC)
    """gradients on the way"""
    fraction: float = field(default=0.25, metadata=STATIC)
    """share of all values that may move at a time, those of the smallest gradients"""
    max_distance: float = field(default=0.02, metadata=STATIC)
    """how far a value may be ahead of the straight line, or behind, as a share of its way"""
    baseline: Any = "zero"
    """where the way begins, see `baseline_image.draw_baseline` (leaf)"""
    reduction: str = field(default="absolute", metadata=STATIC)
    """a name of `attribution.REDUCTIONS`; the authors show the sum of magnitudes over channels"""

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown baseline or reduction."""
        chunked.check_count("steps", self.steps)
        chunked.check_above_zero("fraction", self.fraction, below=1.0)
        chunked.check_above_zero("max_distance", self.max_distance, below=1.0 + 1e-9)
        check_baseline(self.baseline)
        check_reduction(self.reduction)


class Move(NamedTuple):
    """What is carried while one step looks for its end."""

    share: Float[Array, "h w c"]
    """of each value's way that it has gone, in [0, 1]"""
    free: Bool[Array, "h w c"]
    """values that may still move in this step"""
    done: Bool[Array, ""]
    rounds: Int[Array, ""]


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: GuidedIG | None = None,
    trace: bool = False,
) -> Explanation:
    """S = sum_c |sum_t d g / d x_c (x_t) (x_t+1 - x_t)_c|, x_0 the baseline, x_T the image.

    Step t brings the L1 distance to the image down to 1 - t / T of the whole: of the values that
    may still move, the `fraction` with the smallest gradients goes to the end of the band, again
    and again, the last ones in part. Image [h, w, c] in [0, 1]. `steps` evaluations with a
    gradient, one after the other. Raises InputError for a config that is not valid."""
    config = config or GuidedIG()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    start = draw_baseline(predict, image, config.baseline, key=problem.key)
    attribution = integrate_guided(
        predict, start, image, problem.target, node=node, config=config
    )
    return make_explanation(
        predict,
        problem,
        attribution,
        node=node,
        reduction=config.reduction,
        evaluations=config.steps,
    )


def integrate_guided(
    predict: Predict,
    start: Image,
    image: Image,
    target: Int[Array, ""],
    *,
    node: str | Node,
    config: GuidedIG,
) -> Float[Array, "h w c"]:
    """sum_t d g / d x (x_t) (x_t+1 - x_t) along the guided path."""
    way = image - start
    unit = channel_deviation(predict, image.shape[-1])
    gradient_of = canonical(lambda x: input_gradient(predict, x, target, node=node))

    def take_step(
        carried: tuple[Array, Array], t: Int[Array, ""]
    ) -> tuple[tuple[Array, Array], None]:
        share, attribution = carried
        gradient = gradient_of(start + share * way)
        alpha = (t + 1.0) / config.steps
        # gradients and distances of the network's normalized input, as the authors compare them
        steepness, lengths = jnp.abs(gradient) * unit, jnp.abs(way) / unit
        after = advance(share, steepness, lengths, alpha, config=config)
        return (after, attribution + gradient * (after - share) * way), None

    none = jnp.zeros_like(image)
    (_, attribution), _ = jax.lax.scan(take_step, (none, none), jnp.arange(config.steps))
    return attribution


def advance(
    share: Float[Array, "h w c"],
    steepness: Float[Array, "h w c"],
    lengths: Float[Array, "h w c"],
    alpha: Scalar,
    *,
    config: GuidedIG,
) -> Float[Array, "h w c"]:
    """Shares after the step to `alpha`: the distance left is (1 - alpha) of the whole."""
    lowest = jnp.maximum(alpha - config.max_distance, 0.0)
    highest = jnp.minimum(alpha + config.max_distance, 1.0)
    total = lengths.sum()
    rank = int((steepness.size - 1) * config.fraction)

    def go_on(move: Move) -> Array:
        # every round takes a `fraction` of all values to the end of the band
        return ~move.done & (move.rounds < math.ceil(1 / config.fraction) + 1)

    def move_some(move: Move) -> Move:
        caught_up = jnp.maximum(move.share, lowest)
        # summed as differences, so that nothing cancels near the end
        wanted = (lengths * (alpha - caught_up)).sum()
        close = wanted <= CLOSE * total
        free = move.free & (caught_up < highest) & (lengths > 0)
        ordered = jnp.where(free, steepness, jnp.inf)
        threshold = jnp.sort(ordered.reshape(-1))[rank]
        chosen = free & (steepness <= threshold)
        reachable = (lengths * (highest - caught_up) * chosen).sum()
        part = jnp.clip(wanted / jnp.where(reachable > 0, reachable, 1.0), 0.0, 1.0)
        enough = wanted <= reachable
        there = caught_up + part * (highest - caught_up)
        moved = jnp.where(chosen, jnp.where(enough, there, highest), caught_up)
        return Move(
            jnp.where(close, caught_up, moved), free, close | enough, move.rounds + 1
        )

    begun = Move(share, jnp.ones(share.shape, bool), jnp.zeros((), bool), jnp.int32(0))
    return jax.lax.while_loop(go_on, move_some, begun).share


METHOD = Method("guided_ig", explain, GuidedIG, "logit", is_pixelwise=True)
