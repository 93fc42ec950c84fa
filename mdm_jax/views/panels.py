"""Pictures in rows, a caption above each, and one color bar beside them.

Everything has its place in inches, and text is wrapped to the width that it has, so that nothing
overlaps or is cut, whatever the number and the shape of the pictures.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path

from mdm_jax.text_files import printable

DPI = 160

# Inches: around everything, between pictures, and for the color bar with its numbers.
MARGIN, GAP, BAR, BAR_SPACE = 0.12, 0.14, 0.11, 0.72

# Inches of a narrow picture's place, so that its caption has room, and of the color bar's height.
MIN_CELL, MIN_BAR, MAX_BAR = 1.7, 0.9, 3.0

# Points, and the height of a line as a multiple of them.
TITLE, CAPTION, NOTE, LINE = 9.5, 8.0, 7.0, 1.3
INK, SOFT, WARNING = "#1c1d1f", "#5d6066", "#b3261e"

# Of a title or a caption; what is longer ends with an ellipsis.
MAX_LINES = 10


class Panel(NamedTuple):
    """A picture and what is said of it."""

    picture: np.ndarray
    """[h, w, 3] in 8 bits or in [0, 1], or values [h, w] in [0, 1], which the color bar explains"""
    caption: str
    warning: str = ""
    """why the picture is not what it seems to be"""
    frame: tuple[int, int, int, int] | None = None
    """left, top, right and bottom of a frame in it, in pixels"""


class Bar(NamedTuple):
    """What colors mean: values from 0 to 1."""

    label: str
    colors: Colormap


def draw(
    rows: Sequence[Sequence[Panel | None]],
    bar: Bar,
    *,
    title: str,
    size: tuple[float, float],
    notes: Sequence[str] = (),
) -> Figure:
    """A figure of pictures, each of a size (width, height) in inches; None leaves a place empty."""
    cell = max(size[0], MIN_CELL)
    columns = max(map(len, rows))
    inner = columns * cell + (columns - 1) * GAP + BAR_SPACE
    heading = wrap(title, inner, TITLE)
    captions = [[_caption(panel, cell) for panel in row] for row in rows]
    footer = [line for note in notes for line in wrap(note, inner, NOTE, lines=None)]

    # Heights, from the top down.
    heading_height = len(heading) * _line(TITLE) + 0.05
    caption_heights = [max(map(len, row)) * _line(CAPTION) + 0.04 for row in captions]
    row_heights = [height + size[1] + GAP for height in caption_heights]
    footer_height = len(footer) * _line(NOTE)
    total = MARGIN + heading_height + sum(row_heights) + footer_height + MARGIN
    bar_height = float(np.clip(size[1], MIN_BAR, MAX_BAR))
    # The bar of one flat picture is higher than the picture.
    bar_top = MARGIN + heading_height + caption_heights[0]
    total = max(total, bar_top + bar_height + footer_height + 2 * MARGIN)

    canvas = _Canvas(inner + 2 * MARGIN, total)
    canvas.write(heading, MARGIN, MARGIN, TITLE, INK)
    top = MARGIN + heading_height
    for row, row_captions, caption_height, height in zip(
        rows, captions, caption_heights, row_heights
    ):
        for column, (panel, lines) in enumerate(zip(row, row_captions)):
            if panel is None:
                continue
            left = MARGIN + column * (cell + GAP)
            # Captions stand on their pictures, however many lines others have.
            above = caption_height - len(lines) * _line(CAPTION) - 0.04
            warned = len(wrap(panel.warning, cell, CAPTION)) if panel.warning else 0
            plain = len(lines) - warned
            canvas.write(lines[:plain], left, top + above, CAPTION, INK)
            below = top + above + plain * _line(CAPTION)
            canvas.write(lines[plain:], left, below, CAPTION, WARNING)
            canvas.show(panel, left, top + caption_height, size, bar.colors)
        top += height
    bar_left = MARGIN + columns * (cell + GAP) - GAP + 0.15
    canvas.show_bar(bar, bar_left, bar_top, bar_height)
    canvas.write(footer, MARGIN, total - MARGIN - footer_height, NOTE, SOFT)
    return canvas.figure


def wrap(
    text: str, inches: float, points: float, lines: int | None = MAX_LINES
) -> list[str]:
    """A text in lines of at most this width, as it is drawn; new lines in it stay.

    A word that is longer than a line is broken. What is beyond so many `lines` is left out, with an
    ellipsis."""
    wrapped = []
    for paragraph in text.split("\n"):
        line = ""
        for word in printable(paragraph).split(" "):
            longer = f"{line} {word}" if line else word
            if text_width(longer, points) <= inches:
                line = longer
                continue
            if line:
                wrapped.append(line)
            *pieces, line = _break_word(word, inches, points)
            wrapped += pieces
        wrapped.append(line)
    if lines is not None and len(wrapped) > lines:
        last = wrapped[lines - 1]
        while last and text_width(f"{last}…", points) > inches:
            last = last[:-1]
        wrapped = [*wrapped[: lines - 1], f"{last}…"]
    return wrapped


@cache
def text_width(text: str, points: float) -> float:
    """Inches of a text in one line."""
    with warnings.catch_warnings():
        # Names may be in a script that the font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        font = FontProperties(size=points)
        width, _, _ = text_to_path.get_text_width_height_descent(text, font, False)
    return float(width) / 72


def _break_word(word: str, inches: float, points: float) -> list[str]:
    """A word in pieces that fit into a line, one character at least."""
    pieces = [""]
    for character in word:
        if pieces[-1] and text_width(pieces[-1] + character, points) > inches:
            pieces.append("")
        pieces[-1] += character
    return pieces


def _caption(panel: Panel | None, inches: float) -> list[str]:
    if panel is None:
        return []
    warning = wrap(panel.warning, inches, CAPTION) if panel.warning else []
    return wrap(panel.caption, inches, CAPTION) + warning


def _line(points: float) -> float:
    return LINE * points / 72


class _Canvas:
    """A figure in which places are inches from its top left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

    def write(
        self, lines: Sequence[str], left: float, top: float, points: float, color: str
    ) -> None:
        for number, line in enumerate(lines):
            base = top + number * _line(points) + points / 72
            self.figure.text(
                left / self.width,
                1 - base / self.height,
                line,
                fontsize=points,
                color=color,
                va="baseline",
                parse_math=False,
            )

    def show(
        self,
        panel: Panel,
        left: float,
        top: float,
        size: tuple[float, float],
        colors: Colormap,
    ) -> None:
        ax = self.figure.add_axes(self._place(left, top, *size))
        # What is enlarged shows its pixels; what is shrunk is averaged.
        ax.imshow(panel.picture, cmap=colors, vmin=0, vmax=1, aspect="auto")
        ax.axis("off")
        if panel.frame is not None:
            x0, y0, x1, y1 = panel.frame
            corner = (x0 - 0.5, y0 - 0.5)
            frame = Rectangle(corner, x1 - x0, y1 - y0, fill=False, ec="white", lw=0.8)
            frame.set_path_effects([withStroke(linewidth=1.8, foreground="#101010")])
            ax.add_patch(frame)

    def show_bar(self, bar: Bar, left: float, top: float, height: float) -> None:
        ax = self.figure.add_axes(self._place(left, top, BAR, height))
        colors = ScalarMappable(Normalize(0, 1), bar.colors)
        drawn = self.figure.colorbar(colors, cax=ax, ticks=[0, 0.5, 1])
        drawn.ax.tick_params(labelsize=NOTE, length=2, pad=2)
        drawn.outline.set_linewidth(0.5)
        drawn.set_label(bar.label, fontsize=NOTE, labelpad=3)

    def _place(
        self, left: float, top: float, width: float, height: float
    ) -> tuple[float, float, float, float]:
        """As matplotlib has it: shares of the figure, from its bottom left corner."""
        bottom = self.height - top - height
        return (
            left / self.width,
            bottom / self.height,
            width / self.width,
            height / self.height,
        )
