"""Where the object is: masks and boxes of an image, checked for sense."""

from __future__ import annotations

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Float32

from mdm_jax.errors import InputError


def mask_from_image(
    drawn: PIL.Image.Image, image: PIL.Image.Image, shown: str
) -> Bool[np.ndarray, "h w"]:
    """The pixels of `image` that its mask file marks, values above 127; none marked means that
    nothing is there.

    Raises InputError for a mask of another size, and for one that marks nothing with 255 but has
    other values."""
    if drawn.size != image.size:
        sizes = "{}x{} for an image of {}x{}".format(*drawn.size, *image.size)
        raise InputError(f"the mask of {shown} is {sizes}: give a mask of the same size")
    values = np.asarray(drawn.convert("L"))
    if (
        0 < (top := int(values.max())) <= 127
    ):  # 0 and 1, or numbers of classes: reading it as empty would be wrong
        raise InputError(
            f"the mask of {shown} has values from {int(values.min())} to {top}: draw the object in"
            " 255 on 0"
        )
    return values > 127


def clip_boxes(
    boxes: Float[np.ndarray, "k 4"], image: PIL.Image.Image, shown: str
) -> Float32[np.ndarray, "k 4"]:
    """Boxes (x0, y0, x1, y1) clipped to their image, in hundredths of a pixel. Raises InputError
    for an empty one."""
    clipped = np.clip(np.round(boxes, 2), 0, [image.width, image.height] * 2)
    empty = (clipped[:, 2:] <= clipped[:, :2]).any(axis=1)
    if empty.any():
        worst = boxes[int(np.flatnonzero(empty)[0])].tolist()
        raise InputError(
            f"a box of {shown} is empty within the image of {image.width}x{image.height}: "
            f"x_min, y_min, x_max, y_max = {', '.join(f'{value:g}' for value in worst)}"
        )
    return clipped.astype(np.float32)
