"""Maps on the photograph that they explain: one alone, or several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.images import to_array, to_uint8
from mdm_jax.types import REASONS, Status
from mdm_jax.views import panels
from mdm_jax.views.explanation_figures import HEAT, OPACITY, overlay

# Pixels; the short side of a picture is the photograph's own, within these.
MIN_SIDE, MAX_SIDE = 256, 768

# Pixels of the long side of a strip.
MAX_LENGTH = 2048

# What the network does not see: so far is it taken towards this gray.
DIM, VEIL = 0.65, 0.55

# Of a map's sum, in percent: what its highest values hold together is shown alike.
OUTLIERS = 2.0

# Square inches of a picture in a sheet, inches of its longest side, and pictures in a row.
AREA, MAX_INCHES, MAX_COLUMNS = 5.0, 5.0, 5


class Photograph(NamedTuple):
    """A photograph, in the size in which it is shown, and the part of it that the network saw."""

    pixels: Float[np.ndarray, "H W 3"]
    box: tuple[int, int, int, int]
    """left, top, right and bottom, in pixels"""

    @property
    def is_cropped(self) -> bool:
        height, width = self.pixels.shape[:2]
        return self.box != (0, 0, width, height)


class ShownMap(NamedTuple):
    """A map, and what is said of it."""

    saliency: Float[np.ndarray, "h w"]
    explained: str
    """such as a class, by its name"""
    answer: str
    """what the network says of it, such as a probability"""
    method: str
    status: Status
    is_pixelwise: bool = False
    """see `types.Method`: shown clipped, see `clip_outliers`"""


def show_photograph(image: PIL.Image.Image, preprocessing: Preprocessing) -> Photograph:
    """An 8-bit RGB photograph in the size in which it is shown, with what a network sees of it."""
    short, long = min(image.size), max(image.size)
    scale = float(np.clip(short, MIN_SIDE, MAX_SIDE)) / short
    scale = min(scale, MAX_LENGTH / long)
    width, height = (max(1, round(side * scale)) for side in image.size)
    pixels = to_array(image.resize((width, height), PIL.Image.Resampling.BICUBIC))
    shares = np.asarray(preprocessing.visible_box(image.size)) / (*image.size, *image.size)
    left, top, right, bottom = np.round(shares * (width, height, width, height)).astype(int)
    box = (int(left), int(top), max(int(right), left + 1), max(int(bottom), top + 1))
    return Photograph(np.broadcast_to(pixels, (height, width, 3)), box)


def clip_outliers(
    saliency: Float[np.ndarray, "h w"], percent: float = OUTLIERS
) -> Float[np.ndarray, "h w"]:
    """A map [h, w] in [0, 1] whose highest values, those that hold `percent` of its sum, are 1.

    Values are divided by t and cut at 1, where all values up to t make up 100 - `percent` percent
    of the sum. A gradient is huge at a few pixels, beside which nothing else would be seen. Only
    pictures are clipped, no array. Source: captum's `visualize_image_attr`, whose default
    `outlier_perc` is 2.
    """
    values = np.sort(saliency, axis=None).astype(np.float64)
    sums = np.cumsum(values)
    if not sums[-1] > 0:
        return saliency
    place = np.searchsorted(sums, (1 - percent / 100) * sums[-1])
    threshold = values[min(int(place), len(values) - 1)]
    return np.minimum(saliency / threshold, 1.0).astype(np.float32)


def paint(
    photograph: Photograph, saliency: Float[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "H W 3"]:
    """The heat of a map where the network saw the photograph; the rest of it dimmed."""
    left, top, right, bottom = photograph.box
    painted = to_uint8(dim_unseen(photograph, gray=True))
    seen = photograph.pixels[top:bottom, left:right]
    painted[top:bottom, left:right] = overlay(seen, saliency)
    return painted


def dim_unseen(photograph: Photograph, gray: bool = False) -> Float[np.ndarray, "H W 3"]:
    """The photograph, `gray` or in its colors, with what the network did not see dimmed."""
    pixels = photograph.pixels
    grays = np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1)
    left, top, right, bottom = photograph.box
    dimmed = (1 - DIM) * grays + DIM * VEIL
    shown = grays if gray else pixels
    dimmed[top:bottom, left:right] = shown[top:bottom, left:right]
    return dimmed


def draw_overlay(
    photograph: Photograph, shown: ShownMap, source: str, notes: Sequence[str] = ()
) -> Figure:
    """One map on the whole photograph, pixel by pixel. `source` names the file and the network."""
    title = f"{shown.explained}, {shown.answer}"
    height, width = photograph.pixels.shape[:2]
    size = (width / panels.DPI, height / panels.DPI)
    caption = f"{shown.method}\n{source}"
    panel = _map_panel(photograph, shown)._replace(caption=caption)
    footer = [*_notes([shown]), *notes]
    return panels.draw([[panel]], _bar(), title=title, size=size, notes=footer)


def draw_sheet(
    photograph: Photograph,
    maps: Sequence[Sequence[ShownMap]],
    title: str,
    notes: Sequence[str] = (),
) -> Figure:
    """The photograph and several maps of it: a row for each class, a column for each method.

    Where there is one class or one method only, or more than fit beside each other, the maps follow
    each other in rows of equal length.
    """
    original = panels.Panel(dim_unseen(photograph), "photograph", frame=_frame(photograph))
    rows: list[list[panels.Panel | None]]
    rows = [[None, *(_map_panel(photograph, each) for each in row)] for row in maps]
    rows[0][0] = original
    longest = max(map(len, rows))
    if len(rows) == 1 or longest == 2 or longest > MAX_COLUMNS:
        flat = [panel for row in rows for panel in row if panel is not None]
        count = -(-len(flat) // MAX_COLUMNS)
        columns = -(-len(flat) // count)
        rows = [
            list(flat[start : start + columns]) for start in range(0, len(flat), columns)
        ]
    height, width = photograph.pixels.shape[:2]
    size = _sheet_size(width / height)
    footer = [*_notes([each for row in maps for each in row]), *notes]
    return panels.draw(rows, _bar(), title=title, size=size, notes=footer)


def _map_panel(photograph: Photograph, shown: ShownMap) -> panels.Panel:
    saliency = clip_outliers(shown.saliency) if shown.is_pixelwise else shown.saliency
    return panels.Panel(
        paint(photograph, saliency),
        f"{shown.explained}\n{shown.answer}\n{shown.method}",
        warning=shown.status.words if shown.status in REASONS else "",
        frame=_frame(photograph),
    )


def _frame(photograph: Photograph) -> tuple[int, int, int, int] | None:
    return photograph.box if photograph.is_cropped else None


def _sheet_size(aspect: float) -> tuple[float, float]:
    """Width and height in inches, of the same area for every aspect but that of a strip."""
    width, height = (AREA * aspect) ** 0.5, (AREA / aspect) ** 0.5
    shrink = min(1.0, MAX_INCHES / max(width, height))
    return width * shrink, height * shrink


def _notes(maps: Sequence[ShownMap]) -> list[str]:
    """What the statuses of maps mean, and which maps are clipped."""
    given_up = dict.fromkeys(each.status for each in maps if each.status in REASONS)
    notes = [f"{status.words}: {REASONS[status]}" for status in given_up]
    clipped = dict.fromkeys(each.method for each in maps if each.is_pixelwise)
    if clipped:
        notes.append(
            f"{', '.join(clipped)}: the highest values, which hold {OUTLIERS:g} % of the map's"
            " sum, are shown alike"
        )
    return notes


def _bar() -> panels.Bar:
    """The colors of a map as they are seen on a photograph, that is, over gray."""
    values = np.linspace(0, 1, 256)
    weights = OPACITY * values[:, None]
    colors = (1 - weights) * 0.5 + weights * HEAT(values)[:, :3]
    return panels.Bar("saliency", ListedColormap(colors))
