"""Gradient-weighted attention (Chefer, Gur, Wolf, arXiv 2103.15679), followed over all blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.attribution import make_explanation
from mdm_jax.baselines.rollout import class_row
from mdm_jax.errors import find_renamed
from mdm_jax.execution import intermediates
from mdm_jax.problem import activation, begin
from mdm_jax.types import Explanation, Image, Method, Node, Predict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chefer:
    """The rule for self-attention has nothing to choose."""

    def check(self) -> None:
        """Nothing can be wrong."""


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: Chefer | None = None,
    trace: bool = False,
) -> Explanation:
    """S = R[class token, patches], with R = I, then R <- R + mean_h relu(d g / d A_h * A_h) R.

    The update is done for every block (equations 5 and 6). A_h [t, t] is the attention of head h;
    one evaluation with a gradient. This is the authors' later rule for networks of self-attention,
    by gradients alone, not the relevance propagation of their arXiv 2012.09838. `g` is the logit.
    Image [h, w, c] in [0, 1]. Raises InputError for a network without attention."""
    predict = intermediates.with_attention(predict, image.shape)
    problem = begin(predict, image, target, node=node, key=key)
    program = intermediates.trace(predict, image.shape)

    def score(outputs: Any) -> Array:
        return activation(node, outputs, problem.target).sum()

    attention, gradients = intermediates.value_and_gradient(
        program, image, "attention", score
    )
    relevance = propagate(attention, gradients)
    return make_explanation(
        predict, problem, class_row(relevance, image)[..., None], node=node, evaluations=1
    )


def propagate(
    attention: list[Float[Array, "n t t"]], gradients: list[Float[Array, "n t t"]]
) -> Float[Array, "t t"]:
    """R of the equation above, from the first block to the last."""
    relevance = jnp.eye(attention[0].shape[-1])
    for each, gradient in zip(attention, gradients):
        weights = jnp.maximum((gradient * each).astype(jnp.float32), 0.0).mean(axis=0)
        relevance += jnp.matmul(weights, relevance, precision=jax.lax.Precision.HIGHEST)
    return relevance


METHOD = Method("chefer", explain, Chefer, "logit")
RENAMED = {"CheferConfig": "Chefer"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
