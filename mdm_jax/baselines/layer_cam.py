"""LayerCAM (Jiang et al., IEEE TIP 2021): every position weighted by its own positive gradient."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.cam import CAMConfig, weigh_gradients
from mdm_jax.types import Explanation, Image, Method, Node, Predict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LayerCAM(CAMConfig):
    """LayerCAM: the layer that it looks at."""


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: LayerCAM | None = None,
    trace: bool = False,
) -> Explanation:
    """S = relu(sum_k relu(d g / d A_k) * A_k), element by element.

    One evaluation with a gradient. `g` is the logit. Image [h, w, c] in [0, 1]. In early layers the
    maps are fine; the default layer is the last, as for the other CAMs. Raises InputError for a
    network without the layer."""
    return weigh_gradients(
        predict, image, target, node=node, key=key, config=config, combine=combine
    )


def combine(
    maps: Float[Array, "gh gw c"], gradients: Float[Array, "gh gw c"]
) -> Float[Array, "gh gw"]:
    """relu(sum_k relu(G_k) * A_k)."""
    return jnp.maximum((jnp.maximum(gradients, 0.0) * maps).sum(axis=-1), 0.0)


METHOD = Method("layer_cam", explain, LayerCAM, "logit")
