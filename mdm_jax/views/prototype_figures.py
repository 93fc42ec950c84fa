"""The figure "this looks like that": parts of an image and of training images, and their sum.

Everything is placed in inches from the top left, so that a row looks the same in a figure of two
rows and in one of ten."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdm_jax.prototypes.reasoning import Contribution, RoundedSum
from mdm_jax.text_files import printable
from mdm_jax.views.outline import dim_outside, draw_outline
from mdm_jax.views.pages.pictures import to_rgb

# One a row: told apart on photographs and by most people who see few colors (after Okabe and Ito).
COLORS = (
    "#e69f00",
    "#3aa7e8",
    "#14a37f",
    "#e0559f",
    "#f0e442",
    "#8f6ff0",
    "#e8622c",
    "#7fc241",
    "#c9a27e",
    "#9aa3ad",
)
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
ALIKE, UNLIKE = "\N{ALMOST EQUAL TO}", "\N{NOT ALMOST EQUAL TO}"
INK, SOFT, LINE = "#1c1d1f", "#5d6066", "#dedfda"

# Inches: a small picture, the space below it, the space around everything.
SIDE, GAP, MARGIN = 1.18, 0.16, 0.3

# Inches: the whole image.
LARGE = 2.75

# Inches: the title, the names of the columns.
HEAD, COLUMN_HEAD = 1.25, 0.5

# Characters of a class that are shown.
NAME = 26

# Characters of a line below the whole image.
LINE_LENGTH = 44


class LookAlike(NamedTuple):
    """One row: a prototype, where it is in the image and in the training image it comes from."""

    row: Contribution
    class_name: str
    """of the prototype; "" where it is not known"""
    here: Float[np.ndarray, "h w"] | None
    """saliency of the prototype in the image; None where it could not be found"""
    source: Float[np.ndarray, "h2 w2 c"] | None
    """the training image; None where it cannot be read, or the prototype has none"""
    there: Float[np.ndarray, "h2 w2"] | None
    label: str
    """the class of the training image, "" where it is not known"""


@dataclass(frozen=True)
class Verdict:
    """What the network says of the image."""

    says: str
    """the class whose logit is added up"""
    label: str = ""
    """the true class, "" where it is not known"""
    rival: tuple[str, float] | None = None
    """another class and its logit: the best of the others, or the first choice where that is not
    `says`"""
    multi_label: bool = False
    """whether an image may have several classes, so that none is a rival"""


def this_looks_like_that(
    image: Float[np.ndarray, "h w c"],
    looks: Sequence[LookAlike],
    total: RoundedSum,
    verdict: Verdict,
    *,
    share: float = 0.1,
    how: str = "",
) -> Figure:
    """Why the logit of a class is `total.total`.

    The figure has a row for each of `looks`, one for all other prototypes, and the sum. `share` of
    each image lies within its outline, and `how` names what found the regions."""
    says = shorten(verdict.says)
    rows = len(looks)
    count = rows + total.rest
    height = HEAD + COLUMN_HEAD + max(rows * (SIDE + GAP) + 1.15, LARGE + 0.95) + MARGIN
    here = MARGIN + LARGE + 0.5
    there = here + SIDE + 0.5
    at = _Columns(there + SIDE + 0.65)
    width = at.right + MARGIN
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    sheet = _Sheet(figure, width, height)
    _draw_title(sheet, says, count, verdict)

    top = HEAD + COLUMN_HEAD
    colors = _row_colors(rows)
    whole = sheet.axes(MARGIN, top, LARGE, LARGE)
    _draw_picture(whole, image)
    whole.set_anchor("N")
    for each, color in zip(looks, colors):
        if each.here is not None:
            draw_outline(whole, each.here, share, color, image.shape[:2])
    _draw_heads(sheet, at, here, there, top - 0.12)
    known = []
    if verdict.label:
        known += [f"true class: {quote(shorten(verdict.label))}", ""]
    if rows > 3:
        known += textwrap.wrap(_how_to_read(rows, count), LINE_LENGTH)
    below = top + LARGE + 0.12
    text = "\n".join(known)
    sheet.text(MARGIN, below, text, color=SOFT, va="top", size=9.5, linespacing=1.35)
    # never zero, since bars are drawn relative to it
    largest = max([abs(each.row.points) for each in looks] + [1e-6])
    for number, (each, color) in enumerate(zip(looks, colors)):
        y = top + number * (SIDE + GAP)
        _draw_pictures(sheet, each, image, color, share, (here, there, y))
        _draw_row(sheet, at, each, color, y, largest)
    _draw_sum(sheet, at, total, says, top + rows * (SIDE + GAP), here)
    note = f"Outlined: the {100 * share:g} % of the pixels that matter most"
    note += f", found by {how}." if how else "."
    sheet.text(MARGIN, height - MARGIN, note, color=SOFT, va="bottom", size=8.5)
    return figure


def _draw_heads(sheet: _Sheet, at: _Columns, here: float, there: float, y: float) -> None:
    """The names of the columns, which end at height y."""
    pictures = (
        (MARGIN, "the image"),
        (here, "this part\nof the image …"),
        (there, "… looks like this part\nof a training image"),
    )
    for x, text in pictures:
        sheet.text(x, y, text, weight="bold", va="bottom")
    for x, text in (
        (at.similarity, "similarity"),
        (at.weight, "weight"),
        (at.points, "points"),
    ):
        sheet.text(x, y, text, weight="bold", va="bottom", ha="right")
    sheet.text(at.zero - 0.08, y, "against", color=SOFT, va="bottom", ha="right", size=9)
    sheet.text(at.zero + 0.08, y, "for", color=SOFT, va="bottom", ha="left", size=9)


def shorten(name: str, length: int = NAME) -> str:
    """A class's name before its first comma, cut to `length` characters."""
    name = name.partition(",")[0].strip()
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def quote(name: str) -> str:
    """A name in quotation marks."""
    return f"“{name}”"


def format_signed(value: float) -> str:
    """Two places and a sign, as points are written; a minus as wide as a plus."""
    return f"{value:+.2f}".replace("-", MINUS)


def format_number(value: float) -> str:
    """Two places, as similarities, weights and sums are written."""
    return f"{value:.2f}".replace("-", MINUS)


class _Columns:
    """Where the numbers of a row stand, in inches.

    Right ends of columns, middles of signs, and the line that bars begin at."""

    def __init__(self, left: float) -> None:
        self.left = left
        self.similarity, self.times = left + 0.75, left + 0.93
        self.weight, self.equals = left + 1.68, left + 1.86
        self.points = left + 2.84
        self.reach = 0.75
        self.zero = self.points + 0.3 + self.reach
        self.right = self.zero + self.reach


class _Sheet:
    """A figure on which things are placed in inches from the top left."""

    def __init__(self, figure: Figure, width: float, height: float) -> None:
        self.figure, self.width, self.height = figure, width, height

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        # matplotlib counts from the bottom left, in fractions of the figure
        left, bottom = x / self.width, 1 - (y + height) / self.height
        ax = self.figure.add_axes((left, bottom, width / self.width, height / self.height))
        ax.axis("off")
        return ax

    def text(self, x: float, y: float, text: str, **how: Any) -> None:
        # class names may hold a dollar sign, which is no formula
        style: dict[str, Any] = {"size": 10, "color": INK, "parse_math": False} | how
        shown = "\n".join(map(printable, text.split("\n")))
        self.figure.text(x / self.width, 1 - y / self.height, shown, **style)

    def line(self, x0: float, y0: float, x1: float, y1: float, **how: Any) -> None:
        ends = (
            [x0 / self.width, x1 / self.width],
            [1 - y0 / self.height, 1 - y1 / self.height],
        )
        style: dict[str, Any] = {"color": LINE, "linewidth": 1.0} | how
        self.figure.add_artist(Line2D(*ends, **style))


def _draw_title(sheet: _Sheet, says: str, count: int, verdict: Verdict) -> None:
    title = f"This looks like that: why the network says {quote(says)}"
    sheet.text(MARGIN, MARGIN, title, size=17, weight="bold", va="top")
    text = (
        f"Similarity {TIMES} weight = points for {quote(says)}. The points of all {count}"
        " prototypes add up to its score."
    )
    if verdict.multi_label:
        text += "\nEach label is decided by its own score."
    elif verdict.rival is not None:
        name, logit = verdict.rival
        rival = f"{quote(shorten(name))} with {format_number(logit)}"
        text += f"\nThe highest score wins; next is {rival}."
    sheet.text(
        MARGIN, MARGIN + 0.4, text, size=10.5, color=SOFT, va="top", linespacing=1.35
    )


def _how_to_read(rows: int, count: int) -> str:
    return (
        f"The network remembers {count} parts of training images, its prototypes. It looks in the"
        f" image for the part most like each of them: the more alike, the more points. The {rows}"
        " that give the most points are shown."
    )


def _draw_pictures(
    sheet: _Sheet,
    each: LookAlike,
    image: Float[np.ndarray, "h w c"],
    color: str,
    share: float,
    place: tuple[float, float, float],
) -> None:
    """The image and the training image of a row; `place`: left ends of both, and their top."""
    here, there, y = place
    for x, picture, region in ((here, image, each.here), (there, each.source, each.there)):
        ax = sheet.axes(x, y, SIDE, SIDE)
        if picture is None:
            style: dict[str, Any] = {
                "ha": "center",
                "va": "center",
                "size": 8.5,
                "color": SOFT,
            }
            ax.text(0.5, 0.5, "no picture", transform=ax.transAxes, **style)
            continue
        _draw_picture(
            ax, picture if region is None else dim_outside(picture, region, share)
        )
        if region is not None:
            draw_outline(ax, region, share, color, picture.shape[:2])
    sign = UNLIKE if each.row.similarity < 0 else ALIKE
    between = (here + SIDE + there) / 2
    sheet.text(between, y + SIDE / 2, sign, size=20, ha="center", va="center", color=SOFT)


def _draw_row(
    sheet: _Sheet, at: _Columns, each: LookAlike, color: str, y: float, largest: float
) -> None:
    """The numbers of a row, its bar and the name of its prototype."""
    row, middle = each.row, y + SIDE / 2
    for x, text, ha in (
        (at.similarity, format_number(row.similarity), "right"),
        (at.times, TIMES, "center"),
        (at.weight, format_number(row.weight), "right"),
        (at.equals, "=", "center"),
        (at.points, format_signed(row.points), "right"),
    ):
        weight = "bold" if x == at.points else "normal"
        sheet.text(x, middle, text, size=12, ha=ha, va="center", weight=weight)
    _draw_bar(sheet, at, middle, row.points, largest, color)
    name = f"prototype {row.prototype}"
    if row.similarity < 0:
        name = f"unlike {name}"
    if each.class_name:
        name += f" of {quote(shorten(each.class_name))}"
    sheet.text(at.left, y + SIDE - 0.02, name, size=9, color=SOFT, va="bottom")


def _draw_bar(
    sheet: _Sheet, at: _Columns, y: float, points: float, largest: float, color: str
) -> None:
    """The points as a length from the middle line, to the right where they are for the class."""
    ax = sheet.axes(at.zero - at.reach, y - 0.13, 2 * at.reach, 0.26)
    ax.set(xlim=(-1.02, 1.02), ylim=(-1, 1))
    ax.barh(0, points / largest, height=1.4, color=color, edgecolor=INK, linewidth=0.6)
    ax.axvline(0, color=SOFT, linewidth=0.9)


def _draw_sum(
    sheet: _Sheet, at: _Columns, total: RoundedSum, says: str, y: float, left: float
) -> None:
    """What is not shown in rows, the line under the addition, and the logit."""
    y += 0.12
    lines = []
    if total.rest:
        lines.append((f"{total.rest} other prototypes together", total.others))
    if total.bias:
        lines.append(("bias of the class", total.bias))
    for text, points in lines:
        number = format_signed(points)
        sheet.text(at.equals - 0.2, y, text, ha="right", va="center", size=10)
        sheet.text(at.points, y, number, ha="right", va="center", size=12, weight="bold")
        y += 0.32
    sheet.line(left, y - 0.1, at.points + 0.05, y - 0.1, color=INK)
    y += 0.12
    style: dict[str, Any] = {"ha": "right", "va": "center", "weight": "bold"}
    sheet.text(at.equals - 0.2, y, f"score of {quote(says)} (logit)", size=12, **style)
    sheet.text(at.points, y, format_number(total.total), size=14, **style)


def _draw_picture(ax: Axes, picture: Float[np.ndarray, "h w c"]) -> None:
    # small pictures are enlarged: smoothly, not cell by cell
    small = max(picture.shape[:2]) < 256
    interpolation = "lanczos" if small else "antialiased"
    ax.imshow(np.clip(to_rgb(picture), 0, 1), interpolation=interpolation)
    ax.set_aspect("equal")


def _row_colors(count: int) -> list[str]:
    return [COLORS[n % len(COLORS)] for n in range(count)]
