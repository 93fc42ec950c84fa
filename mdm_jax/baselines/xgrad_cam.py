"""XGrad-CAM (Fu et al., arXiv 2008.02312): gradients averaged by where the map is active."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.cam import CAMConfig, weigh_gradients
from mdm_jax.types import Explanation, Image, Method, Node, Predict

# Added to the sum of a channel, as pytorch-grad-cam does: a channel of zeros weighs nothing.
EPSILON = 1e-7


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class XGradCAM(CAMConfig):
    """XGrad-CAM: the layer that it looks at."""


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: XGradCAM | None = None,
    trace: bool = False,
) -> Explanation:
    """S = relu(sum_k w_k A_k), w_k = sum_ij A_kij / (sum_ij A_kij) * d g / d A_kij.

    One evaluation with a gradient. `g` is the logit. The axioms of the paper hold for maps that are
    not negative; of tokens, which have both signs, a channel's sum can be close to zero and its
    weight large. Image [h, w, c] in [0, 1]. Raises InputError for a network without the layer.
    """
    return weigh_gradients(
        predict, image, target, node=node, key=key, config=config, combine=combine
    )


def combine(
    maps: Float[Array, "gh gw c"], gradients: Float[Array, "gh gw c"]
) -> Float[Array, "gh gw"]:
    """relu(sum_k (sum(G_k A_k) / sum(A_k)) A_k)."""
    total = maps.sum(axis=(0, 1))
    weights = (gradients * maps).sum(axis=(0, 1)) / (total + EPSILON)
    return jnp.maximum((weights * maps).sum(axis=-1), 0.0)


METHOD = Method("xgrad_cam", explain, XGradCAM, "logit")
