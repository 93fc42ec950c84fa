"""Attention rollout (Abnar, Zuidema, arXiv 2005.00928): flow of patches to the class token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.attribution import make_explanation
from mdm_jax.baselines.cam import resize_to_image
from mdm_jax.errors import InputError, find_renamed, unknown
from mdm_jax.execution import feature_maps, intermediates
from mdm_jax.problem import begin
from mdm_jax.types import (
    STATIC,
    Explanation,
    Image,
    Method,
    Node,
    Predict,
    is_concrete_number,
)

# How the attention of the heads [heads, t, t] becomes one [t, t].
FUSIONS: dict[str, Callable[[Array], Array]] = {
    "mean": lambda attention: attention.mean(axis=0),
    "max": lambda attention: attention.max(axis=0),
    "min": lambda attention: attention.min(axis=0),
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rollout:
    """The paper's by default: the mean of the heads, nothing discarded."""

    fusion: str = field(default="mean", metadata=STATIC)
    """a name of `FUSIONS`"""
    discard_ratio: Any = 0.0
    """fraction of each block's entries, the smallest, that is set to zero (leaf); vit-explain's
    default is 0.9"""

    def check(self) -> None:
        """Raises InputError for an unknown fusion and for a share outside [0, 1)."""
        if self.fusion not in FUSIONS:
            raise unknown("fusion", self.fusion, FUSIONS)
        if is_concrete_number(self.discard_ratio) and not 0 <= self.discard_ratio < 1:
            raise InputError(
                f"discard_ratio is {self.discard_ratio}: give a share from 0 to below 1"
            )


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: Rollout | None = None,
    trace: bool = False,
) -> Explanation:
    """S = (B_L ... B_2 B_1)[class token, patches], B_l = rows of (A_l + I) divided by their sums.

    One forward evaluation. A_l [t, t] is the attention of block l, its heads fused; node and target
    play no part. vit-explain divides columns where it means rows (`a / a.sum(-1)`); rows here.
    Image [h, w, c] in [0, 1]. Raises InputError for a network without attention."""
    config = config or Rollout()
    config.check()
    predict = intermediates.with_attention(predict, image.shape)
    problem = begin(predict, image, target, node=node, key=key)
    outputs = predict(image[None])
    fuse = FUSIONS[config.fusion]
    fused = [fuse(each[0].astype(jnp.float32)) for each in outputs[1]["attention"]]
    rolled = roll([discard(each, config.discard_ratio) for each in fused])
    return make_explanation(
        predict, problem, class_row(rolled, image)[..., None], node=node, forwards=1
    )


def roll(attention: list[Float[Array, "t t"]]) -> Float[Array, "t t"]:
    """The product of the blocks' attention, with skip connections and rows that sum to one."""
    result = jnp.eye(attention[0].shape[-1])
    for each in attention:
        with_skip = each + jnp.eye(each.shape[-1])
        normalized = with_skip / with_skip.sum(axis=-1, keepdims=True)
        result = jnp.matmul(normalized, result, precision=jax.lax.Precision.HIGHEST)
    return result


def discard(attention: Float[Array, "t t"], ratio: Any) -> Float[Array, "t t"]:
    """The smallest entries, a fraction `ratio`, set to zero, but not the class token's own.

    As vit-explain does it.
    """
    flat = attention.reshape(-1)
    rank = jnp.argsort(jnp.argsort(flat))
    dropped = (rank < jnp.floor(flat.size * ratio)) & (jnp.arange(flat.size) > 0)
    return jnp.where(dropped, 0.0, flat).reshape(attention.shape)


def class_row(relevance: Float[Array, "t t"], image: Image) -> Float[Array, "h w"]:
    """The relevance of each patch for the class token, the first, at the size of the image."""
    size = (image.shape[0], image.shape[1])
    row = feature_maps.as_map(relevance[0][:, None], size, "attention")
    return resize_to_image(row[..., 0], image)


METHOD = Method("rollout", explain, Rollout, "logit")
RENAMED = {"RolloutConfig": "Rollout"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
