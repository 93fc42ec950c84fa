"""Random changes of a photograph: turn, skew, shear, crop, shift, flip, color.

In training, before the photograph is brought to the network's size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageEnhance
from jaxtyping import Float64

from mdm_jax.errors import InputError

# A crop is stretched by up to this factor.
ASPECT = 4 / 3

# Pixels; a crop is enlarged to the short side of its photograph, up to this.
LARGEST = 512

# In this order: the factors are drawn for it.
COLOR = (PIL.ImageEnhance.Brightness, PIL.ImageEnhance.Contrast, PIL.ImageEnhance.Color)
Warp = Callable[[tuple[int, int], float, float, float], Float64[np.ndarray, "4 2"]]


@dataclass(frozen=True)
class Augment:
    """Which changes are drawn, and how strong; every default is "none"."""

    crop: float = 1.0
    """smallest share of the area that a random resized crop keeps; 1 crops nothing"""
    flip: bool = False
    """mirror half of the images, left to right"""
    color: float = 0.0
    """brightness, contrast and saturation change by factors within 1 - color to 1 + color"""
    shift: float = 0.0
    """shift by up to this share of each side; what comes in is the border, mirrored"""
    rotation: float = 0.0
    """degrees; turn by up to this, either way. An image gets one of rotation, skew and shear, drawn
    from those above 0"""
    skew: float = 0.0
    """tilt in perspective: corners move outwards by up to this share of the longer side"""
    shear: float = 0.0
    """degrees; shear along one side by up to this, either way"""

    def check(self) -> None:
        """Raises InputError for a setting out of range."""
        if not 0 < self.crop <= 1:
            raise InputError(
                f"crop is {self.crop}: give the smallest share of the area that is kept, above 0,"
                " at most 1"
            )
        if not 0 <= self.color < 1:
            raise InputError(
                f"color is {self.color}: give a strength of at least 0 (none) and below 1"
            )
        if not 0 <= self.shift <= 0.5:
            raise InputError(
                f"shift is {self.shift}: give a share of the side from 0 (none) to 0.5"
            )
        for name in ("rotation", "shear"):
            degrees = getattr(self, name)
            if not 0 <= degrees <= 45:
                raise InputError(f"{name} is {degrees}: give degrees from 0 (none) to 45")
        if not 0 <= self.skew <= 0.5:
            raise InputError(
                f"skew is {self.skew}: give a share of the longer side from 0 (none) to 0.5"
            )

    def __call__(self, image: PIL.Image.Image, rng: np.random.Generator) -> PIL.Image.Image:
        """The image with changes drawn from `rng`, of the same aspect.

        A pure function of the image and the state of the generator."""
        # All numbers are always drawn, so that one setting does not change what another draws.
        area, aspect, *places = rng.uniform(size=4)
        offsets = rng.uniform(-1, 1, 2)
        is_mirrored = rng.uniform() < 0.5
        factors = rng.uniform(-1, 1, 3)
        which, amount, direction = rng.uniform(size=3)
        warps = self._warps()
        if warps:
            warp, most = warps[int(which * len(warps))]
            image = _warp(image, warp(image.size, most, 2 * amount - 1, direction))
        if self.crop < 1:
            share = self.crop + (1 - self.crop) * area
            image = _crop_and_resize(image, share, ASPECT ** (2 * aspect - 1), *places)
        if self.shift > 0:
            right = round(self.shift * offsets[0] * image.width)
            down = round(self.shift * offsets[1] * image.height)
            image = _shift(image, right, down)
        if self.flip and is_mirrored:
            image = image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
        if self.color > 0:
            for enhance, factor in zip(COLOR, factors):
                image = enhance(image).enhance(float(1 + self.color * factor))
        return image

    def _warps(self) -> list[tuple[Warp, float]]:
        """The warps that are asked for, each with its strongest amount."""
        strengths = ((_turn, self.rotation), (_skew, self.skew), (_shear, self.shear))
        return [(warp, most) for warp, most in strengths if most > 0]


def _turn(
    size: tuple[int, int], degrees: float, amount: float, direction: float
) -> Float64[np.ndarray, "4 2"]:
    """Where the corners of an image of (width, height) go when it turns by `amount * degrees`.

    `amount` lies in [-1, 1]; `direction` is for the other warps."""
    del direction
    angle = math.radians(degrees * amount)
    cos, sin = math.cos(angle), math.sin(angle)
    # Enlarged by so much that no border comes in.
    zoom = cos + abs(sin) * max(size) / min(size)
    return _about_center(size, zoom * np.asarray([[cos, -sin], [sin, cos]]))


def _skew(
    size: tuple[int, int], share: float, amount: float, direction: float
) -> Float64[np.ndarray, "4 2"]:
    """As `_turn`: `direction` in [0, 1) says which corners move outwards.

    Below 3/4 both corners of one side move apart, else one corner moves along a side."""
    corners, by = _corners(size), share * abs(amount) * max(size)
    outwards = np.where(corners > 0, by, -by)
    if direction < 0.75:
        side_number = int(direction / 0.75 * 4)
        axis, end = divmod(side_number, 2)
        side = (corners[:, axis] > 0) == bool(end)
        corners[side, 1 - axis] += outwards[side, 1 - axis]
    else:
        number = int((direction - 0.75) * 4 * 8)
        corner, axis = divmod(number, 2)
        corners[corner, axis] += outwards[corner, axis]
    return corners


def _shear(
    size: tuple[int, int], degrees: float, amount: float, direction: float
) -> Float64[np.ndarray, "4 2"]:
    """As `_turn`: along the width where `direction` is below 1/2, else along the height."""
    slope = math.tan(math.radians(degrees * amount))
    width, height = size
    if direction < 0.5:
        zoom = 1 + abs(slope) * (height / width)
        matrix = np.asarray([[1, slope], [0, 1]])
    else:
        zoom = 1 + abs(slope) * (width / height)
        matrix = np.asarray([[1, 0], [slope, 1]])
    return _about_center(size, zoom * matrix)


def _corners(size: tuple[int, int]) -> Float64[np.ndarray, "4 2"]:
    width, height = size
    return np.asarray([[0, 0], [width, 0], [width, height], [0, height]], np.float64)


def _about_center(size: tuple[int, int], matrix: np.ndarray) -> Float64[np.ndarray, "4 2"]:
    center = np.asarray(size) / 2
    return (_corners(size) - center) @ matrix.T + center


def _warp(image: PIL.Image.Image, places: Float64[np.ndarray, "4 2"]) -> PIL.Image.Image:
    """The image, of the same size, with its corners moved to `places`."""
    coefficients = _homography(places, _corners(image.size))
    transform, bicubic = PIL.Image.Transform.PERSPECTIVE, PIL.Image.Resampling.BICUBIC
    return image.transform(image.size, transform, tuple(coefficients.tolist()), bicubic)


def _homography(
    places: Float64[np.ndarray, "4 2"], sources: Float64[np.ndarray, "4 2"]
) -> Float64[np.ndarray, "8"]:
    """The first eight entries, row by row, of the H with source = H place; the last is 1.

    By hand, because OpenCV's getPerspectiveTransform takes float32 points: 0.02 % of the pixels
    would change, and a training that is resumed would see other images."""
    # Each corner gives two equations in the eight unknowns.
    rows = []
    for (x, y), (u, v) in zip(places, sources):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    return np.linalg.solve(np.asarray(rows), sources.reshape(-1))


def _crop_and_resize(
    image: PIL.Image.Image, area: float, aspect: float, x: float, y: float
) -> PIL.Image.Image:
    """A window of the share `area` of the image, stretched by `aspect`, enlarged again.

    It lies at the shares (x, y) of the room that it leaves."""
    width = min(1.0, math.sqrt(area * aspect))
    height = min(1.0, math.sqrt(area * (1 / aspect)))
    left, top = (1 - width) * x, (1 - height) * y
    box = (
        left * image.width,
        top * image.height,
        (left + width) * image.width,
        (top + height) * image.height,
    )
    scale = min(1.0, LARGEST / min(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, PIL.Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)


def _shift(image: PIL.Image.Image, right: int, down: int) -> PIL.Image.Image:
    pixels = np.asarray(image)
    rows = _mirror(np.arange(image.height) - down, image.height)
    columns = _mirror(np.arange(image.width) - right, image.width)
    return PIL.Image.fromarray(np.ascontiguousarray(pixels[rows][:, columns]))


def _mirror(places: np.ndarray, side: int) -> np.ndarray:
    """Places beyond a border as those that a mirror there shows."""
    places = np.where(places < 0, -1 - places, places)
    return np.where(places >= side, 2 * side - 1 - places, places)
