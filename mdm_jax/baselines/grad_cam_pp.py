"""Grad-CAM++ (Chattopadhyay et al., arXiv 1710.11063): every instance of a class counts alike."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.cam import CAMConfig, weigh_gradients
from mdm_jax.types import Explanation, Image, Method, Node, Predict

# Keeps the denominator from zero, as in pytorch-grad-cam.
EPSILON = 1e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GradCAMPlusPlus(CAMConfig):
    """Grad-CAM++: the layer that it looks at."""


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: GradCAMPlusPlus | None = None,
    trace: bool = False,
) -> Explanation:
    """S = relu(sum_k w_k A_k), w_k = sum_ij alpha_kij relu(G_kij), G = d g / d A.

    One evaluation with a gradient. alpha = G^2 / (2 G^2 + (sum_ab A_kab) G^3), zero where G is: the
    paper's equation 19, which takes the score to be the exponential of `g`, the logit. The sum over
    activations is the paper's (pytorch-grad-cam's too; xplique takes the mean). Image [h, w, c] in
    [0, 1]. Raises InputError for a network without the layer."""
    return weigh_gradients(
        predict, image, target, node=node, key=key, config=config, combine=combine
    )


def combine(
    maps: Float[Array, "gh gw c"], gradients: Float[Array, "gh gw c"]
) -> Float[Array, "gh gw"]:
    """relu(sum_k w_k A_k) with the weights above."""
    square = gradients**2
    alpha = square / (2.0 * square + maps.sum(axis=(0, 1)) * gradients**3 + EPSILON)
    weighted = jnp.where(gradients == 0.0, 0.0, alpha * jnp.maximum(gradients, 0.0))
    weights = weighted.sum(axis=(0, 1))
    return jnp.maximum((weights * maps).sum(axis=-1), 0.0)


METHOD = Method("grad_cam_pp", explain, GradCAMPlusPlus, "logit")
