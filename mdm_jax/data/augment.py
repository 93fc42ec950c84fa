"""Random changes of a training image: turn, skew, shear, crop, shift, flip, color, of the
photograph before it is fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageEnhance
from jaxtyping import Float64

from mdm_jax.errors import InputError

ASPECT = 4 / 3
"""a crop is stretched by up to this factor"""
LARGEST = 512
"""pixels; a crop is enlarged to the short side of its photograph, up to this"""
COLOR = (PIL.ImageEnhance.Brightness, PIL.ImageEnhance.Contrast, PIL.ImageEnhance.Color)


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
    """degrees; turn by up to this, either way. Of rotation, skew and shear an image gets one, drawn
    from those above 0"""
    skew: float = 0.0
    """tilt the image in perspective: corners move outwards by up to this share of the longer
    side"""
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
            if not 0 <= (degrees := getattr(self, name)) <= 45:
                raise InputError(f"{name} is {degrees}: give degrees from 0 (none) to 45")
        if not 0 <= self.skew <= 0.5:
            raise InputError(
                f"skew is {self.skew}: give a share of the longer side from 0 (none) to 0.5"
            )

    def __call__(self, image: PIL.Image.Image, rng: np.random.Generator) -> PIL.Image.Image:
        """The image with changes drawn from `rng`, of the same aspect; a pure function of image and
        generator state."""
        # All numbers are always drawn, so that one setting does not change what another draws.
        area, aspect, *places = rng.uniform(size=4)
        offsets, mirrored, factors = (
            rng.uniform(-1, 1, 2),
            rng.uniform() < 0.5,
            rng.uniform(-1, 1, 3),
        )
        which, amount, direction = rng.uniform(size=3)
        if bends := [
            (bend, most)
            for bend, most in zip(BENDS, (self.rotation, self.skew, self.shear))
            if most > 0
        ]:
            bend, most = bends[int(which * len(bends))]
            image = _bent(image, bend(image.size, most, 2 * amount - 1, direction))
        if self.crop < 1:
            image = _resized_crop(
                image, self.crop + (1 - self.crop) * area, ASPECT ** (2 * aspect - 1), *places
            )
        if self.shift > 0:
            image = _shifted(
                image,
                round(self.shift * offsets[0] * image.width),
                round(self.shift * offsets[1] * image.height),
            )
        if self.flip and mirrored:
            image = image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
        if self.color > 0:
            for enhance, factor in zip(
                (PIL.ImageEnhance.Brightness, PIL.ImageEnhance.Contrast, PIL.ImageEnhance.Color),
                factors,
            ):
                image = enhance(image).enhance(float(1 + self.color * factor))
        return image


def _turned(
    size: tuple[int, int], degrees: float, amount: float, direction: float
) -> Float64[np.ndarray, "4 2"]:
    """Where the corners of an image of (width, height) go; `amount` in [-1, 1] is the share of the
    most, `direction` unused."""
    del direction
    angle = math.radians(degrees * amount)
    cos, sin = math.cos(angle), math.sin(angle)
    zoom = cos + abs(sin) * max(size) / min(size)  # so much that no border comes in
    return _about_center(size, zoom * np.asarray([[cos, -sin], [sin, cos]]))


def _skewed(
    size: tuple[int, int], share: float, amount: float, direction: float
) -> Float64[np.ndarray, "4 2"]:
    """As `_turned`: three times in four both corners of a side move apart, else one corner moves
    along a side."""
    corners, by = _corners(size), share * abs(amount) * max(size)
    tilt, within = (
        direction < 0.75,
        direction / 0.75 if direction < 0.75 else (direction - 0.75) * 4,
    )
    outwards = np.where(corners > 0, by, -by)
    if tilt:
        axis, end = divmod(int(within * 4), 2)
        side = (corners[:, axis] > 0) == bool(end)
        corners[side, 1 - axis] += outwards[side, 1 - axis]
    else:
        corner, axis = divmod(int(within * 8), 2)
        corners[corner, axis] += outwards[corner, axis]
    return corners


def _sheared(
    size: tuple[int, int], degrees: float, amount: float, direction: float
) -> Float64[np.ndarray, "4 2"]:
    """As `_turned`: along the width or the height."""
    slope, (width, height) = math.tan(math.radians(degrees * amount)), size
    across = direction < 0.5
    zoom = 1 + abs(slope) * (height / width if across else width / height)
    return _about_center(
        size, zoom * np.asarray([[1, slope], [0, 1]] if across else [[1, 0], [slope, 1]])
    )


BENDS = (_turned, _skewed, _sheared)


def _corners(size: tuple[int, int]) -> Float64[np.ndarray, "4 2"]:
    width, height = size
    return np.asarray([[0, 0], [width, 0], [width, height], [0, height]], np.float64)


def _about_center(size: tuple[int, int], matrix: np.ndarray) -> Float64[np.ndarray, "4 2"]:
    center = np.asarray(size) / 2
    return (_corners(size) - center) @ matrix.T + center


def _bent(image: PIL.Image.Image, places: Float64[np.ndarray, "4 2"]) -> PIL.Image.Image:
    """The image with its corners at `places`, by the homography H through them: source = H place,
    of the same size."""
    # With the last entry of H fixed to 1, each corner gives two equations in the other eight.
    rows = []
    for (x, y), (u, v) in zip(places, _corners(image.size)):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    homography = np.linalg.solve(np.asarray(rows), _corners(image.size).reshape(-1))
    transform, bicubic = PIL.Image.Transform.PERSPECTIVE, PIL.Image.Resampling.BICUBIC
    return image.transform(image.size, transform, tuple(homography.tolist()), bicubic)


def _resized_crop(
    image: PIL.Image.Image, area: float, aspect: float, x: float, y: float
) -> PIL.Image.Image:
    """A window of that share of the area, stretched by `aspect`, at (x, y) of the room there is,
    enlarged again."""
    width, height = (min(1.0, math.sqrt(area * stretch)) for stretch in (aspect, 1 / aspect))
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


def _shifted(image: PIL.Image.Image, right: int, down: int) -> PIL.Image.Image:
    pixels = np.asarray(image)
    rows, columns = (
        _mirrored(np.arange(side) - by, side)
        for side, by in ((image.height, down), (image.width, right))
    )
    return PIL.Image.fromarray(np.ascontiguousarray(pixels[rows][:, columns]))


def _mirrored(places: np.ndarray, side: int) -> np.ndarray:
    """Places beyond a border as those that a mirror there shows."""
    places = np.where(places < 0, -1 - places, places)
    return np.where(places >= side, 2 * side - 1 - places, places)
