"""The baseline image: what some methods take for the absence of features."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from mdm_jax import fills
from mdm_jax.errors import unknown
from mdm_jax.types import Image, Predict

ZERO = "zero"


def draw_baseline(
    predict: Predict, image: Image, baseline: Any, *, key: Key[Array, ""]
) -> Image:
    """The baseline x' [h, w, c] in [0, 1] of one image.

    "zero" is the color that the network sees as zero (`fills.neutral_color`): what other libraries
    get by setting pixels to zero after images are normalized. Otherwise a fill of `mdm_jax.fills`:
    "black", "blur", ..., a color, an image or a function.
    """
    if isinstance(baseline, str) and baseline == ZERO:
        color = fills.neutral_color(predict, image.shape[-1])
        return jnp.broadcast_to(color, image.shape).astype(image.dtype)
    return fills.resolve(baseline)(image, key=key)


def check_baseline(baseline: Any) -> None:
    """Raises InputError for what is neither "zero" nor a fill."""
    if isinstance(baseline, str) and baseline == ZERO:
        return
    if isinstance(baseline, str) and not fills.is_name(baseline):
        raise unknown("baseline", baseline, [ZERO, *fills.FILLS])
    fills.resolve(baseline)
