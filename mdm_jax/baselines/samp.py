"""SAMP (Zhang, Zheng, Zhou, Lu, arXiv 2401.10442): gradients along the steepest path of pixels.

Two paths: one takes the image's pixels away, those first whose loss lowers the score most, the
other shows them, those first that raise it most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from mdm_jax.baselines.attribution import check_reduction, make_explanation
from mdm_jax.baselines.baseline_image import check_baseline, draw_baseline
from mdm_jax.baselines.gradient import input_gradient
from mdm_jax.baselines.meaningful_perturbation import scale_of
from mdm_jax.execution.chunked import check_above_zero
from mdm_jax.execution.convolutions import canonical
from mdm_jax.images import gaussian_blur
from mdm_jax.problem import begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SAMP:
    """SAMP++: with the bound on a step (the infinitesimal constraint) and the momentum.

    The paper moves 224 x 16 of 224 x 224 pixels a step and goes from the image to black and from a
    blurred image to the image. Its authors published no code, and their bound and momentum could
    not be read: these two are ours. `step_bound=14, momentum=0` is plain SAMP."""

    step_share: float = field(default=1 / 14, metadata=STATIC)
    """share of the pixels that a step moves"""
    step_bound: Any = 1.0
    """greatest L1 length of a step, in units of the mean length of 1 / `step_share` steps; from 1 /
    `step_share` on it bounds nothing (leaf)"""
    momentum: Any = 0.5
    """share of the last direction that is kept, the gradient having the rest (leaf)"""
    removed: Any = "black"
    """where pixels that are taken away go, see `baseline_image.draw_baseline` (leaf)"""
    start_blur: Any = 5.0
    """Gaussian blur of the image that the second path starts from, in pixels at 224 (leaf)"""
    reduction: str = field(default="signed", metadata=STATIC)
    """a name of `attribution.REDUCTIONS`"""

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown baseline or reduction."""
        check_above_zero("step_share", self.step_share, below=1.0)
        for name in ("step_bound", "start_blur"):
            check_above_zero(name, getattr(self, name))
        if not _is_zero(self.momentum):
            check_above_zero("momentum", self.momentum, below=1.0)
        check_baseline(self.removed)
        check_reduction(self.reduction)


class Walk(NamedTuple):
    """What is carried along a path."""

    place: Image
    left: Bool[Array, "h w"]
    """pixels that have not arrived"""
    direction: Float[Array, "h w c"]
    """the running mean of the gradients"""
    attribution: Float[Array, "h w c"]
    steps: Int[Array, ""]


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: SAMP | None = None,
    trace: bool = False,
) -> Explanation:
    """S = sum_c sum_t v_t (x_t+1 - x_t) over the path that shows, minus that which takes away.

    v_t = m v_t-1 + (1 - m) d g / d x (x_t), v_0 the gradient. A step moves the `step_share` of all
    pixels whose sum_c v (end - x) is greatest (least, where it takes away) to their end, or, where
    that is longer than the bound, each a part of the way. Image [h, w, c] in [0, 1]. One evaluation
    with a gradient a step: at least 1 / `step_share`, at most that and 1 / (`step_share`
    `step_bound`) more, for each of two paths, which run side by side. Raises InputError for a
    config that is not valid."""
    config = config or SAMP()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    removed = draw_baseline(predict, image, config.removed, key=problem.key)
    blurred = gaussian_blur(image, config.start_blur * scale_of(image))
    starts, ends = jnp.stack([image, blurred]), jnp.stack([removed, image])

    def one(start: Image, end: Image, sign: Array) -> Walk:
        return walk(predict, start, end, problem.target, sign, node=node, config=config)

    signs = jnp.asarray([-1.0, 1.0])
    last = jax.vmap(one)(starts, ends, signs)
    attribution = (signs[:, None, None, None] * last.attribution).sum(axis=0)
    return make_explanation(
        predict,
        problem,
        attribution,
        node=node,
        reduction=config.reduction,
        evaluations=last.steps.sum(),
    )


def walk(
    predict: Predict,
    start: Image,
    end: Image,
    target: Int[Array, ""],
    sign: Float[Array, ""] | float,
    *,
    node: str | Node,
    config: SAMP,
) -> Walk:
    """The path from `start` to `end` that changes the node fastest, upwards where `sign` is 1."""
    pixels = start.shape[0] * start.shape[1]
    count = max(1, round(config.step_share * pixels))
    bound = config.step_bound * jnp.abs(end - start).sum() * count / pixels
    gradient_of = canonical(lambda x: input_gradient(predict, x, target, node=node))

    def take_step(at: Walk) -> Walk:
        gradient = gradient_of(at.place)
        mixed = config.momentum * at.direction + (1.0 - config.momentum) * gradient
        direction = jnp.where(at.steps == 0, gradient, mixed)
        way = end - at.place
        gain = jnp.where(at.left, sign * (direction * way).sum(axis=-1), -jnp.inf)
        # NaN would be sorted first and be moved again and again
        gain = jnp.where(jnp.isnan(gain), 0.0, gain)
        _, chosen = jax.lax.top_k(gain.reshape(-1), count)
        moved = jnp.zeros(pixels, bool).at[chosen].set(True).reshape(gain.shape) & at.left
        length = (jnp.abs(way).sum(axis=-1) * moved).sum()
        whole = ~(length > bound)  # a NaN arrives, or the path had no end
        part = jnp.where(whole, 1.0, bound / jnp.where(whole, 1.0, length))
        step = jnp.where(moved[..., None], part * way, 0.0)
        arrived = moved & whole
        place = jnp.where(arrived[..., None], end, at.place + step)
        attribution = at.attribution + direction * step
        return Walk(place, at.left & ~arrived, direction, attribution, at.steps + 1)

    none = jnp.zeros_like(start)
    begun = Walk(start, (start != end).any(axis=-1), none, none, jnp.int32(0))
    return jax.lax.while_loop(lambda at: at.left.any(), take_step, begun)


def _is_zero(value: Any) -> bool:
    return not isinstance(value, jax.core.Tracer) and value == 0


METHOD = Method("samp", explain, SAMP, "probability", is_pixelwise=True)
