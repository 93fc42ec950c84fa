"""Labeled images as the network sees them: image, mask and boxes resized and cropped alike."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Float32

from mdm_jax import images
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.data.source import Example, Source
from mdm_jax.errors import InputError


class PreparedExample(NamedTuple):
    """One labeled image, its pixels and its truth in the network's frame."""

    id: str
    image: Float32[np.ndarray, "h w c"]
    label: int
    """the data's number of the class"""
    mask: Bool[np.ndarray, "h w"] | None
    """pixels of the object, those of its boxes where only they are known; None where nothing of it
    is in the frame"""
    boxes: Float32[np.ndarray, "k 4"] | None
    """(x0, y0, x1, y1) in pixels, ends exclusive; None where none is known or in the frame"""
    parts: Float32[np.ndarray, "p 2"] | None = None
    """(x, y) of each part of the object in pixels, NaN where it is not in the frame"""

    @property
    def digest(self) -> int:
        """A checksum of the pixels and of the truth: whether a stored map is of this image."""
        contents = []
        for array in (self.image, self.mask, self.boxes):
            contents.append(
                b"-" if array is None else np.ascontiguousarray(array).tobytes()
            )
        return zlib.crc32(b"".join(contents))


class SkippedExample(NamedTuple):
    """An item that could not be read."""

    reason: str


def prepare_example(example: Example, preprocessing: Preprocessing) -> PreparedExample:
    """An example as the network sees it.

    The mask goes the way of the pixels, each the nearest one; boxes and parts go exactly."""
    photograph = PIL.Image.fromarray(images.to_uint8(example.image))
    mask, boxes, parts = None, None, None
    if example.boxes is not None:
        boxes = fit_boxes(example.boxes, photograph.size, preprocessing)
    if example.mask is not None:
        mask = _fit_mask(example.mask, preprocessing)
    elif boxes is not None:
        mask = boxes_to_mask(boxes, preprocessing.size)
    if example.parts is not None:
        points = fit_points(example.parts, photograph.size, preprocessing)
        parts = _hide_outside(points, preprocessing.size)
    return PreparedExample(
        example.id,
        preprocessing.fit(photograph),
        example.label,
        mask if mask is not None and mask.any() else None,
        boxes if boxes is not None and len(boxes) else None,
        parts,
    )


def prepare_examples(
    source: Source, indices: Iterable[int], preprocessing: Preprocessing
) -> Iterator[PreparedExample | SkippedExample]:
    """The items one by one; one that is damaged is a sentence that names it."""
    for index in indices:
        try:
            yield prepare_example(source[index], preprocessing)
        except InputError as error:
            yield SkippedExample(str(error))


def _fit_mask(
    mask: Bool[np.ndarray, "h w"], preprocessing: Preprocessing
) -> Bool[np.ndarray, "h2 w2"]:
    drawn = PIL.Image.fromarray(mask.astype(np.uint8) * 255)
    fitted = images.fit(
        drawn,
        preprocessing.size,
        crop=preprocessing.crop,
        interpolation="nearest",
        mode=preprocessing.crop_mode,
    )
    return np.asarray(fitted) > 127


def fit_boxes(
    boxes: Float[np.ndarray, "k 4"], original: tuple[int, int], preprocessing: Preprocessing
) -> Float32[np.ndarray, "j 4"]:
    """Boxes of an image of `original` (width, height) in the network's frame.

    They are clipped to it; those that lie outside are left out."""
    height, width = preprocessing.size
    corners = fit_points(boxes.reshape(-1, 2), original, preprocessing)
    fitted = np.clip(corners.reshape(-1, 4), 0, [width, height] * 2)
    inside = (fitted[:, 2:] > fitted[:, :2]).all(axis=1)
    return fitted[inside].astype(np.float32)


def fit_points(
    points: Float[np.ndarray, "k 2"],
    original: tuple[int, int],
    preprocessing: Preprocessing,
) -> Float[np.ndarray, "k 2"]:
    """Points (x, y) of an image of `original` (width, height) in the network's frame.

    Also those beyond it."""
    height, width = preprocessing.size
    # The window of the original that is used, and the size that it is resized to.
    window, resized = images.placement(
        original, (height, width), crop=preprocessing.crop, mode=preprocessing.crop_mode
    )
    scale = np.asarray(resized) / np.asarray(window)
    in_resized = (points - images.corner(original, window)) * scale
    return in_resized - images.corner(resized, (width, height))


def _hide_outside(
    points: Float[np.ndarray, "k 2"], size: tuple[int, int]
) -> Float32[np.ndarray, "k 2"]:
    """Points of a frame of (height, width); those beyond it are NaN."""
    inside = ((points >= 0) & (points < size[::-1])).all(axis=1, keepdims=True)
    return np.where(inside, points, np.nan).astype(np.float32)


def boxes_to_mask(
    boxes: Float[np.ndarray, "k 4"], shape: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """The pixels whose centers lie in a box."""
    height, width = shape
    y, x = np.arange(height) + 0.5, np.arange(width) + 0.5
    x0, y0, x1, y1 = (corner[:, None] for corner in boxes.T)
    rows = (y0 <= y) & (y < y1)
    columns = (x0 <= x) & (x < x1)
    return (rows[:, :, None] & columns[:, None, :]).any(axis=0)


def evenly_spaced(length: int, limit: int | None) -> list[int]:
    """Which items are used: all, or `limit` of them evenly over the source, as in training."""
    count = length if limit is None else min(limit, length)
    return [number * length // count for number in range(count)]


def nested_order(length: int) -> list[int]:
    """All items, ordered so that the first ones, however many, are spread over the source.

    So the images of a small budget are among those of a larger one. It is the order of van der
    Corput: number i lies where the bits of i stand behind the point in reverse, 0, 1/2, 1/4, 3/4,
    1/8 ... of the length.
    """
    if not length:
        return []
    bits = (length - 1).bit_length()
    count = 1 << bits
    reversed_bits = (int(f"{i:0{bits}b}"[::-1], 2) if bits else 0 for i in range(count))
    # there are up to twice as many places as items: an item that is met again is passed over
    return list(dict.fromkeys(place * length // count for place in reversed_bits))
