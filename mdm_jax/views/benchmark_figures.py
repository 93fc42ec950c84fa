"""The benchmark's figures: its table, quality against cost, and maps side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mdm_jax.data.network_input import PreparedExample, boxes_to_mask, evenly_spaced
from mdm_jax.evaluation.benchmark import Results, stored_maps
from mdm_jax.evaluation.formatting import (
    ARROWS,
    MARKS,
    format_interval,
    format_number,
)
from mdm_jax.evaluation.table_text import COST_HEADS, format_cost
from mdm_jax.evaluation.tables import Cell, Row, Table
from mdm_jax.metrics import look_up
from mdm_jax.views.explanation_figures import TRUTH, label_row, overlay

REFERENCE, OTHERS = "#c2185b", "#37609c"
BEST, NEAR = "#bfe3c5", "#e6f4e8"

# Metrics side by side in the table's picture.
BAND = 10

# Inches, of a cell in the table's picture.
COLUMN, HEIGHT = 1.15, 0.36


def picture(table: Table, model: str) -> Figure:
    """One network's table as a picture.

    The best of a column is on green, what is not told apart from it on light green.
    """
    rows, names = table.of(model), list(table.metrics)
    number_of_bands = math.ceil(len(names) / BAND)
    count = math.ceil(len(names) / number_of_bands)  # bands are as even as can be
    bands = [names[start : start + count] for start in range(0, len(names), count)]
    first = max(1.5, 0.085 * max(len(row.method) for row in rows))
    width = first + COLUMN * count + COLUMN * 2.2
    height = HEIGHT * (len(rows) + 1.7) * len(bands) + 0.8 * HEIGHT
    figure = Figure(figsize=(width + 0.2, height), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.1, width + 0.1), ylim=(height, 0))
    axes.axis("off")
    for place, band in enumerate(bands):
        _draw_band(axes, table, rows, band, first, HEIGHT * (len(rows) + 1.7) * place)
    marks = (
        f"against {table.reference}: ▲ better, ▼ worse, ≈ tied; green: best, light green: not told"
        " apart from it"
    )
    note = f"{model}: value [95 % interval]; {marks}"
    axes.text(
        0,
        height - 0.45 * HEIGHT,
        note,
        ha="left",
        va="center",
        fontsize=6.5,
        color="0.3",
    )
    return figure


def _draw_band(
    axes: Axes,
    table: Table,
    rows: Sequence[Row],
    names: Sequence[str],
    first: float,
    top: float,
) -> None:
    """Some metrics of every method, with the costs, from `top` downwards."""
    metrics = [table.metrics[name] for name in names]
    heads = [
        f"{metric.name} {ARROWS[metric.better]}\n{metric.protocol}" for metric in metrics
    ]
    heads += COST_HEADS
    middles = [first + COLUMN * (i + 0.5) for i in range(len(names))]
    middles += [first + COLUMN * (len(names) + each) for each in (0.4, 1.1, 1.8)]
    axes.text(
        0,
        top + 0.75 * HEIGHT,
        "method",
        ha="left",
        va="center",
        fontsize=7.5,
        weight="bold",
    )
    for at, head in zip(middles, heads):
        axes.text(
            at,
            top + 0.75 * HEIGHT,
            head,
            ha="center",
            va="center",
            fontsize=7.5,
            weight="bold",
        )
    axes.axhline(top + 1.3 * HEIGHT, color="black", lw=0.8)
    for i, row in enumerate(rows):
        middle = top + (i + 1.85) * HEIGHT
        weight = "bold" if row.method == table.reference else "normal"
        axes.text(0, middle, row.method, ha="left", va="center", fontsize=8, weight=weight)
        for at, name in zip(middles, names):
            _draw_cell(axes, row.cells.get(name), at, middle)
        for at, text in zip(middles[len(names) :], format_cost(row.cost)):
            axes.text(at, middle, text, ha="center", va="center", fontsize=7.5)


def _draw_cell(axes: Axes, cell: Cell | None, at: float, middle: float) -> None:
    if cell is None or not cell.summary.counted:
        text = "n/a" if cell is None else "no truth"
        axes.text(at, middle, text, ha="center", va="center", fontsize=7, color="0.5")
        return
    if cell.rank:
        color = BEST if cell.rank == "best" else NEAR
        corner = (at - 0.48 * COLUMN, middle - 0.48 * HEIGHT)
        axes.add_patch(Rectangle(corner, 0.96 * COLUMN, 0.96 * HEIGHT, color=color, lw=0))
    weight = "bold" if cell.rank == "best" else "normal"
    text = f"{format_number(cell.summary.value)} {MARKS[cell.verdict]}".rstrip()
    axes.text(
        at,
        middle - 0.17 * HEIGHT,
        text,
        ha="center",
        va="center",
        fontsize=8,
        weight=weight,
    )
    axes.text(
        at,
        middle + 0.24 * HEIGHT,
        format_interval(cell.summary.interval),
        ha="center",
        va="center",
        fontsize=5.8,
        color="0.35",
    )


def quality_against_cost(table: Table, model: str) -> Figure:
    """A panel a metric: value and 95 % interval against network evaluations in forward passes."""
    metrics = {
        name: metric for name, metric in table.metrics.items() if metric.better != "none"
    } or dict(table.metrics)
    columns = min(4, len(metrics))
    bands = -(-len(metrics) // columns)
    figure = Figure(
        figsize=(3.6 * columns, 3.0 * bands + 0.4), dpi=150, layout="constrained"
    )
    figure.suptitle(
        f"{model}: quality against network evaluations an image (a forward pass is 1, one with a"
        " gradient 3)",
        fontsize=9,
    )
    axes = figure.subplots(bands, columns, squeeze=False)
    for ax in axes.flat[len(metrics) :]:
        ax.axis("off")
    for ax, (name, metric) in zip(axes.flat, metrics.items()):
        ax.set_title(f"{metric.id} {ARROWS[metric.better]}", fontsize=8)
        _draw_panel(ax, _points(table, model, name), table.reference)
    return figure


class _Point(NamedTuple):
    """A method's value of one metric, and its cost in forward equivalents."""

    method: str
    cost: float
    value: float
    interval: tuple[float, float]


def _points(table: Table, model: str, metric: str) -> list[_Point]:
    points = []
    for row in table.of(model):
        cell = row.cells.get(metric)
        if cell is not None and row.cost is not None and cell.summary.counted:
            summary = cell.summary
            points.append(
                _Point(row.method, row.cost.equivalent, summary.value, summary.interval)
            )
    return points


def _draw_panel(ax: Axes, points: Sequence[_Point], reference: str) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(labelsize=6.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, lw=0.5)
    for method, cost, value, (low, high) in points:
        color = REFERENCE if method == reference else OTHERS
        # the value may lie outside a bootstrap interval, and a negative bar is an error
        errors = [[max(0.0, value - low)], [max(0.0, high - value)]]
        ax.errorbar(cost, value, yerr=errors, fmt="o", ms=3.5, color=color, elinewidth=0.7)
    costs = [point.cost for point in points]
    if (
        len(set(costs)) == 1
    ):  # of one value a logarithmic axis finds limits that may be equal
        ax.set_xlim(costs[0] / 3, costs[0] * 3)
    _annotate_points(ax, points, reference)


def _annotate_points(ax: Axes, points: Sequence[_Point], reference: str) -> None:
    """A name at each point, moved up or down where it would lie on another."""
    if not points:
        return
    values = [point.value for point in points]
    low, high = min(values), max(values)
    costs = [math.log10(max(point.cost, 1.0)) for point in points]
    right = max(costs)
    # what a name needs, in units of the axes
    gap = max(high - low, 1e-6) * 0.055
    width = max(right - min(costs), 0.5) * 0.45
    ax.margins(x=0.12, y=0.12)
    taken: list[tuple[float, float]] = []
    for point, at in sorted(zip(points, costs), key=lambda pair: pair[0].value):
        height = point.value
        while any(abs(at - x) < width and abs(height - y) < gap for x, y in taken):
            height += gap / 4
        taken.append((at, height))
        left = at > right - width and len(points) > 1
        ax.annotate(
            point.method,
            (point.cost, point.value),
            xytext=(-4 if left else 4, height),
            textcoords=("offset points", "data"),
            fontsize=5.5,
            ha="right" if left else "left",
            va="center",
            color=REFERENCE if point.method == reference else "0.2",
        )


def map_grid(
    results: Results, model: str, count: int, worst: tuple[str, str] | None = None
) -> Figure | None:
    """Maps of the same images by every method, a row an image; the object outlined.

    The images are spread over the data; or, with `worst` = (method, metric), those on which this
    method scores worst. None where no method has any map."""
    items, scores = results.images[model], None
    # nested images begin with those that are spread, which every method has
    nested = results.config.nested
    places = (
        list(range(min(count, len(items)))) if nested else evenly_spaced(len(items), count)
    )
    if worst is not None:
        method, metric = worst[0], look_up(worst[1], results.metrics)
        scores = _scores(results, model, method, metric.id)
        if scores is None:
            return None
        higher_is_better = metric.better == "higher"
        # NaN, an image without truth, is sorted last
        order = np.argsort(scores if higher_is_better else -scores, kind="stable")
        places = order[: min(count, int(np.isfinite(scores).sum()))].tolist()
    chosen = [items[i] for i in places]
    ids = [item.example.id for item in chosen]
    maps = {}
    for entry in results.entries:
        if entry.model == model and entry.cost is not None:
            found = stored_maps(results, model, entry.method, ids)
            if found is not None:
                maps[entry.method] = found
    if not maps or not chosen:
        return None
    height, width = chosen[0].example.image.shape[:2]
    side = 1.25  # inches
    size = (
        side * (len(maps) + 1) + 0.3,
        side * height / width * len(chosen) + 0.45,
    )
    engine = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
    figure = Figure(figsize=size, dpi=140, layout=engine)
    axes = figure.subplots(len(chosen), len(maps) + 1, squeeze=False)
    for row, item in enumerate(chosen):
        for ax in axes[row]:
            ax.set(xticks=[], yticks=[])
            ax.axis("off")
        image = np.broadcast_to(item.example.image, (height, width, 3))
        axes[row, 0].imshow(image)
        _draw_object(axes[row, 0], item.example)
        caption = ""
        if item.label >= 0:
            caption = "right" if item.label == item.prediction else "wrong"
        if scores is not None:
            caption += f", {scores[places[row]]:.2f}"
        label_row(axes[row, 0], caption)
        for ax, found in zip(axes[row, 1:], maps.values()):
            ax.imshow(overlay(image, found[row]))
            _draw_object(ax, item.example)
    for ax, name in zip(axes[0], ["image", *maps]):
        # a method's settings stand on lines of their own
        title = "\n".join(name.split(":", 1)).replace(",", ",\n")
        ax.set_title(title, fontsize=6.5)
    return figure


def _scores(results: Results, model: str, method: str, metric: str) -> np.ndarray | None:
    """A method's score of each image, NaN without truth.

    None where there is not one number an image."""
    for entry in results.entries:
        if (entry.model, entry.method) != (model, method) or entry.scores is None:
            continue
        if metric in entry.scores.measured:
            values = entry.scores.per_image(metric)
            return values if values.ndim == 1 and np.isfinite(values).any() else None
    return None


def _draw_object(ax: Axes, framed: PreparedExample) -> None:
    """The mask's contour, or the boxes where these are what is known."""
    mask, boxes = framed.mask, framed.boxes
    # a mask that is only the boxes filled tells no more than they do
    if boxes is not None and mask is not None:
        mask_is_boxes = np.array_equal(mask, boxes_to_mask(boxes, mask.shape))
    else:
        mask_is_boxes = mask is None
    if boxes is not None and mask_is_boxes:
        for x0, y0, x1, y1 in boxes:
            # pixel centers are whole numbers, so the edge of pixel 0 is at -0.5
            corner = (x0 - 0.5, y0 - 0.5)
            box = Rectangle(corner, x1 - x0, y1 - y0, fill=False, color=TRUTH, lw=0.5)
            ax.add_patch(box)
    elif mask is not None and not mask.all():
        ax.contour(mask, levels=[0.5], colors=TRUTH, linewidths=0.6)
