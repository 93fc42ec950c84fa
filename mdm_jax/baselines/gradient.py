"""Gradient (Simonyan et al., arXiv 1312.6034): how much the node moves with each pixel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.attribution import check_reduction, make_explanation
from mdm_jax.errors import find_renamed
from mdm_jax.problem import activation, begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gradient:
    """The authors take the largest magnitude over the channels."""

    reduction: str = field(default="maximum", metadata=STATIC)
    """a name of `attribution.REDUCTIONS`"""

    def check(self) -> None:
        """Raises InputError for an unknown reduction."""
        check_reduction(self.reduction)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: Gradient | None = None,
    trace: bool = False,
) -> Explanation:
    """S = max_c |d g / d x_c|, one evaluation with a gradient. Image [h, w, c] in [0, 1]."""
    config = config or Gradient()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    gradient = input_gradient(predict, image, problem.target, node=node)
    return make_explanation(
        predict, problem, gradient, node=node, reduction=config.reduction, evaluations=1
    )


def input_gradient(
    predict: Predict, image: Image, target: Int[Array, ""], *, node: str | Node
) -> Float[Array, "h w c"]:
    """d g / d x at one image [h, w, c]."""

    def score(x: Array) -> Array:
        outputs = predict(x[None])
        return activation(node, jax.tree.map(lambda leaf: leaf[0], outputs), target).sum()

    return jax.grad(score)(image)


METHOD = Method("gradient", explain, Gradient, "logit", is_pixelwise=True)
RENAMED = {"GradientConfig": "Gradient"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
