"""Intermediates as maps [h, w, c]: feature maps as they are, tokens of patches in their grid."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.errors import InputError

# Class, distillation and register tokens before those of the patches, at most.
MAX_EXTRA_TOKENS = 16


def as_map(value: Any, size: tuple[int, ...], name: str) -> Float[Array, "gh gw c"]:
    """An intermediate as a map [gh, gw, c] in float32.

    A map stays as it is; of tokens [t, c] those of the patches are kept, in a grid of the
    proportions of the image, whose (height, width) is `size`. Raises InputError for anything else.
    """
    shape = getattr(value, "shape", None)
    if shape is not None and len(shape) == 3:
        return value.astype(jnp.float32)
    grid = patch_grid(shape[0], size) if shape is not None and len(shape) == 2 else None
    if shape is None or grid is None:
        kind = "a list" if shape is None else f"of shape {tuple(shape)}"
        raise InputError(
            f"out[{name!r}] is {kind} for one image: a CAM needs a map [h, w, c], or tokens [t, c]"
            " whose last h * w are the patches in the image's proportions"
        )
    height, width = grid
    return value[shape[0] - height * width :].reshape(height, width, -1).astype(jnp.float32)


def patch_grid(tokens: int, size: tuple[int, ...]) -> tuple[int, int] | None:
    """Rows and columns of patches among `tokens` in an image of `size`, or None.

    With as few extra tokens as possible.
    """
    for extra in range(min(MAX_EXTRA_TOKENS, tokens - 1) + 1):
        patches = tokens - extra
        height = round((patches * size[0] / size[1]) ** 0.5)
        if not height or patches % height:
            continue
        width = patches // height
        if height * size[1] == width * size[0]:
            return height, width
    return None


def is_map(entry: Any) -> bool:
    """Whether a traced value is a map [n, h, w, c] of more than one pixel a side."""
    shape: tuple[int, ...] = getattr(getattr(entry, "aval", None), "shape", ())
    return len(shape) == 4 and min(shape[1:3]) > 1


def is_patch_tokens(entry: Any, size: tuple[int, ...]) -> bool:
    """Whether a traced value is [n, t, c] with tokens of patches of an image of `size`."""
    shape: tuple[int, ...] = getattr(getattr(entry, "aval", None), "shape", ())
    return len(shape) == 3 and patch_grid(shape[1], size) is not None
