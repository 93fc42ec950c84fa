"""The node on an image seen through many masks: what the sampled methods estimate from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from mdm_jax.execution import chunked
from mdm_jax.problem import Problem, activation, blend
from mdm_jax.types import Image, Mask, Node, Predict


def masked_scores(
    predict: Predict,
    problem: Problem,
    background: Image,
    inputs: Any,
    render: Callable[[Any], Mask],
    *,
    node: str | Node,
    chunk: int,
) -> Float[Array, " n"]:
    """g(M_i * x + (1 - M_i) * x'), M_i = render(inputs_i), for each row of `inputs`.

    One forward evaluation a row, at most `chunk` at a time; only the masks of a chunk exist at
    once. A node of several numbers gives their sum.
    """

    def score(each: Any) -> Float[Array, ""]:
        batched = predict(blend(render(each)[None], problem.image, background))
        outputs = jax.tree.map(lambda leaf: leaf[0], batched)
        return activation(node, outputs, problem.target).sum()

    return chunked.map_over(score, inputs, chunk)
