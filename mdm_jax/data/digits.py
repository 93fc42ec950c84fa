"""Embedded data: cluttered handwritten digits whose decisive pixels are known.

Each item is a 64x64 RGB scene: a smooth colored background, fragments of other digits as clutter,
and on top one whole handwritten digit (a real 8x8 scan from scikit-learn, enlarged 2.5 to 4 times)
in a random color and place. The pixels of that digit are the only evidence for the label, so a
saliency map can be scored against the truth.

With `objects=2` there are two digits of one class, each in its own color and place and with its
own box; either alone is evidence enough. The metric "objects" tells how many of them a map finds.

Every number is drawn in one order from one generator: images are the same on every machine, and
results that are stored depend on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from jaxtyping import Float32, Integer
from PIL import Image

from mdm_jax.data.source import Example, find_split
from mdm_jax.errors import InputError, unknown

SPLITS = ("train", "test")
CLASS_NAMES = tuple(str(digit) for digit in range(10))
MOST_OBJECTS = 3

# Pixels between two digits' boxes at least.
GAP = 2
TRIES = 2_000

# Factors between which a scan of 8x8 pixels is enlarged.
ENLARGEMENT = (2.5, 4.0)

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Digits:
    """Random-access source of cluttered digits; item i is a pure function of the split and i.

    `len(source)` items; `source[i]` is an `Example`. Train and test draw from disjoint handwritten
    scans, for the digit and for the clutter. Raises InputError for an unknown split or another
    number of objects, and IndexError beyond the end."""

    split: str = "test"
    size: int = 64
    clutter: int = 6
    objects: int = 1
    """digits of one class on each image, 1 to 3; their boxes lie apart, so that the pixels of the
    mask in a box are of one digit"""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS)
        if not 1 <= self.objects <= MOST_OBJECTS:
            raise InputError(
                f"{self.objects} digits on an image: give a number from 1 to {MOST_OBJECTS}"
            )

    @property
    def name(self) -> str:
        return "digits" if self.objects == 1 else f"digits:{self.objects}"

    @property
    def class_names(self) -> tuple[str, ...]:
        return CLASS_NAMES

    def __len__(self) -> int:
        return 50_000 if self.split == "train" else 10_000

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(
                f"{self.name}/{self.split} has items 0 to {len(self) - 1}, not {index}"
            )
        seed = [SPLITS.index(self.split), int(index)]
        if self.objects > 1:  # images of one digit keep the seed of the first version
            seed.append(self.objects)
        rng = np.random.default_rng(seed)
        scans, labels = _scans(self.split)

        image = _background(rng, self.size)
        for _ in range(self.clutter):
            window = _fragment(rng, scans[rng.integers(len(scans))])
            fragment = _enlarge(window, rng.uniform(*ENLARGEMENT))
            image, _ = _paste(rng, image, fragment, _place(rng, fragment, self.size))

        chosen = int(rng.integers(len(scans)))
        more = rng.choice(np.flatnonzero(labels == labels[chosen]), self.objects - 1)
        inks, boxes = _scatter(rng, [_trim(scans[i]) for i in (chosen, *more)], self.size)
        mask = np.zeros((self.size, self.size), bool)
        for ink, box in zip(inks, boxes):
            image, drawn = _paste(rng, image, ink, box)
            mask |= drawn > 0.5
        kind = self.name.replace(":", "-")  # ids become names of files
        id = f"{kind}/{self.split}/{index:05d}"
        label = int(labels[chosen])
        return Example(
            id, image.astype(np.float32), label, mask, np.asarray(boxes, np.float32)
        )


def open_digits(place: str, split: str) -> Digits:
    """The digits of a split; `place` is the number of objects on each image, or empty for one.

    Raises InputError for a place that is no number and for an unknown split."""
    if place and not place.isdecimal():
        raise InputError(
            f"the data source 'digits:{place}' cannot be: write digits, or digits:2 for two of one"
            " class on each image"
        )
    where = f"digits:{place}" if place else "digits"
    return Digits(find_split(split, SPLITS, where), objects=int(place or 1))


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
    """A 3x3 to 4x4 window of a scan: enough ink to look like a stroke, never enough to be read."""
    side = int(rng.integers(3, 5))
    windows = np.lib.stride_tricks.sliding_window_view(scan, (side, side))
    inked = np.argwhere(windows.mean((2, 3)) > 0.3)
    y, x = inked[rng.integers(len(inked))]
    return windows[y, x]


def _enlarge(ink: np.ndarray, scale: float) -> np.ndarray:
    """Enlarge ink by a factor, bilinearly, and sharpen the edge so that a stroke has a border."""
    height, width = (max(2, round(side * scale)) for side in ink.shape)
    image = Image.fromarray(ink, "F" if ink.dtype == np.float32 else None)
    large = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return np.clip((large - 0.25) / 0.35, 0.0, 1.0)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth colored background: a 3x3 grid of colors, enlarged bicubically."""
    grid = rng.uniform(0.15, 0.85, (3, 3, 3)) * 0.6 + rng.uniform(0.0, 0.4, 3)
    channels = []
    for channel in np.moveaxis(grid, 2, 0):
        image = Image.fromarray(channel.astype(np.float32))
        channels.append(np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)))
    return np.clip(np.stack(channels, axis=-1), 0.0, 1.0)


def _place(rng: np.random.Generator, ink: np.ndarray, size: int) -> Box:
    """A random box for ink on a canvas."""
    height, width = ink.shape
    y, x = int(rng.integers(size - height + 1)), int(rng.integers(size - width + 1))
    return x, y, x + width, y + height


def _scatter(
    rng: np.random.Generator, scans: list[np.ndarray], size: int
) -> tuple[list[np.ndarray], list[Box]]:
    """Scans, each enlarged, and places for them, drawn anew until all lie apart."""
    for _ in range(TRIES):
        inks = [_enlarge(scan, rng.uniform(*ENLARGEMENT)) for scan in scans]
        boxes = [_place(rng, ink, size) for ink in inks]
        if all(_are_apart(one, other) for one, other in combinations(boxes, 2)):
            return inks, boxes
    raise InputError(
        f"{len(scans)} digits do not fit on {size}x{size} pixels: give a larger size or fewer"
        " objects"
    )


def _are_apart(one: Box, other: Box) -> bool:
    for axis in (0, 1):
        is_before = one[axis + 2] + GAP <= other[axis]
        is_behind = other[axis + 2] + GAP <= one[axis]
        if is_before or is_behind:
            return True
    return False


def _paste(
    rng: np.random.Generator, image: np.ndarray, ink: np.ndarray, box: Box
) -> tuple[np.ndarray, np.ndarray]:
    """Lay ink in its box, in a color that stands out from what it covers.

    Returns the image, and the ink on an empty canvas of its size."""
    x0, y0, x1, y1 = box
    canvas = np.zeros(image.shape[:2], image.dtype)
    canvas[y0:y1, x0:x1] = ink
    under = image[y0:y1, x0:x1].mean((0, 1))
    colors = rng.uniform(0.0, 1.0, (8, 3))
    color = colors[np.abs(colors - under).sum(1).argmax()]
    return image + canvas[..., None] * (color - image), canvas
