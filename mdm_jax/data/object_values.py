"""Which values of a mask, an image of its own, are the object."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Bool, Shaped

from mdm_jax.errors import InputError

WRITTEN = "numbers or colors, as in 1,3 or #ff0000, or a bound, as in >127"

# What cannot store two values exactly.
LOSSY = {"JPEG", "WEBP", "AVIF", "JPEG2000"}

# A lossy mask is of two values where so many of its pixels lie near them, and those of the object
# differ by no more.
NEAR_SHARE, MOST_SPREAD = 0.95, 64

# Values that a sentence tells.
SHOWN = 6


class ObjectValues(NamedTuple):
    """Values that a person names."""

    numbers: frozenset[int] = frozenset()
    """gray values, of a palette its indices"""
    colors: frozenset[tuple[int, ...]] = frozenset()
    above: int | None = None

    @classmethod
    def parse(cls, text: str) -> ObjectValues:
        """Raises InputError for what is no list of values."""
        if bound := re.fullmatch(r"\s*>\s*(\d+)\s*", text):
            return cls(above=int(bound[1]))
        numbers, colors = set(), set()
        for word in text.split(","):
            value = word.strip().lower()
            if re.fullmatch(r"\d+", value):
                numbers.add(int(value))
            elif re.fullmatch(r"#[0-9a-f]{6}", value):
                colors.add(tuple(bytes.fromhex(value[1:])))
            else:
                raise InputError(
                    f"the object values {text!r} cannot be: write {WRITTEN}",
                    setting="object_values",
                )
        return cls(frozenset(numbers), frozenset(colors))

    def mask(self, drawn: PIL.Image.Image) -> Bool[np.ndarray, "h w"]:
        """The pixels of these values."""
        if self.above is not None:
            return np.asarray(gray(drawn)) > self.above
        found = np.zeros((drawn.height, drawn.width), bool)
        if self.numbers:
            stored = drawn if drawn.mode == "P" else gray(drawn)
            found |= np.isin(np.asarray(stored), sorted(self.numbers))
        for color in self.colors:
            found |= (np.asarray(drawn.convert("RGB")) == color).all(axis=2)
        return found


# As published for birds: the share of the annotators who took a pixel for the object.
MOST_ANNOTATORS = ObjectValues(above=127)


def two_valued(drawn: PIL.Image.Image, name: str) -> Bool[np.ndarray, "h w"]:
    """The pixels that differ from the background, which is black or transparent.

    Of one value that is neither, all. Raises InputError for a mask of more values."""
    if drawn.format in LOSSY:
        return _lossy(drawn, name)
    codes, transparent = _codes(drawn)
    found = np.unique(codes[~transparent])
    of_object = found if transparent.any() and len(found) == 1 else found[found != 0]
    if len(of_object) > 1:
        raise _refused(name, _shown_values(drawn))
    return np.isin(codes, of_object) & ~transparent


def gray(drawn: PIL.Image.Image) -> PIL.Image.Image:
    """Gray values as they are stored, where it is gray."""
    return (
        drawn
        if drawn.mode in {"L", "F"} or drawn.mode.startswith("I")
        else drawn.convert("L")
    )


def _codes(
    drawn: PIL.Image.Image,
) -> tuple[Shaped[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """A number for each color, 0 for black, and which pixels are transparent."""
    has_alpha = "A" in drawn.mode or "a" in drawn.mode or "transparency" in drawn.info
    if not has_alpha and drawn.mode not in {
        "P",
        "RGB",
        "CMYK",
        "YCbCr",
        "HSV",
        "LAB",
        "RGBX",
    }:
        values = np.asarray(gray(drawn))
        return values, np.zeros(values.shape, bool)
    channels = np.asarray(drawn.convert("RGBA"), np.uint32)
    transparent = channels[..., 3] == 0
    # A pixel that is transparent in part is a value of its own.
    veil = 255 - channels[..., 3]
    red, green, blue = np.moveaxis(channels[..., :3], 2, 0)
    return (veil << 24) | (red << 16) | (green << 8) | blue, transparent


def _lossy(drawn: PIL.Image.Image, name: str) -> Bool[np.ndarray, "h w"]:
    colors = np.asarray(drawn.convert("RGB"), np.int16)
    brightness = colors.max(axis=2)
    high = int(brightness.max())
    if high == 0:
        return np.zeros(brightness.shape, bool)
    is_near = (brightness <= high / 4) | (brightness >= 3 * high / 4)
    is_object = brightness > high / 2
    low_end, high_end = np.percentile(colors[is_object], [10, 90], axis=0)
    is_one_color = (high_end - low_end).max() <= MOST_SPREAD
    if high <= 127 or is_near.mean() < NEAR_SHARE or not is_one_color:
        raise _refused(
            name, f"{_shown_values(drawn)} in a {drawn.format} file, which blurs them"
        )
    return is_object


def _shown_values(drawn: PIL.Image.Image) -> str:
    """The values as a person would name them."""
    stored = drawn if drawn.mode == "P" else gray(drawn)
    if stored is drawn or _is_gray(drawn):
        values = [f"{value:g}" for value in np.unique(np.asarray(stored))]
    else:
        colors = np.unique(np.asarray(drawn.convert("RGB")).reshape(-1, 3), axis=0)
        values = [f"#{bytes(color).hex()}" for color in colors]
    if len(values) > SHOWN:
        shown = [*values[: SHOWN - 2], "...", values[-1]]
        return f"{len(values)} values {', '.join(shown)}"
    return f"values {', '.join(values)}"


def _is_gray(drawn: PIL.Image.Image) -> bool:
    colors = np.asarray(drawn.convert("RGB"))
    return bool((colors == colors[..., :1]).all())


def _refused(name: str, found: str) -> InputError:
    return InputError(
        f"the mask of {name} has the {found}: draw the object in one value on 0, or say with"
        f" object_values (--object-values) which are the object, in {WRITTEN}"
    )
