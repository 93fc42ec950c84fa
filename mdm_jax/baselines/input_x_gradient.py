"""Input times gradient (Shrikumar et al., arXiv 1605.01713): first-order effects of pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
from jaxtyping import Array, Int, Key

from mdm_jax.baselines.attribution import check_reduction, make_explanation
from mdm_jax.baselines.baseline_image import check_baseline, draw_baseline
from mdm_jax.baselines.gradient import input_gradient
from mdm_jax.errors import find_renamed
from mdm_jax.problem import begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class InputXGradient:
    """The libraries (captum, xplique) multiply the input that the network has normalized: baseline
    "zero"."""

    baseline: Any = "zero"
    """what the input is measured from, see `baseline_image.draw_baseline`; "black" gives x *
    gradient in [0, 1] (leaf)"""
    reduction: str = field(default="positive", metadata=STATIC)
    """a name of `attribution.REDUCTIONS`"""

    def check(self) -> None:
        """Raises InputError for an unknown baseline or reduction."""
        check_baseline(self.baseline)
        check_reduction(self.reduction)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: InputXGradient | None = None,
    trace: bool = False,
) -> Explanation:
    """S = sum_c (x - x')_c * d g / d x_c. Image [h, w, c] in [0, 1].

    One evaluation with a gradient. With z = (x - mean) / std inside the network, (x - mean) * dg/dx
    = z * dg/dz: the baseline "zero" gives exactly the product that others take in normalized
    space."""
    config = config or InputXGradient()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    gradient = input_gradient(predict, image, problem.target, node=node)
    attribution = (
        image - draw_baseline(predict, image, config.baseline, key=problem.key)
    ) * gradient
    return make_explanation(
        predict, problem, attribution, node=node, reduction=config.reduction, evaluations=1
    )


METHOD = Method("input_x_gradient", explain, InputXGradient, "logit", is_pixelwise=True)
RENAMED = {"InputXGradientConfig": "InputXGradient"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
