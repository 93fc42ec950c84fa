"""HiResCAM (Draelos, Carin, arXiv 2011.08891): every place weighted by its own gradient."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.cam import CAMConfig, weigh_gradients
from mdm_jax.types import Explanation, Image, Method, Node, Predict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HiResCAM(CAMConfig):
    """HiResCAM: the layer that it looks at."""


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: HiResCAM | None = None,
    trace: bool = False,
) -> Explanation:
    """S = relu(sum_k d g / d A_k * A_k), element by element.

    One evaluation with a gradient. `g` is the logit. Behind a layer that a single linear layer
    follows, the sum over places is the logit without its bias: the map shows exactly what the
    network used. The relu is that of pytorch-grad-cam. Image [h, w, c] in [0, 1]. Raises InputError
    for a network without the layer.
    """
    return weigh_gradients(
        predict, image, target, node=node, key=key, config=config, combine=combine
    )


def combine(
    maps: Float[Array, "gh gw c"], gradients: Float[Array, "gh gw c"]
) -> Float[Array, "gh gw"]:
    """relu(sum_k G_k * A_k)."""
    return jnp.maximum((gradients * maps).sum(axis=-1), 0.0)


METHOD = Method("hires_cam", explain, HiResCAM, "logit")
