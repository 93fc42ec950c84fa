"""Scores of altered copies of one image: what all metrics of faithfulness are made of."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import rankdata
from jaxtyping import Array, Float, Int

from mdm_jax import problem
from mdm_jax.types import AnyArray, Node, Predict

# Numbers in the altered copies that are evaluated at a time where no `chunk` is given: on CPU 21
# copies of 64x64x3, beyond which the caches overflow and each takes twice as long, and 1 of
# 224x224x3; on an accelerator 341 and 27.
VALUES_ON_CPU, VALUES_ON_ACCELERATOR = 2**18, 2**22


def score(
    predict: Predict,
    image: Float[AnyArray, "h w c"],
    target: Any,
    *,
    node: str | Node = "probability",
) -> Float[Array, ""]:
    """The node of one image, by default the softmax probability of the class `target`.

    NaN where the network's output is not finite.
    """
    batched = predict(jnp.asarray(image)[None])
    outputs = jax.tree.map(lambda leaf: leaf[0], batched)
    return problem.activation(node, outputs, jnp.asarray(target))


def chunk_for(shape: tuple[int, ...], chunk: int | None = None) -> int:
    """Copies of an image of `shape` to evaluate at a time: `chunk`, or what suits the device."""
    values = VALUES_ON_CPU if jax.default_backend() == "cpu" else VALUES_ON_ACCELERATOR
    return chunk or max(1, values // math.prod(shape))


def ranks(saliency: Float[AnyArray, "h w"]) -> Int[Array, "h w"]:
    """Each pixel's rank [h, w] by descending saliency, 0 for the greatest.

    Ties go row by row from the upper left, so a constant map is read as text is.
    """
    ordinal = rankdata(-saliency.reshape(-1), method="ordinal")
    return (ordinal - 1).astype(jnp.int32).reshape(saliency.shape)


def unless_nan(
    map_: Float[AnyArray, "h w"], value: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The value, or NaN where the map is not finite, which sorting and comparing would hide."""
    return jnp.where(jnp.isfinite(map_).all(), value, jnp.nan)
