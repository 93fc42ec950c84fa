"""A network ready to use: a callable over images in [0, 1], its class names and preprocessing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from jaxtyping import Array, Float, Float32

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

    def __repr__(self) -> str:
        """In one line: the class names alone may be thousands."""
        size = "x".join(map(str, self.preprocessing.size))
        return (
            f"Classifier({self.name!r}, {type(self.network).__name__},"
            f" {len(self.class_names)} classes, {size} pixels, {self.dtype})"
        )

    def preprocess(self, photograph: PIL.Image.Image) -> Float32[np.ndarray, "h w c"]:
        """A photograph of any size as the network's input, in [0, 1]: see `Preprocessing.fit`."""
        return self.preprocessing.fit(photograph)

    def __call__(
        self, images: AnyArray, **request: Any
    ) -> tuple[Float[Array, "n classes"], dict[str, Any]]:
        images = jnp.asarray(images)
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(
                f"images are {images.dtype}: give floats in [0, 1], for 8-bit images images / 255"
            )
        # Normalized in float32 or wider and narrowed then: bfloat16 holds a pixel to 1/256.
        exact = jnp.promote_types(images.dtype, jnp.float32)
        mean = jnp.asarray(self.preprocessing.mean, exact)
        std = jnp.asarray(self.preprocessing.std, exact)
        normalized = (images.astype(exact) - mean) / std
        if self.dtype != "float32":
            normalized = normalized.astype(DTYPES[self.dtype])
        logits, out = self.network(normalized, **request)
        return logits.astype(exact), out
