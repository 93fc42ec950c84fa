"""A network ready to use: a callable over images in [0, 1] with its class names and
preprocessing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.errors import InputError
from mdm_jax.types import AnyArray

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Classifier:
    """A network in inference mode over images in [0, 1]: `(logits, out) = classifier(images)`.

    `out` holds the intermediates by name (see the network's own docstring); the network computes in
    `dtype`, logits are float32. Keywords go to the network, such as `attention=True` to a
    Transformer."""

    network: Any
    name: str = field(metadata={"static": True})
    class_names: tuple[str, ...] = field(metadata={"static": True})
    preprocessing: Preprocessing = field(metadata={"static": True})
    dtype: str = field(default="float32", metadata={"static": True})

    def __call__(
        self, images: AnyArray, **request: Any
    ) -> tuple[Float[Array, "n classes"], dict[str, Any]]:
        images = jnp.asarray(images)
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(
                f"images are {images.dtype}: give floats in [0, 1], for 8-bit images images / 255"
            )
        exact = jnp.promote_types(images.dtype, jnp.float32)
        mean, std = (
            jnp.asarray(value, exact) for value in (self.preprocessing.mean, self.preprocessing.std)
        )
        normalized = (images.astype(exact) - mean) / std
        if self.dtype != "float32":
            normalized = normalized.astype(DTYPES[self.dtype])
        logits, out = self.network(normalized, **request)
        return logits.astype(exact), out
