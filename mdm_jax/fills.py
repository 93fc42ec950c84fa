"""Fills: what replaces the masked-out pixels. A fill is `fill(image, *, key) -> image`, on one
image [h, w, c]."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key, Num

from mdm_jax import plugins
from mdm_jax.errors import InputError, unknown
from mdm_jax.images import gaussian_blur
from mdm_jax.types import Fill, Image, Scalar


def mean() -> Fill:
    """The image's mean color everywhere."""
    return _mean


def color(value: Num[Any, " c"] | float) -> Fill:
    """One given color, a number or one value per channel."""
    return Partial(_given, jnp.asarray(value, jnp.float32))


def given(array: Num[Any, "h w c"]) -> Fill:
    """A given image."""
    return Partial(_given, jnp.asarray(array, jnp.float32))


def blur(sigma: Scalar = 10.0) -> Fill:
    """The image, blurred by a Gaussian of `sigma` pixels: no edge is added, none is left."""
    return Partial(_blur, sigma=sigma)


def noise(scale: Scalar = 0.2) -> Fill:
    """Gaussian noise of standard deviation `scale` around the mean color, clipped to [0, 1]; drawn
    from the key."""
    return Partial(_noise, scale=scale)


def mixture(*choices: Any) -> Fill:
    """One of several fills, drawn from the key: with `redraw_fill` another one at every step."""
    return Partial(_mixture, tuple(map(resolve, choices)))


def neutral(predict: Any, channels: int) -> Float[Array, " c"]:
    """The color [c] that the network sees as zero: its preprocessing's mean where it has one (a
    `Classifier`), else 0.5.

    What others mean by black, who set pixels to zero after the images were normalized.
    """
    mean_color = getattr(getattr(predict, "preprocessing", None), "mean", 0.5)
    return jnp.broadcast_to(jnp.asarray(mean_color, jnp.float32), (channels,))


FILLS = {
    "mean": mean,
    "black": lambda: color(0.0),
    "gray": lambda: color(0.5),
    "blur": blur,
    "noise": noise,
}


def is_name(fill: Any) -> bool:
    """Whether it is a fill's name, or written as that of your own function."""
    return isinstance(fill, str) and (fill in FILLS or plugins.is_name(fill))


def resolve(fill: Any) -> Fill:
    """A fill from its name (or that of your own function, see `mdm_jax.plugins`), from an array (a
    color [c] or an image [h, w, c]), or the function that it is.

    Several names or functions, in a tuple, are their `mixture`; several numbers are a color.

    Raises InputError for anything else.
    """
    if isinstance(fill, str):
        if is_name(fill):
            return FILLS[fill]() if fill in FILLS else plugins.find(fill, "fill")
        raise unknown("fill", fill, FILLS)
    if isinstance(fill, jax.Array | np.ndarray | float | int):
        return Partial(_given, jnp.asarray(fill, jnp.float32))
    if isinstance(fill, tuple) and fill:
        numbers = all(isinstance(each, float | int) for each in fill)
        return resolve(np.asarray(fill, np.float32)) if numbers else mixture(*fill)
    if not callable(fill):
        raise InputError(
            f"fill is a {type(fill).__name__}: give a name, an array, or a function (image, *, key)"
            " -> image"
        )
    return fill


def in_turn(fill: Any) -> tuple[Fill, ...]:
    """The fills that take turns from step to step: several names or functions, each in its turn, or
    the one there is."""
    several = isinstance(fill, tuple) and not all(isinstance(each, float | int) for each in fill)
    return tuple(map(resolve, fill)) if several else (resolve(fill),)


def drawn(fill: Fill, image: Image, *, key: Key[Array, ""]) -> Image:
    """A fill of an image. Raises InputError for a function that gives another shape."""
    found = fill(image, key=key)
    if jnp.shape(found) != image.shape:
        raise InputError(
            f"the fill gives the shape {jnp.shape(found)} for an image {image.shape}: let it return"
            " as large a one"
        )
    return found


def _mean(image: Image, *, key: Key[Array, ""]) -> Image:
    del key
    return jnp.broadcast_to(image.mean(axis=(0, 1)), image.shape)


def _given(value: Float[Array, "..."], image: Image, *, key: Key[Array, ""]) -> Image:
    del key
    if value.shape not in ((), (1,), image.shape[2:], image.shape):
        raise InputError(
            f"the fill has shape {value.shape}: give one number, {image.shape[2:]} or {image.shape}"
        )
    return jnp.broadcast_to(value, image.shape)


def _mixture(choices: tuple[Fill, ...], image: Image, *, key: Key[Array, ""]) -> Image:
    which, key = jax.random.split(key)
    drawn = jnp.stack([fill(image, key=key) for fill in choices])
    return drawn[jax.random.randint(which, (), 0, len(choices))]


def _blur(image: Image, *, key: Key[Array, ""], sigma: Scalar) -> Image:
    del key
    return gaussian_blur(image, sigma)


def _noise(image: Image, *, key: Key[Array, ""], scale: Scalar) -> Image:
    drawn = image.mean(axis=(0, 1)) + scale * jax.random.normal(key, image.shape)
    return jnp.clip(drawn, 0.0, 1.0)
