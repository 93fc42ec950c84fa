"""Where the object is: masks and boxes of an image, checked for sense."""

from __future__ import annotations

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Float32

from mdm_jax import images
from mdm_jax.data.object_values import ObjectValues, two_valued
from mdm_jax.errors import InputError


def mask_from_image(
    drawn: PIL.Image.Image,
    image: PIL.Image.Image,
    name: str,
    object_values: ObjectValues | None = None,
) -> Bool[np.ndarray, "h w"]:
    """The pixels of `image` that its mask, an image of its own as it is stored, marks.

    They have the values that are named, else the only other value than that of the background. A
    mask that marks nothing says that nothing is there. Raises InputError for a mask of another
    size, and for one of several values of which none is named."""
    if drawn.size != image.size:
        sizes = "{}x{} for an image of {}x{}".format(*drawn.size, *image.size)
        raise InputError(f"the mask of {name} is {sizes}: give a mask of the same size")
    if object_values is not None:
        return object_values.mask(drawn)
    return two_valued(drawn, name)


def clip_boxes(
    boxes: Float[np.ndarray, "k 4"], image: PIL.Image.Image, name: str
) -> Float32[np.ndarray, "k 4"]:
    """Boxes (x0, y0, x1, y1) clipped to their image, in hundredths of a pixel.

    Raises InputError for one that is empty there."""
    clipped = np.clip(images.round_boxes(boxes), 0, [image.width, image.height] * 2)
    empty = (clipped[:, 2:] <= clipped[:, :2]).any(axis=1)
    if empty.any():
        first = boxes[int(np.flatnonzero(empty)[0])].tolist()
        corners = ", ".join(f"{value:g}" for value in first)
        raise InputError(
            f"a box of {name} is empty within the image of {image.width}x{image.height}: "
            f"x_min, y_min, x_max, y_max = {corners}"
        )
    return clipped.astype(np.float32)
