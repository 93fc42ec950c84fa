"""One image of the page: a small file, the fill that it is masked with, the object's outline."""

from __future__ import annotations

import io
from functools import cache
from typing import NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Float32, UInt8

from mdm_jax import images
from mdm_jax.data.network_input import (
    PreparedExample,
    SkippedExample,
    boxes_to_mask,
    prepare_example,
)
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.data.source import Example, HasFiles, Source, read_image
from mdm_jax.errors import InputError, reason_of
from mdm_jax.text_files import file_id

# Pixels; larger images are shown at this side.
SIDE = 384

# Pixels of the network's frame: the blur of the fill `blur`.
SIGMA = 10.0

# Cells of the object's outline.
TRUTH_SIDE = 64
SUFFIX = "jpg"
QUALITY = 90


class Grid(NamedTuple):
    """How much of an image is written beside its file: all images of a frame (height, width)
    alike."""

    fill: tuple[int, int]
    """cells of the blurred fill, a cell every SIGMA pixels, between which the page interpolates"""
    truth: tuple[int, int]
    """cells of the object's outline"""

    @property
    def stride(self) -> int:
        """bytes of an image: mean color, whether an object is known, the fill, the object's cells
        as bits"""
        return 4 + 3 * self.fill[0] * self.fill[1] + -(-self.truth[0] * self.truth[1] // 8)


def grid_for(shape: tuple[int, int]) -> Grid:
    """The cells for images of (height, width)."""
    by = max(1.0, max(shape) / TRUTH_SIDE)
    height, width = (max(2, min(48, -(-side // int(SIGMA)))) for side in shape)
    return Grid(
        (height, width),
        (max(1, round(shape[0] / by)), max(1, round(shape[1] / by))),
    )


def read_framed(
    source: Source, index: int, preprocessing: Preprocessing | None, id: str
) -> PreparedExample | SkippedExample:
    """The image of this id as the network sees it, or the reason why it cannot be read.

    It has no truth where only that is damaged."""
    try:
        try:
            example = source[index]
        except InputError:  # perhaps the mask or a box alone
            opened = read_image(source, index)
            example = Example(
                opened.id, images.to_array(opened.image), opened.label, None, None
            )
        if id not in (example.id, images.printable(example.id)):
            return SkippedExample(
                f"the data holds {example.id} in its place: give the data and the split that"
                " hold the images"
            )
        return (
            prepare_example(example, preprocessing)
            if preprocessing is not None
            else _frame_unchanged(example)
        )
    except InputError as error:
        return SkippedExample(str(error))
    except Exception as error:  # a stranger's source may raise anything
        return SkippedExample(f"{id} cannot be read ({reason_of(error)})")


class Finder:
    """Where an image lies in a source: at its place in the run, or by its name in a listing."""

    def __init__(self, source: Source, used: list[int]) -> None:
        self._used = used
        files = source.files if isinstance(source, HasFiles) else ()
        self._names = list(map(file_id, files))
        # Older runs know a file by its name as it is printed.
        printed = {images.printable(name): n for n, name in enumerate(files)}
        by_id = {name: n for n, name in enumerate(self._names)}
        self._files = printed | by_id if files else None

    def index(self, id: str, item: int) -> int:
        """Index in the source, -1 where it has no such image."""
        place = self._used[item] if 0 <= item < len(self._used) else -1
        # a listing that grew or shrank moves images, their names stay
        if self._files is None or (place >= 0 and self._names[place] == id):
            return place
        return self._files.get(id, -1)


def encode_jpeg(image: Float[np.ndarray, "h w c"]) -> bytes:
    """The file of an image: JPEG, at most SIDE pixels a side."""
    picture = PIL.Image.fromarray(images.to_uint8(to_rgb(image)))
    # keeps the aspect, and never enlarges
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def side_bytes(
    image: Float[np.ndarray, "h w c"],
    mask: Bool[np.ndarray, "h w"] | None,
    cells: Grid,
) -> UInt8[np.ndarray, " b"]:
    """The bytes that go beside the file, as `Grid` says."""
    image = to_rgb(image)
    fill = images.to_uint8(blur_at_cells(image, cells.fill))
    shares = np.zeros(cells.truth, np.uint8)
    if mask is not None:
        drawn = PIL.Image.fromarray(mask.astype(np.uint8) * 255)
        shares = np.asarray(drawn.resize(cells.truth[::-1], PIL.Image.Resampling.BOX))
    # the order that the page's scripts read: see `Grid.stride`
    head = np.append(images.to_uint8(image.mean(axis=(0, 1))), np.uint8(mask is not None))
    return np.concatenate([head, fill.reshape(-1), np.packbits(shares.reshape(-1) > 127)])


def blur_at_cells(
    image: Float[np.ndarray, "h w c"], cells: tuple[int, int], sigma: float = SIGMA
) -> Float32[np.ndarray, "_h _w c"]:
    """The image's Gaussian blur at the center of each cell, as `images.gaussian_blur` has it."""
    height, width, channels = image.shape
    rows, columns = (
        _weights(cells[0], height, sigma),
        _weights(cells[1], width, sigma),
    )
    lines = rows @ image.reshape(height, -1).astype(np.float32)
    return columns @ lines.reshape(cells[0], width, channels)


def to_rgb(image: Float[np.ndarray, "h w c"]) -> Float32[np.ndarray, "h w 3"]:
    """Three channels to look at: an image of another number is shown in gray."""
    image = np.asarray(image, np.float32)
    if image.shape[-1] == 3:
        return image
    return np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)


@cache
def _weights(cells: int, pixels: int, sigma: float) -> Float32[np.ndarray, "cells pixels"]:
    centers = (np.arange(cells) + 0.5) * pixels / cells - 0.5
    at = np.arange(pixels)
    # each pixel and its reflections at both borders
    places = np.stack([at, -1 - at, 2 * pixels - 1 - at])
    distances = (centers[None, :, None] - places[:, None, :]) / sigma
    weights = np.exp(-0.5 * distances**2).sum(axis=0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _frame_unchanged(example: Example) -> PreparedExample:
    mask = example.mask
    if mask is None and example.boxes is not None and len(example.boxes):
        mask = boxes_to_mask(
            example.boxes, (example.image.shape[0], example.image.shape[1])
        )
    return PreparedExample(
        example.id,
        np.asarray(example.image, np.float32),
        example.label,
        mask,
        example.boxes,
    )
