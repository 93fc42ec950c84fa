"""The win matrix as a picture: a grid of cells with the verdict, the rival and the difference."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mdm_jax.evaluation.formatting import format_interval, format_number
from mdm_jax.evaluation.win_matrix import WinCell, WinMatrix
from mdm_jax.evaluation.win_matrix_text import describe_counts

# Ground and text of a verdict. Blue and orange are told apart by color-blind readers, and the
# three grounds differ in lightness, so that they are told apart in gray too.
COLORS = {
    "first": ("#2f6db0", "white"),
    "tied": ("#eef0f2", "#333333"),
    "lost": ("#f5b26b", "black"),
}
MARKS = {"first": "▲", "tied": "≈", "lost": "▼"}

# Inches.
COLUMN, HEIGHT, MARGIN = 1.5, 0.52, 0.12
# Characters of a rival's name that a cell has room for.
NAME = 24


def draw(matrix: WinMatrix) -> Figure:
    """A row for each network and data, a column for each metric."""
    rows, metrics = matrix.rows, matrix.metrics
    names = [" · ".join(part for part in row if part) for row in rows]
    first = max(1.2, 0.088 * max(map(len, names), default=0))
    width = first + COLUMN * len(metrics) + 2 * MARGIN
    height = HEIGHT * (len(rows) + 2) + 2 * MARGIN
    figure = Figure(figsize=(width, height), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-MARGIN, width - MARGIN), ylim=(height - MARGIN, -MARGIN))
    axes.axis("off")
    for column, metric in enumerate(metrics):
        name, _, protocol = metric.partition(":")
        middle = first + COLUMN * (column + 0.5)
        _write(axes, middle, 0.32 * HEIGHT, name, size=8.0, weight="bold")
        _write(axes, middle, 0.7 * HEIGHT, protocol, size=6.5, color="0.35")
    for line, (row, name) in enumerate(zip(rows, names)):
        top = HEIGHT * (line + 1)
        axes.text(0, top + HEIGHT / 2, name, ha="left", va="center", fontsize=8)
        for column, metric in enumerate(metrics):
            _draw_cell(axes, matrix.find(row, metric), first + COLUMN * column, top)
    note = (
        f"{describe_counts(matrix)}\n"
        "difference and 95 % interval, paired over images; positive is good for"
        f" {matrix.reference}"
    )
    bottom = HEIGHT * (len(rows) + 1.5)
    axes.text(0, bottom, note, ha="left", va="center", fontsize=6.5, color="0.3")
    return figure


def _draw_cell(axes: Axes, cell: WinCell | None, left: float, top: float) -> None:
    middle = left + COLUMN / 2
    if cell is None:
        _write(axes, middle, top + HEIGHT / 2, "n/a", color="0.5")
        return
    ground, color = COLORS[cell.verdict]
    gap = 0.02
    corner = (left + gap, top + gap)
    size = (COLUMN - 2 * gap, HEIGHT - 2 * gap)
    axes.add_patch(Rectangle(corner, *size, facecolor=ground, lw=0))
    value = format_number(cell.difference)
    if cell.difference > 0:
        value = f"+{value}"
    head = f"{MARKS[cell.verdict]} {cell.verdict} {value}"
    weight = "bold" if cell.verdict == "lost" else "normal"
    _write(axes, middle, top + 0.24 * HEIGHT, head, size=7.5, color=color, weight=weight)
    _write(axes, middle, top + 0.52 * HEIGHT, _shorten(cell.rival), size=6.0, color=color)
    interval = format_interval(cell.interval)
    _write(axes, middle, top + 0.78 * HEIGHT, interval, size=5.5, color=color)


def _shorten(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


def _write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float = 7.0,
    color: str = "black",
    weight: str = "normal",
) -> None:
    axes.text(
        x, y, text, ha="center", va="center", fontsize=size, color=color, weight=weight
    )
