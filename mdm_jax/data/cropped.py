"""The images of a source cut to the boxes of their objects; masks, boxes and parts go with them."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from mdm_jax import images
from mdm_jax.data.source import (
    Example,
    HasBoxes,
    HasFiles,
    ImageItem,
    MultiLabel,
    Source,
    to_image_item,
)
from mdm_jax.errors import InputError

# Enters checksums of sources, so it stays.
CHANGE = "cropped"


@dataclass(frozen=True)
class Cropped:
    """Source of the items of another, each cut to the smallest whole pixels around its boxes.

    Made by `cropped`, which knows what else the source offers."""

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

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts that `Example.parts` locates; none where they are unknown."""
        return getattr(self.source, "part_names", ())

    def __len__(self) -> int:
        return len(self.source)

    def read_image(self, index: int) -> ImageItem:
        """Image and label of an item, without the rest of its truth.

        Raises InputError as `source[index]` does."""
        if not isinstance(self.source, HasBoxes):
            return to_image_item(self[index])
        item, boxes = self.source.read_boxes(index)
        window = _window(boxes, item.image.size, item.id)
        return item._replace(image=item.image.crop(window))

    def __getitem__(self, index: int) -> Example:
        """Raises InputError for an item without a box, or whose box is too small for an image."""
        return crop_to_boxes(self.source[index])


# What the wrapped source offers beyond `Source` decides the class, so that `isinstance` with the
# protocols of `source.py` answers for the cropped source as it does for the whole one.
@dataclass(frozen=True)
class CroppedFiles(Cropped):
    """Of a source that knows its files."""

    source: HasFiles  # type: ignore[assignment]

    @property
    def files(self) -> tuple[str, ...]:
        return self.source.files

    @property
    def labels(self) -> tuple[int, ...]:
        return self.source.labels


@dataclass(frozen=True)
class CroppedMultiLabel(Cropped):
    """Of a source whose items have several classes."""

    source: MultiLabel  # type: ignore[assignment]

    @property
    def multi_hot(self) -> Float32[np.ndarray, "n classes"]:
        return self.source.multi_hot


@dataclass(frozen=True)
class CroppedMultiLabelFiles(CroppedFiles, CroppedMultiLabel):
    """Of a source that offers both."""


# By whether the source has files, and several labels.
_CLASSES: dict[tuple[bool, bool], type[Cropped]] = {
    (False, False): Cropped,
    (True, False): CroppedFiles,
    (False, True): CroppedMultiLabel,
    (True, True): CroppedMultiLabelFiles,
}


def cropped(source: Source) -> Cropped:
    """The source cut to boxes. Raises InputError where its first image has none."""
    first = None
    with suppress(InputError):  # one that is damaged says nothing of the others
        first = source[0] if len(source) else None
    if first is not None and first.boxes is None:
        raise InputError(
            f"{source.name} cannot be cropped: {first.id} has no box, and every image needs one"
        )
    offers = isinstance(source, HasFiles), isinstance(source, MultiLabel)
    return _CLASSES[offers](source)


def crop_to_boxes(example: Example) -> Example:
    """The example cut to all of its boxes together, outwards to whole pixels.

    Parts beyond them are NaN. Raises InputError for an example without a box, or whose box is too
    small for an image."""
    height, width = example.image.shape[:2]
    x0, y0, x1, y1 = _window(example.boxes, (width, height), example.id)
    corner = np.asarray([x0, y0], np.float32)
    mask, boxes, parts = example.mask, example.boxes, example.parts
    if mask is not None:
        mask = np.ascontiguousarray(mask[y0:y1, x0:x1])
    if boxes is not None:
        boxes = boxes - np.tile(corner, 2)
    if parts is not None:
        inside = ((parts >= [x0, y0]) & (parts < [x1, y1])).all(axis=1, keepdims=True)
        parts = np.where(inside, parts - corner, np.float32(np.nan))
    image = np.ascontiguousarray(example.image[y0:y1, x0:x1])
    return example._replace(image=image, mask=mask, boxes=boxes, parts=parts)


def _window(
    boxes: Float32[np.ndarray, "k 4"] | None, size: tuple[int, int], name: str
) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of the whole pixels around all boxes of an image of (width, height)."""
    if boxes is None or not len(boxes):
        raise InputError(f"{name} has no box to crop to: give it one, or do not crop")
    width, height = size
    left, top = boxes[:, :2].min(axis=0)
    right, bottom = boxes[:, 2:].max(axis=0)
    x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))
    x1, y1 = min(width, math.ceil(right)), min(height, math.ceil(bottom))
    if min(x1 - x0, y1 - y0) < images.MIN_SIDE:
        raise InputError(
            f"the box of {name} is {x1 - x0}x{y1 - y0}: an image needs at least"
            f" {images.MIN_SIDE} pixels a side"
        )
    return x0, y0, x1, y1
