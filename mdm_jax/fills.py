"""Fills: what replaces the masked-out pixels.

A fill is `fill(image, *, key) -> image`, on one image [h, w, c]. Several at once are two different
things: a tuple of fills takes turns, one after the other from step to step (`resolve_turns`), while
a `mixture` is a single fill that draws one of several at random.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key, Num

from mdm_jax import plugins
from mdm_jax.errors import InputError, find_renamed, unknown
from mdm_jax.images import gaussian_blur
from mdm_jax.types import Fill, Image, Scalar


def mean() -> Fill:
    """The image's mean color everywhere."""
    return _mean


def color(value: Num[Any, " c"] | float) -> Fill:
    """One given color, a number or one value per channel."""
    return Partial(_given, jnp.asarray(value, jnp.float32))


def image(array: Num[Any, "h w c"]) -> Fill:
    """A given image, the same for every image that is explained."""
    return Partial(_given, jnp.asarray(array, jnp.float32))


def blur(sigma: Scalar = 10.0) -> Fill:
    """The image, blurred by a Gaussian of `sigma` pixels: it adds no edge and leaves none."""
    return Partial(_blur, sigma=sigma)


def noise(scale: Scalar = 0.2) -> Fill:
    """Gaussian noise of standard deviation `scale` around the mean color, clipped to [0, 1]."""
    return Partial(_noise, scale=scale)


def mixture(*choices: Any) -> Fill:
    """One of several fills, drawn from the key: with `redraw_fill` another one at every step."""
    return Partial(_mixture, tuple(map(resolve, choices)))


def neutral_color(predict: Any, channels: int) -> Float[Array, " c"]:
    """The color [c] that the network sees as zero.

    It is the mean of the preprocessing where the network has one (a `Classifier`), else 0.5: the
    black of those who set pixels to zero after the images were normalized.
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
    return isinstance(fill, str) and (fill in FILLS or plugins.is_reference(fill))


def resolve(fill: Any) -> Fill:
    """One fill, from its name, a color, an image, or the function that it is.

    A name may be that of your own function, see `mdm_jax.plugins`. A color is a number, or [c] as
    an array or a tuple of numbers; an image is [h, w, c]. Raises InputError for anything else.
    """
    if isinstance(fill, str):
        if fill in FILLS:
            return FILLS[fill]()
        if plugins.is_reference(fill):
            return plugins.load_function(fill, "fill")
        raise unknown("fill", fill, FILLS)
    if _takes_turns(fill):
        raise InputError(
            f"several fills, {fill!r}, take turns from step to step, and here one is needed: give"
            " one, or fills.mixture(...) to draw one of them at random"
        )
    if isinstance(fill, tuple) and fill:
        return resolve(np.asarray(fill, np.float32))
    if isinstance(fill, jax.Array | np.ndarray | float | int):
        return Partial(_given, jnp.asarray(fill, jnp.float32))
    if not callable(fill):
        raise InputError(
            f"fill is a {type(fill).__name__}: give a name, an array, or a function (image, *, key)"
            " -> image"
        )
    return fill


def resolve_turns(fill: Any) -> tuple[Fill, ...]:
    """The fills that take turns from step to step: those of a tuple in order, or the one fill."""
    if _takes_turns(fill):
        return tuple(map(resolve, fill))
    return (resolve(fill),)


def draw(fill: Fill, image: Image, *, key: Key[Array, ""]) -> Image:
    """The fill of an image. Raises InputError for a function that returns another shape."""
    filled = fill(image, key=key)
    if jnp.shape(filled) != image.shape:
        raise InputError(
            f"the fill returns the shape {jnp.shape(filled)} for an image {image.shape}: return an"
            " image of the same shape"
        )
    return filled


def _takes_turns(fill: Any) -> bool:
    """Whether it is several fills; a tuple of numbers is one color."""
    is_color = isinstance(fill, tuple) and all(
        isinstance(each, float | int) for each in fill
    )
    return isinstance(fill, tuple) and not is_color


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
    choice_key, key = jax.random.split(key)
    filled = jnp.stack([fill(image, key=key) for fill in choices])
    return filled[jax.random.randint(choice_key, (), 0, len(choices))]


def _blur(image: Image, *, key: Key[Array, ""], sigma: Scalar) -> Image:
    del key
    return gaussian_blur(image, sigma)


def _noise(image: Image, *, key: Key[Array, ""], scale: Scalar) -> Image:
    noisy = image.mean(axis=(0, 1)) + scale * jax.random.normal(key, image.shape)
    return jnp.clip(noisy, 0.0, 1.0)


# What fills are made of, by the id under which stored folders know it.
FUNCTIONS = {
    "mean": _mean,
    "given": _given,
    "blur": _blur,
    "noise": _noise,
    "mixture": _mixture,
}

RENAMED = {"given": "image", "neutral": "neutral_color"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
