"""Random changes of a training image: crop, shift, flip, colour. They work on the photograph, before it is fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageEnhance

from mdm_jax.errors import InputError

ASPECT = 4 / 3
"""a crop is stretched by up to this factor"""
LARGEST = 512
"""pixels; a crop is enlarged to the short side of its photograph, up to this"""
COLOUR = (PIL.ImageEnhance.Brightness, PIL.ImageEnhance.Contrast, PIL.ImageEnhance.Color)


@dataclass(frozen=True)
class Augment:
    """Which changes are drawn, and how strong; every default is "none"."""

    crop: float = 1.0
    """smallest share of the area that a random resized crop keeps; 1 crops nothing"""
    flip: bool = False
    """mirror half of the images, left to right"""
    colour: float = 0.0
    """brightness, contrast and saturation change by factors within 1 - colour to 1 + colour"""
    shift: float = 0.0
    """shift by up to this share of each side; what comes in is the border, mirrored"""

    def check(self) -> None:
        """Raises InputError for a setting out of range."""
        if not 0 < self.crop <= 1:
            raise InputError(f"crop is {self.crop}: give the smallest share of the area that is kept, above 0, at most 1")
        if not 0 <= self.colour < 1:
            raise InputError(f"colour is {self.colour}: give a strength of at least 0 (none) and below 1")
        if not 0 <= self.shift <= 0.5:
            raise InputError(f"shift is {self.shift}: give a share of the side from 0 (none) to 0.5")

    def __call__(self, image: PIL.Image.Image, rng: np.random.Generator) -> PIL.Image.Image:
        """The image with changes drawn from `rng`, of the same aspect; a pure function of image and generator state."""
        # All numbers are always drawn, so that one setting does not change what another draws.
        area, aspect, *places = rng.uniform(size=4)
        offsets, mirrored, factors = rng.uniform(-1, 1, 2), rng.uniform() < 0.5, rng.uniform(-1, 1, 3)
        if self.crop < 1:
            image = _resized_crop(image, self.crop + (1 - self.crop) * area, ASPECT ** (2 * aspect - 1), *places)
        if self.shift > 0:
            image = _shifted(image, round(self.shift * offsets[0] * image.width), round(self.shift * offsets[1] * image.height))
        if self.flip and mirrored:
            image = image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
        if self.colour > 0:
            for enhance, factor in zip(
                (PIL.ImageEnhance.Brightness, PIL.ImageEnhance.Contrast, PIL.ImageEnhance.Color), factors
            ):
                image = enhance(image).enhance(float(1 + self.colour * factor))
        return image


def _resized_crop(image: PIL.Image.Image, area: float, aspect: float, x: float, y: float) -> PIL.Image.Image:
    """A window of that share of the area, stretched by `aspect`, at (x, y) of the room there is, enlarged again."""
    width, height = (min(1.0, math.sqrt(area * stretch)) for stretch in (aspect, 1 / aspect))
    left, top = (1 - width) * x, (1 - height) * y
    box = (left * image.width, top * image.height, (left + width) * image.width, (top + height) * image.height)
    scale = min(1.0, LARGEST / min(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, PIL.Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)


def _shifted(image: PIL.Image.Image, right: int, down: int) -> PIL.Image.Image:
    pixels = np.asarray(image)
    rows, columns = (_mirrored(np.arange(side) - by, side) for side, by in ((image.height, down), (image.width, right)))
    return PIL.Image.fromarray(np.ascontiguousarray(pixels[rows][:, columns]))


def _mirrored(places: np.ndarray, side: int) -> np.ndarray:
    """Places beyond a border as those that a mirror there shows."""
    places = np.where(places < 0, -1 - places, places)
    return np.where(places >= side, 2 * side - 1 - places, places)
