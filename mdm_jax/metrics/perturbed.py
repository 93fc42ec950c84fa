"""What a network says about altered copies of one image: what all metrics of faithfulness are made
of."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax import problem
from mdm_jax.types import AnyArray, Node, Predict

VALUES_ON_CPU, VALUES_ON_ACCELERATOR = 2**18, 2**22
"""numbers in the altered copies that are evaluated at a time where no `chunk` is given: on CPU 21
copies of 64x64x3, beyond which the caches overflow and each takes twice as long, and 1 of
224x224x3; on an accelerator 341 and 27"""


def score(
    predict: Predict,
    image: Float[AnyArray, "h w c"],
    target: Any,
    *,
    node: str | Node = "probability",
) -> Float[Array, ""]:
    """The node of one image, by default the softmax probability of the class `target`; NaN where
    the network's output is."""
    outputs = predict(jnp.asarray(image)[None])
    return problem.activation(
        node, jax.tree.map(lambda leaf: leaf[0], outputs), jnp.asarray(target)
    )


def chunk_for(shape: tuple[int, ...], chunk: int | None = None) -> int:
    """Copies of an image of `shape` to evaluate at a time: `chunk`, or what the device does
    well."""
    values = VALUES_ON_CPU if jax.default_backend() == "cpu" else VALUES_ON_ACCELERATOR
    return chunk or max(1, values // math.prod(shape))


def ranks(saliency: Float[AnyArray, "h w"]) -> Int[Array, "h w"]:
    """Each pixel's place [h, w] by descending saliency, 0 for the greatest; ties go row by row from
    the upper left.

    A constant map is therefore read as text is.
    """
    order = jnp.argsort(-saliency.reshape(-1), stable=True)
    places = (
        jnp.zeros(order.shape, jnp.int32)
        .at[order]
        .set(jnp.arange(order.size, dtype=jnp.int32), unique_indices=True)
    )
    return places.reshape(saliency.shape)


def unless_nan(map_: Float[AnyArray, "h w"], value: Float[Array, "..."]) -> Float[Array, "..."]:
    """The value, or NaN where the map holds a NaN or infinity, which sorting and comparing would
    hide."""
    return jnp.where(jnp.isfinite(map_).all(), value, jnp.nan)
