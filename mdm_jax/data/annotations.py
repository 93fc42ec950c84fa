"""Where the object is: masks and boxes of an image, checked for sense."""

from __future__ import annotations

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Float32

from mdm_jax.errors import InputError


def mask_from_image(
    drawn: PIL.Image.Image, image: PIL.Image.Image, name: str
) -> Bool[np.ndarray, "h w"]:
    """The pixels of `image` that its mask, an image of its own, marks with values above 127.

    A mask that marks nothing says that nothing is there. Raises InputError for a mask of another
    size, and for one that marks nothing with 255 but has other values."""
    if drawn.size != image.size:
        sizes = "{}x{} for an image of {}x{}".format(*drawn.size, *image.size)
        raise InputError(f"the mask of {name} is {sizes}: give a mask of the same size")
    values = np.asarray(drawn.convert("L"))
    low, high = int(values.min()), int(values.max())
    # Drawn with 1 on 0, or with numbers of classes: to read it as empty would be wrong.
    if 0 < high <= 127:
        raise InputError(
            f"the mask of {name} has values from {low} to {high}: draw the object in 255 on 0"
        )
    return values > 127


def clip_boxes(
    boxes: Float[np.ndarray, "k 4"], image: PIL.Image.Image, name: str
) -> Float32[np.ndarray, "k 4"]:
    """Boxes (x0, y0, x1, y1) clipped to their image, in hundredths of a pixel.

    Raises InputError for one that is empty there."""
    # Rounded first: shares of an image, as tfds stores boxes, do not give back whole pixels.
    clipped = np.clip(np.round(boxes, 2), 0, [image.width, image.height] * 2)
    empty = (clipped[:, 2:] <= clipped[:, :2]).any(axis=1)
    if empty.any():
        first = boxes[int(np.flatnonzero(empty)[0])].tolist()
        corners = ", ".join(f"{value:g}" for value in first)
        raise InputError(
            f"a box of {name} is empty within the image of {image.width}x{image.height}: "
            f"x_min, y_min, x_max, y_max = {corners}"
        )
    return clipped.astype(np.float32)
