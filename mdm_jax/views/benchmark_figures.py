"""The benchmark's figures: quality against cost, and the maps of many methods side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mdm_jax.data.network_input import Framed, covered, spread
from mdm_jax.evaluation.benchmark import Results, maps_of
from mdm_jax.evaluation.tables import ARROWS, Table
from mdm_jax.views.explanation_figures import TRUTH, label, overlay

REFERENCE, OTHERS = "#c2185b", "#37609c"


def quality_against_cost(table: Table, model: str) -> Figure:
    """A panel a metric: its value with the 95 % interval against network evaluations in forward
    equivalents."""
    metrics = {
        name: metric for name, metric in table.metrics.items() if metric.better != "none"
    } or dict(table.metrics)
    columns = min(4, len(metrics))
    bands = -(-len(metrics) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.0 * bands + 0.4), dpi=150, layout="constrained")
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
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.tick_params(labelsize=6.5)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, lw=0.5)
        points = []
        for row in table.of(model):
            cell = row.cells.get(name)
            if cell is not None and row.cost is not None and cell.summary.counted:
                points.append(
                    (row.method, row.cost.equivalent, cell.summary.value, cell.summary.interval)
                )
        for method, cost, value, (low, high) in points:
            color = REFERENCE if method == table.reference else OTHERS
            errors = [[max(0.0, value - low)], [max(0.0, high - value)]]
            ax.errorbar(cost, value, yerr=errors, fmt="o", ms=3.5, color=color, elinewidth=0.7)
        costs = [cost for _, cost, *_ in points]
        if len(set(costs)) == 1:  # of one value a logarithmic axis finds limits that may be equal
            ax.set_xlim(costs[0] / 3, costs[0] * 3)
        _named(ax, points, table.reference)
    return figure


def _named(ax: Axes, points: Sequence[tuple[str, float, float, object]], reference: str) -> None:
    """A name at each point, moved up or down where it would lie on another."""
    if not points:
        return
    low, high = min(point[2] for point in points), max(point[2] for point in points)
    costs = [math.log10(max(point[1], 1.0)) for point in points]
    right = max(costs)
    gap, width = max(high - low, 1e-6) * 0.055, max(right - min(costs), 0.5) * 0.45
    ax.margins(x=0.12, y=0.12)
    taken: list[tuple[float, float]] = []
    for (method, cost, value, _), at in sorted(zip(points, costs), key=lambda pair: pair[0][2]):
        height = value
        while any(abs(at - x) < width and abs(height - y) < gap for x, y in taken):
            height += gap / 4
        taken.append((at, height))
        left = at > right - width and len(points) > 1
        ax.annotate(
            method,
            (cost, value),
            xytext=(-4 if left else 4, height),
            textcoords=("offset points", "data"),
            fontsize=5.5,
            ha="right" if left else "left",
            va="center",
            color=REFERENCE if method == reference else "0.2",
        )


def map_grid(
    results: Results, model: str, count: int, worst: tuple[str, str] | None = None
) -> Figure | None:
    """Maps of the same images by every method, a row an image; the object outlined. None where no
    method has any.

    The images are spread over the data; or, with `worst` = (method, metric), those on which this
    method scores worst."""
    items, scores = results.items[model], None
    if worst is not None:
        scores = _scores(results, model, *worst)
        if scores is None:
            return None
        order = np.argsort(
            scores if results.metrics[worst[1]].better == "higher" else -scores, kind="stable"
        )
        places = [int(i) for i in order[: min(count, int(np.isfinite(scores).sum()))]]
    else:
        places = [int(i) for i in spread(len(items), count)]
    chosen = [items[i] for i in places]
    ids = [item.framed.id for item in chosen]
    labels = [
        entry.method for entry in results.entries if entry.model == model and entry.cost is not None
    ]
    maps = {
        name: found for name in labels if (found := maps_of(results, model, name, ids)) is not None
    }
    if not maps or not chosen:
        return None
    height, width = chosen[0].framed.image.shape[:2]
    side = 1.25
    size = (side * (len(maps) + 1) + 0.3, side * height / width * len(chosen) + 0.45)
    engine = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
    figure = Figure(figsize=size, dpi=140, layout=engine)
    axes = figure.subplots(len(chosen), len(maps) + 1, squeeze=False)
    for row, item in enumerate(chosen):
        for ax in axes[row]:
            ax.set(xticks=[], yticks=[])
            ax.axis("off")
        image = np.broadcast_to(item.framed.image, (height, width, 3))
        axes[row, 0].imshow(image)
        _outline(axes[row, 0], item.framed)
        said = "right" if item.label == item.prediction else "wrong" if item.label >= 0 else ""
        if scores is not None:
            said += f", {scores[places[row]]:.2f}"
        label(axes[row, 0], said)
        for ax, found in zip(axes[row, 1:], maps.values()):
            ax.imshow(overlay(image, found[row]))
            _outline(ax, item.framed)
    for ax, name in zip(axes[0], ["image", *maps]):
        ax.set_title("\n".join(name.split(":", 1)).replace(",", ",\n"), fontsize=6.5)
    return figure


def _scores(results: Results, model: str, method: str, metric: str) -> np.ndarray | None:
    """A method's score of each image, NaN without truth; None where there is not one number an
    image."""
    for entry in results.entries:
        if (
            (entry.model, entry.method) == (model, method)
            and entry.scores is not None
            and metric in entry.scores.measured
        ):
            values = entry.scores.per_image(metric)
            return values if values.ndim == 1 and np.isfinite(values).any() else None
    return None


def _outline(ax: Axes, framed: Framed) -> None:
    """The mask's contour, or the boxes where these are what is known."""
    mask, boxes = framed.mask, framed.boxes
    if boxes is not None and (mask is None or np.array_equal(mask, covered(boxes, mask.shape))):
        for x0, y0, x1, y1 in boxes:
            ax.add_patch(
                Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color=TRUTH, lw=0.5)
            )
    elif mask is not None and not mask.all():
        ax.contour(mask, levels=[0.5], colors=TRUTH, linewidths=0.6)
