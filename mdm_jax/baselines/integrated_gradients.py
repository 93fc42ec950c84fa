"""Integrated gradients (Sundararajan et al., arXiv 1703.01365): along the way from a baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.attribution import check_reduction, make_explanation
from mdm_jax.baselines.baseline_image import check_baseline, draw_baseline
from mdm_jax.baselines.gradient import input_gradient
from mdm_jax.errors import InputError, find_renamed, unknown
from mdm_jax.execution import chunked
from mdm_jax.problem import begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict

RULES = ("gauss_legendre", "trapezoid", "left", "middle", "right")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class IntegratedGradients:
    """captum: 50 steps of Gauss-Legendre from zero in normalized space. The paper starts from
    black, with 20 to 300 steps."""

    steps: int = field(default=50, metadata=STATIC)
    """gradients on the way"""
    rule: str = field(default="gauss_legendre", metadata=STATIC)
    """a name of `RULES`"""
    baseline: Any = "zero"
    """where the way begins, see `baseline_image.draw_baseline`; or a tuple of several, whose
    attributions are averaged (leaf)"""
    reduction: str = field(default="positive", metadata=STATIC)
    """a name of `attribution.REDUCTIONS`; the authors' code shows the positive part of the mean
    over channels"""
    chunk: int = field(default=chunked.CHUNK, metadata=STATIC)
    """gradients evaluated at a time"""

    @property
    def baselines(self) -> tuple[Any, ...]:
        """The baseline, or the several, as a tuple."""
        return self.baseline if isinstance(self.baseline, tuple) else (self.baseline,)

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown rule, baseline or reduction."""
        if self.rule not in RULES:
            raise unknown("rule", self.rule, RULES)
        chunked.check_count("steps", self.steps, least=2 if self.rule == "trapezoid" else 1)
        chunked.check_count("chunk", self.chunk)
        if not self.baselines:
            raise InputError(
                "baseline is an empty tuple: give at least one, for example 'zero'"
            )
        for each in self.baselines:
            check_baseline(each)
        check_reduction(self.reduction)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: IntegratedGradients | None = None,
    trace: bool = False,
) -> Explanation:
    """S = sum_c (x - x')_c * integral_0^1 d g / d x_c (x' + a (x - x')) da.

    Image [h, w, c] in [0, 1]. The attribution adds up to g(x) - g(x'), but for the error of the
    rule. `steps` evaluations with a gradient for each baseline."""
    config = config or IntegratedGradients()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    starts = config.baselines
    total = jnp.zeros_like(image)
    for baseline, own in zip(starts, chunked.keys(problem.key, len(starts))):
        start = draw_baseline(predict, image, baseline, key=own)
        total += integrate(
            predict, start, image, problem.target, node=node, **_options(config)
        )
    evaluations = config.steps * len(starts)
    return make_explanation(
        predict,
        problem,
        total / len(starts),
        node=node,
        reduction=config.reduction,
        evaluations=evaluations,
    )


def integrate(
    predict: Predict,
    start: Image,
    image: Image,
    target: Int[Array, ""],
    *,
    node: str | Node,
    steps: int = 50,
    rule: str = "gauss_legendre",
    chunk: int = chunked.CHUNK,
) -> Float[Array, "h w c"]:
    """(x - x') * sum_k w_k d g / d x (x' + a_k (x - x')), a_k and w_k of `quadrature`."""

    def weighted_gradient(step: tuple[Array, Array]) -> Array:
        point, weight = step
        x = start + point * (image - start)
        return weight * input_gradient(predict, x, target, node=node)

    points, weights = (
        jnp.asarray(values, image.dtype) for values in quadrature(rule, steps)
    )
    return (image - start) * chunked.sum_over(weighted_gradient, (points, weights), chunk)


def quadrature(rule: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [steps] in [0, 1] and weights [steps] that add up to one.

    The weights of captum's `riemann_trapezoid` add up to 1 - 1 / steps; these do not follow it.
    """
    if rule == "gauss_legendre":
        points, weights = np.polynomial.legendre.leggauss(steps)
        return (1 + points) / 2, weights / 2
    if rule == "trapezoid":
        weights = np.full(steps, 1 / (steps - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps), weights
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    offset = {"left": 0.0, "middle": 0.5, "right": 1.0}[rule]
    return (np.arange(steps) + offset) / steps, np.full(steps, 1 / steps)


def _options(config: IntegratedGradients) -> dict[str, Any]:
    return {"steps": config.steps, "rule": config.rule, "chunk": config.chunk}


METHOD = Method(
    "integrated_gradients", explain, IntegratedGradients, "logit", is_pixelwise=True
)
RENAMED = {"IntegratedGradientsConfig": "IntegratedGradients"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
