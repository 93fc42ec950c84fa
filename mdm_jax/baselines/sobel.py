"""Sobel: the edges of the image.

A map that explains the network must differ from it (Adebayo et al., arXiv 1810.03292).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.attribution import NoSettings, make_explanation
from mdm_jax.problem import begin
from mdm_jax.types import Explanation, Image, Mask, Method, Node, Predict

# Weights of red, green and blue in gray (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sobel(NoSettings):
    """Edges have nothing to choose."""


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: Sobel | None = None,
    trace: bool = False,
) -> Explanation:
    """S = |Sobel(gray image)|; no evaluation. Image [h, w, c]."""
    problem = begin(predict, image, target, node=node, key=key)
    return make_explanation(predict, problem, edges(gray(image))[..., None], node=node)


def gray(image: Image) -> Mask:
    """Red, green and blue as one brightness [h, w]; the mean over any other number of channels."""
    if image.shape[-1] == 3:
        return (image * jnp.asarray(LUMA, image.dtype)).sum(axis=-1)
    return image.mean(axis=-1)


def edges(brightness: Float[Array, "h w"]) -> Mask:
    """sqrt(Gx^2 + Gy^2), G = [1, 2, 1]^T [-1, 0, 1] / 8 and its transpose; the border is held."""
    b = jnp.pad(brightness, 1, mode="edge")
    across = b[:-2] + 2 * b[1:-1] + b[2:]
    along = b[:, :-2] + 2 * b[:, 1:-1] + b[:, 2:]
    return jnp.hypot(across[:, 2:] - across[:, :-2], along[2:] - along[:-2]) / 8


METHOD = Method("sobel", explain, Sobel, "probability")
