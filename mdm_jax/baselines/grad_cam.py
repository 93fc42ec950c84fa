"""Grad-CAM (Selvaraju et al., arXiv 1610.02391): channels weighted by their mean gradients."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.cam import CAMConfig, weigh_gradients
from mdm_jax.types import Explanation, Image, Method, Node, Predict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GradCAM(CAMConfig):
    """Grad-CAM: the layer that it looks at."""


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: GradCAM | None = None,
    trace: bool = False,
) -> Explanation:
    """S = relu(sum_k w_k A_k), w_k = mean_ij d g / d A_kij (equations 1 and 2).

    One evaluation with a gradient. `g` is the logit. Image [h, w, c] in [0, 1]. Raises InputError
    for a network without the layer.
    """
    return weigh_gradients(
        predict, image, target, node=node, key=key, config=config, combine=combine
    )


def combine(
    maps: Float[Array, "gh gw c"], gradients: Float[Array, "gh gw c"]
) -> Float[Array, "gh gw"]:
    """relu(sum_k mean(G_k) A_k)."""
    return jnp.maximum((gradients.mean(axis=(0, 1)) * maps).sum(axis=-1), 0.0)


METHOD = Method("grad_cam", explain, GradCAM, "logit")
