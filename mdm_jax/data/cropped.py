"""The images of a source cut to the boxes of their objects; masks, boxes and parts go with them."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from mdm_jax import images
from mdm_jax.data.source import Example, HasBoxes, ImageItem, Source, to_image_item
from mdm_jax.errors import InputError

CHANGE = "cropped"


@dataclass(frozen=True)
class Cropped:
    """Source of the items of another, each cut to the smallest whole pixels around all of its
    boxes."""

    source: Source

    @property
    def change(self) -> str:
        return CHANGE

    @property
    def name(self) -> str:
        return f"{CHANGE}:{self.source.name}"

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    # What only some sources know: an attribute that theirs lacks, this one lacks too.
    @property
    def files(self) -> tuple[str, ...]:
        return self.source.files  # type: ignore[attr-defined]

    @property
    def labels(self) -> tuple[int, ...]:
        return self.source.labels  # type: ignore[attr-defined]

    @property
    def multi_hot(self) -> Float32[np.ndarray, "n classes"]:
        return self.source.multi_hot  # type: ignore[attr-defined]

    @property
    def part_names(self) -> tuple[str, ...]:
        return self.source.part_names  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.source)

    def read_image(self, index: int) -> ImageItem:
        """Image and label of an item, without the rest of its truth. Raises InputError as
        `source[index]` does."""
        if not isinstance(self.source, HasBoxes):
            return to_image_item(self[index])
        picture, boxes = self.source.read_boxes(index)
        return picture._replace(
            image=picture.image.crop(_around(boxes, picture.image.size, picture.id))
        )

    def __getitem__(self, index: int) -> Example:
        """Raises InputError for an item without a box, or whose box is too small for an image."""
        return crop_to_boxes(self.source[index])


def cropped(source: Source) -> Cropped:
    """The source cut to boxes. Raises InputError where its first image has none: every image must
    have one."""
    first = None
    with suppress(InputError):  # one that is damaged says nothing of the others
        first = source[0] if len(source) else None
    if first is not None and first.boxes is None:
        raise InputError(
            f"{source.name} cannot be cropped: {first.id} has no box, and every image needs one"
        )
    return Cropped(source)


def crop_to_boxes(example: Example) -> Example:
    """The example cut to all of its boxes together, outwards to whole pixels; parts beyond it are
    NaN.

    Raises InputError for an example without a box, or whose box is too small for an image.
    """
    x0, y0, x1, y1 = _around(
        example.boxes, (example.image.shape[1], example.image.shape[0]), example.id
    )
    parts, corner = example.parts, np.asarray([x0, y0], np.float32)
    if parts is not None:
        inside = ((parts >= [x0, y0]) & (parts < [x1, y1])).all(axis=1, keepdims=True)
        parts = np.where(inside, parts - corner, np.float32(np.nan))
    return example._replace(
        image=np.ascontiguousarray(example.image[y0:y1, x0:x1]),
        mask=None if example.mask is None else np.ascontiguousarray(example.mask[y0:y1, x0:x1]),
        boxes=None if example.boxes is None else example.boxes - np.tile(corner, 2),
        parts=parts,
    )


def _around(
    boxes: Float32[np.ndarray, "k 4"] | None, size: tuple[int, int], shown: str
) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of the whole pixels around all boxes of an image of (width, height)."""
    if boxes is None or not len(boxes):
        raise InputError(f"{shown} has no box to crop to: give it one, or do not crop")
    x0, y0 = (max(0, math.floor(corner)) for corner in boxes[:, :2].min(axis=0))
    x1, y1 = (min(side, math.ceil(corner)) for corner, side in zip(boxes[:, 2:].max(axis=0), size))
    if min(x1 - x0, y1 - y0) < images.MIN_SIDE:
        raise InputError(
            f"the box of {shown} is {x1 - x0}x{y1 - y0}: an image needs at least {images.MIN_SIDE}"
            " pixels a side"
        )
    return x0, y0, x1, y1
