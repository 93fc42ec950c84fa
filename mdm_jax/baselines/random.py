"""Random map: uniform noise from the key, the least that every method must beat."""

from __future__ import annotations

from dataclasses import dataclass

import jax
from jaxtyping import Array, Int, Key

from mdm_jax.baselines.attribution import NoSettings, make_explanation
from mdm_jax.problem import begin
from mdm_jax.types import Explanation, Image, Method, Node, Predict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Random(NoSettings):
    """A random map has nothing to choose."""


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: Random | None = None,
    trace: bool = False,
) -> Explanation:
    """S(p) ~ U(0, 1), every pixel on its own; no evaluation. Image [h, w, c]."""
    problem = begin(predict, image, target, node=node, key=key)
    return make_explanation(
        predict, problem, jax.random.uniform(problem.key, (*image.shape[:2], 1)), node=node
    )


METHOD = Method("random", explain, Random, "probability")
