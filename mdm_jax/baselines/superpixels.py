"""Superpixels by SLIC (Achanta et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel
Methods", PAMI 2012): k-means of color and place, from a grid.

The number of segments and of rounds is fixed, so that images are segmented inside of compiled
programs. Two things differ from the paper for that: a pixel chooses among the segments that began
in the 3 x 3 cells around it, not among those whose center has come near; and segments are not made
connected at the end, so that a few stray pixels may lie apart from theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.baseline_image import check_baseline, draw_baseline
from mdm_jax.errors import InputError
from mdm_jax.execution.chunked import check_above_zero, check_count
from mdm_jax.masks import HIGHEST
from mdm_jax.types import Image, Mask, Predict

# The baseline that is each segment's own mean color.
SEGMENTS = "segments"

# From linear RGB to XYZ (sRGB, D65), each row divided by that of white, so that white is 1, 1, 1.
XYZ = np.asarray(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
XYZ = (XYZ / XYZ.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Grid:
    """Where segments begin: rows x columns cells over an image [height, width]."""

    height: int
    width: int
    rows: int
    columns: int

    @property
    def segments(self) -> int:
        return self.rows * self.columns

    @property
    def interval(self) -> float:
        """Side in pixels of a square of a segment's size (S)."""
        return float(np.sqrt(self.height * self.width / self.segments))

    def home_cells(self) -> Int[np.ndarray, "h w"]:
        """The cell of each pixel."""
        row = np.arange(self.height) * self.rows // self.height
        column = np.arange(self.width) * self.columns // self.width
        return row[:, None] * self.columns + column[None, :]

    def neighbors(self) -> Int[np.ndarray, "9 k"]:
        """The 3 x 3 cells around each cell; at the border, cells come twice."""
        row, column = np.divmod(np.arange(self.segments), self.columns)
        near = [
            np.clip(row + y, 0, self.rows - 1) * self.columns
            + np.clip(column + x, 0, self.columns - 1)
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
        ]
        return np.stack(near)

    def middles(self) -> Int[np.ndarray, "k 2"]:
        """The pixel in the middle of each cell."""
        row, column = np.divmod(np.arange(self.segments), self.columns)
        return np.stack(
            [
                (2 * row + 1) * self.height // (2 * self.rows),
                (2 * column + 1) * self.width // (2 * self.columns),
            ],
            axis=-1,
        )


def make_grid(shape: tuple[int, ...], segments: int) -> Grid:
    """The grid of about `segments` cells that are as square as they can be.

    Raises InputError for more segments than pixels.
    """
    height, width = shape[:2]
    rows = max(1, round(np.sqrt(segments * height / width)))
    columns = max(1, round(segments / rows))
    if rows > height or columns > width:
        raise InputError(
            f"segments is {segments}: give at most the {height * width} pixels of the image"
        )
    return Grid(height, width, rows, columns)


def check_superpixels(segments: int, compactness: Any, rounds: int, baseline: Any) -> None:
    """Raises InputError for settings that cannot be."""
    check_count("segments", segments, least=2)
    check_above_zero("compactness", compactness)
    check_count("rounds", rounds)
    if not (isinstance(baseline, str) and baseline == SEGMENTS):
        check_baseline(baseline)


def slic(
    image: Image, grid: Grid, *, compactness: Any = 10.0, rounds: int = 10
) -> Int[Array, "h w"]:
    """The segment of each pixel, 0 .. grid.segments - 1, in the order of the grid.

    D^2 = |color - color_k|^2 + (compactness / S)^2 |place - place_k|^2, colors in CIELAB. A round
    gives each pixel to its nearest center and moves centers to the means of their pixels. A
    segment that has lost all of its pixels keeps its center.
    """
    places = np.indices((grid.height, grid.width)).transpose(1, 2, 0).astype(np.float32)
    colors = to_lab(image)
    features = jnp.concatenate(
        [colors, places * (compactness / grid.interval)], axis=-1, dtype=jnp.float32
    )
    candidates = jnp.asarray(grid.neighbors())[:, grid.home_cells()]
    starts = quiet_pixels(colors, grid)
    centers = features[starts[:, 0], starts[:, 1]]

    def assign_and_move(carried: tuple[Array, Array], _: None) -> tuple[Any, None]:
        centers = carried[0]
        distance = jnp.square(features - centers[candidates]).sum(axis=-1)
        nearest = jnp.argmin(distance, axis=0)
        labels = jnp.take_along_axis(candidates, nearest[None], axis=0)[0]
        return (segment_means(features, labels, centers), labels), None

    start = (centers, candidates[0])
    (_, labels), _ = jax.lax.scan(assign_and_move, start, None, length=rounds)
    return labels


def quiet_pixels(colors: Float[Array, "h w c"], grid: Grid) -> Int[Array, "k 2"]:
    """Where segments start: near the middle of their cells, off edges and noise.

    Of the 3 x 3 pixels around the middle that with the least difference between its neighbors.
    """
    padded = jnp.pad(colors, ((1, 1), (1, 1), (0, 0)), mode="edge")
    down = jnp.square(padded[2:, 1:-1] - padded[:-2, 1:-1]).sum(axis=-1)
    right = jnp.square(padded[1:-1, 2:] - padded[1:-1, :-2]).sum(axis=-1)
    # the middle itself comes first, so that flat places do not move
    offsets = sorted(
        ((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)), key=lambda each: each != (0, 0)
    )
    middles = grid.middles()[:, None, :] + np.asarray(offsets)
    near = np.clip(middles, 0, np.asarray([grid.height - 1, grid.width - 1]))
    differences = (down + right)[near[..., 0], near[..., 1]]
    chosen = jnp.argmin(differences, axis=1)
    return jnp.take_along_axis(jnp.asarray(near), chosen[:, None, None], axis=1)[:, 0]


def segment_means(
    values: Float[Array, "h w f"], labels: Int[Array, "h w"], empty: Float[Array, "k f"]
) -> Float[Array, "k f"]:
    """The mean of each segment's pixels, and that of `empty` for a segment without pixels."""
    # a product with zeros and ones, because sums by index differ from run to run on some devices
    member = jax.nn.one_hot(labels.reshape(-1), len(empty), axis=0)
    sums = jnp.matmul(member, values.reshape(-1, values.shape[-1]), precision=HIGHEST)
    count = member.sum(axis=1, keepdims=True)
    return jnp.where(count > 0, sums / jnp.maximum(count, 1.0), empty)


def show(coalition: Float[Array, " k"], labels: Int[Array, "h w"]) -> Mask:
    """Each pixel gets its segment's value: the mask of a coalition, or the map of coefficients."""
    return coalition[labels]


def draw_background(
    predict: Predict,
    image: Image,
    labels: Int[Array, "h w"],
    baseline: Any,
    *,
    segments: int,
    key: Key[Array, ""],
) -> Image:
    """What a segment shows that is hidden: its own mean color for "segments", or a baseline.

    See `baseline_image.draw_baseline`.
    """
    if not (isinstance(baseline, str) and baseline == SEGMENTS):
        return draw_baseline(predict, image, baseline, key=key)
    means = segment_means(image, labels, jnp.zeros((segments, image.shape[-1])))
    return means[labels].astype(image.dtype)


def to_lab(image: Image) -> Float[Array, "h w c"]:
    """CIELAB of an sRGB image: L from 0 to 100. Images that are not RGB get their values x 100."""
    if image.shape[-1] != 3:
        return 100.0 * image
    linear = jnp.where(
        image <= 0.04045, image / 12.92, ((jnp.maximum(image, 0.0) + 0.055) / 1.055) ** 2.4
    )
    xyz = jnp.matmul(linear, XYZ.T, precision=HIGHEST)
    bend = 6 / 29
    root = jnp.where(
        xyz > bend**3, jnp.cbrt(jnp.maximum(xyz, 0.0)), xyz / (3 * bend**2) + 4 / 29
    )
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
