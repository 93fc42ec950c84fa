"""Embedded data: cluttered handwritten digits whose decisive pixels are known.

Each item is a 64x64 RGB scene: a smooth coloured background, fragments of other digits as clutter, and on top one
whole handwritten digit (a real 8x8 scan from scikit-learn, enlarged 2.5 to 4 times) in a random colour and place.
The pixels of that digit are the only evidence for the label, so a saliency map can be scored against the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, Integer
from PIL import Image

from mdm_jax.data.sources import Example
from mdm_jax.errors import unknown

SPLITS = ("train", "test")
CLASS_NAMES = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class Digits:
    """Random-access source of cluttered digits; item `i` of a split is a pure function of (split, i).

    `len(source)` items; `source[i]` is an `Example`. Train and test draw from disjoint handwritten scans, for the digit
    and for the clutter. Raises InputError for an unknown split and IndexError beyond the end.
    """

    split: str = "test"
    size: int = 64
    clutter: int = 6

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS)

    @property
    def name(self) -> str:
        return "digits"

    @property
    def class_names(self) -> tuple[str, ...]:
        return CLASS_NAMES

    def __len__(self) -> int:
        return 50_000 if self.split == "train" else 10_000

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"digits/{self.split} has items 0 to {len(self) - 1}, not {index}")
        rng = np.random.default_rng([SPLITS.index(self.split), int(index)])
        scans, labels = _scans(self.split)

        image = _background(rng, self.size)
        for _ in range(self.clutter):
            fragment = _enlarge(_fragment(rng, scans[rng.integers(len(scans))]), rng.uniform(2.5, 4.0))
            image, _, _ = _paste(rng, image, fragment)

        chosen = int(rng.integers(len(scans)))
        image, ink, box = _paste(rng, image, _enlarge(_trim(scans[chosen]), rng.uniform(2.5, 4.0)))
        boxes = np.asarray([box], np.float32)
        return Example(f"digits/{self.split}/{index:05d}", image.astype(np.float32), int(labels[chosen]), ink > 0.5, boxes)


@cache
def _scans(split: str) -> tuple[Float32[np.ndarray, "n 8 8"], Integer[np.ndarray, " n"]]:
    """The handwritten scans of one split, ink in [0, 1]: every fifth scan is for testing."""
    from sklearn.datasets import load_digits  # here, because it takes a second to import

    digits = load_digits()
    is_test = np.arange(len(digits.target)) % 5 == 0
    chosen = is_test if split == "test" else ~is_test
    return (digits.images[chosen] / 16.0).astype(np.float32), digits.target[chosen]


def _trim(scan: np.ndarray) -> np.ndarray:
    """Cut away the empty margin, so that the box is the digit's own."""
    rows, columns = (np.flatnonzero(scan.max(axis) > 0.25) for axis in (1, 0))
    return scan[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fragment(rng: np.random.Generator, scan: np.ndarray) -> np.ndarray:
    """A 3x3 to 4x4 window of a scan with enough ink to look like a stroke, never enough to be read."""
    side = int(rng.integers(3, 5))
    windows = np.lib.stride_tricks.sliding_window_view(scan, (side, side))
    inked = np.argwhere(windows.mean((2, 3)) > 0.3)
    y, x = inked[rng.integers(len(inked))]
    return windows[y, x]


def _enlarge(ink: np.ndarray, scale: float) -> np.ndarray:
    """Enlarge ink by a factor, bilinearly, and sharpen the edge so that a stroke has a border."""
    height, width = (max(2, round(side * scale)) for side in ink.shape)
    large = np.asarray(Image.fromarray(ink, "F" if ink.dtype == np.float32 else None).resize((width, height), 2))
    return np.clip((large - 0.25) / 0.35, 0.0, 1.0)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth coloured background: a 3x3 grid of colours, enlarged bicubically."""
    grid = rng.uniform(0.15, 0.85, (3, 3, 3)) * 0.6 + rng.uniform(0.0, 0.4, 3)
    channels = [np.asarray(Image.fromarray(c.astype(np.float32)).resize((size, size), 3)) for c in np.moveaxis(grid, 2, 0)]
    return np.clip(np.stack(channels, axis=-1), 0.0, 1.0)


def _paste(
    rng: np.random.Generator, image: np.ndarray, ink: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int]]:
    """Lay ink in a colour that stands out from what it covers, at a random place: image, ink on the canvas, box."""
    size, (height, width) = image.shape[0], ink.shape
    y, x = int(rng.integers(size - height + 1)), int(rng.integers(size - width + 1))
    canvas = np.zeros((size, size), image.dtype)
    canvas[y : y + height, x : x + width] = ink
    under = image[y : y + height, x : x + width].mean((0, 1))
    colours = rng.uniform(0.0, 1.0, (8, 3))
    colour = colours[np.abs(colours - under).sum(1).argmax()]
    return image + canvas[..., None] * (colour - image), canvas, (x, y, x + width, y + height)
