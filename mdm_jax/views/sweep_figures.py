"""A sweep's figures: quality against cost, parallel coordinates, quality over two settings."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from mdm_jax.errors import InputError, unknown
from mdm_jax.evaluation.formatting import format_number
from mdm_jax.sweeps.axes import Axis, varying
from mdm_jax.sweeps.quality import Quality, formula
from mdm_jax.sweeps.result import Index, Sweep

COLORS = colormaps["viridis"]
FRONT, OTHERS = "#c2185b", "#37609c"

# Points of the front that are named at most.
MAX_NAMED = 12

# Cells of a heat map in which the number is written at most.
MAX_WRITTEN_CELLS = 150

# Values of a setting that are all written beside its axis at most.
MAX_TICKS = 7


def pareto(sweep: Sweep, quality: Quality | None = None) -> Figure:
    """Every point's quality against its network evaluations.

    The front is drawn, and its points are numbered and named by their settings."""
    quality = sweep.default_quality() if quality is None else quality
    found, costs, front = (
        sweep.quality(quality),
        sweep.forward_passes,
        sweep.pareto(quality),
    )
    if not len(front):
        raise InputError(
            "no point of this sweep could be scored, so there is nothing to draw: see the notes of"
            " the table"
        )
    # names beside each other need room: a few, from all over the front
    places = np.linspace(0, len(front) - 1, MAX_NAMED).round().astype(int)
    named = front[np.unique(places)]
    names = []
    for place, i in enumerate(named, 1):
        name = f"{place}  {_settings_text(sweep, i)}"
        names.append(textwrap.fill(name, 58, subsequent_indent="     "))
    legend = "\n".join(names)
    lines = legend.splitlines()
    width = 5.2 + 0.068 * max(len(line) for line in lines)
    height = max(3.6, 0.19 * (len(lines) + 3))
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    ax = figure.subplots()
    # points that could not be scored are NaN and drawn nowhere
    rest = np.setdiff1d(np.flatnonzero(np.isfinite(found)), front)
    ax.scatter(
        costs[rest], found[rest], s=14, color=OTHERS, alpha=0.45, lw=0, label="other points"
    )
    spans = np.asarray([sweep.quality_interval(quality, i) for i in front])
    _draw_front(ax, costs[front], found[front], spans)
    ax.scatter(costs[named], found[named], s=95, color=FRONT, zorder=4)
    for place, i in enumerate(named, 1):
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7, "zorder": 5}
        ax.text(costs[i], found[i], str(place), color="white", **style)
    _format_cost_axis(ax, costs[np.isfinite(found)])
    ax.set_xlabel(
        "network evaluations an image, in forward passes (one with a gradient: 3)",
        fontsize=8,
    )
    ax.set_ylabel(f"quality = {formula(quality, sweep.metrics)}", fontsize=8)
    title = f"{len(sweep.entries)} points, {len(sweep.ids)} images; bars: 95 % over images"
    ax.set_title(title, fontsize=8.5)
    ax.annotate(
        f"no other point is better at as low a cost\n\n{legend}",
        (1.02, 1.0),
        xycoords="axes fraction",
        va="top",
        fontsize=7,
        linespacing=1.5,
        annotation_clip=False,
    )
    return figure


def _draw_front(ax: Axes, costs: np.ndarray, values: np.ndarray, spans: np.ndarray) -> None:
    """The points that no other one beats, with their intervals [points, 2] where all are known."""
    ax.step(costs, values, where="post", color=FRONT, lw=1.2, zorder=2)
    if np.isfinite(spans).all():
        style: dict[str, Any] = {"fmt": "none", "ecolor": FRONT, "elinewidth": 0.7}
        ax.errorbar(
            costs, values, yerr=np.abs(spans.T - values), alpha=0.5, zorder=1, **style
        )
    ax.scatter(costs, values, s=16, color=FRONT, zorder=3)


def _format_cost_axis(ax: Axes, costs: np.ndarray) -> None:
    ax.set_xscale("log")
    distinct = np.unique(costs)
    ax.xaxis.set_major_locator(
        FixedLocator(distinct.tolist())
        if len(distinct) <= MAX_TICKS
        else LogLocator(subs=(1.0, 2.0, 5.0))
    )
    _use_plain_numbers(ax.xaxis)
    # a cost of 0 has no place on a logarithmic axis
    ax.set_xlim(max(costs.min(), 0.5) / 1.4, costs.max() * 1.4)
    ax.tick_params(labelsize=7.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, lw=0.5)


def _use_plain_numbers(axis: XAxis | YAxis) -> None:
    """Numbers of a logarithmic axis as one writes them."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _settings_text(sweep: Sweep, i: Index) -> str:
    """What tells a point from the others."""
    axes = varying(sweep.entries)
    return (
        ", ".join(f"{axis.name}={_tick_text(axis.values[i])}" for axis in axes)
        or sweep.entries[i].label
    )


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _tick_text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def parallel(sweep: Sweep, quality: Quality | None = None) -> Figure:
    """A line a point through the settings that vary and the metrics, colored by quality."""
    quality = sweep.default_quality() if quality is None else quality
    found, order = sweep.quality(quality), sweep.rank(quality)[::-1]
    if not len(order):
        raise InputError(
            "no point of this sweep could be scored, so there is nothing to draw: see the notes of"
            " the table"
        )
    settings = varying(sweep.entries)
    results = [Axis("forward passes", tuple(sweep.forward_passes.tolist()), True)]
    results += [
        Axis(name, tuple(sweep.values(name).tolist()), True) for name in sweep.metrics
    ]
    results = [
        axis
        for axis in [*results, Axis("quality", tuple(found.tolist()), True)]
        if _is_finite(axis, order)
    ]
    axes = [_take_points(axis, order) for axis in (*settings, *results)]
    figure = Figure(
        figsize=(1.25 * max(len(axes), 3) + 1.2, 4.4), dpi=150, layout="constrained"
    )
    ax = figure.subplots()
    places = np.stack([axis.places() for axis in axes])  # of the ranked points, worst first
    low, high = float(found[order].min()), float(found[order].max())
    # equal values would leave no range to color
    scale = Normalize(low, high if high > low else low + 1e-9)
    for column, i in enumerate(order):
        best = i == order[-1]
        style = (
            {"color": FRONT, "lw": 2.2, "zorder": 4}
            if best
            else {"color": COLORS(scale(found[i])), "lw": 1.0, "alpha": 0.7}
        )
        ax.plot(range(len(axes)), places[:, column], **style)
    for at, axis in enumerate(axes):
        ax.plot([at, at], [0, 1], color="0.25", lw=0.8, zorder=3)
        for place, text in _ticks(axis):
            box = {"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.6}
            ax.text(at + 0.03, place, text, fontsize=6.5, va="center", zorder=5, bbox=box)
        ax.text(
            at, 1.06, _heading(axis), fontsize=7, ha="center", va="bottom", linespacing=1.1
        )
    ax.set(xlim=(-0.2, len(axes) - 0.55), ylim=(-0.04, 1.22))
    ax.axis("off")
    ax.set_title(
        f"{len(sweep.entries)} points; left the settings, right what they gave; pink: the best",
        fontsize=8.5,
    )
    bar = figure.colorbar(ScalarMappable(scale, COLORS), ax=ax, fraction=0.025, pad=0.01)
    bar.set_label(f"quality = {formula(quality, sweep.metrics)}", fontsize=7)
    bar.ax.tick_params(labelsize=6.5)
    return figure


def _is_finite(axis: Axis, order: np.ndarray) -> bool:
    return bool(np.isfinite(np.asarray(axis.values, np.float64)[order]).all())


def _take_points(axis: Axis, order: np.ndarray) -> Axis:
    return axis._replace(values=tuple(axis.values[i] for i in order))


def _heading(axis: Axis) -> str:
    return axis.name.replace(":", "\n").replace("objective.", "objective\n") + (
        "\n(log)" if axis.log else ""
    )


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    """Places in [0, 1] and texts: every value of a few, else the ends and the middle."""
    values, places = axis.distinct, dict(zip(axis.values, axis.places()))
    if len(values) <= MAX_TICKS or not axis.numeric:
        kept: list[tuple[float, str]] = []
        for value in values:
            # texts would lie on each other
            if all(abs(places[value] - place) > 0.035 for place, _ in kept):
                kept.append((float(places[value]), _shorten(_tick_text(value), 16)))
        return kept
    low, high = values[0], values[-1]
    middle = float(np.sqrt(low * high)) if axis.log else (low + high) / 2
    return [
        (0.0, format_number(low)),
        (0.5, format_number(middle)),
        (1.0, format_number(high)),
    ]


def heatmap(
    sweep: Sweep, x: str | None = None, y: str | None = None, quality: Quality | None = None
) -> Figure:
    """Quality over two numeric settings, the best over all other settings.

    By default over the first two that vary. Points of a grid are cells; points drawn at random are
    dots. Raises InputError where there are no two such settings."""
    quality = sweep.default_quality() if quality is None else quality
    across, up = _choose_settings(sweep, x, y)
    found = sweep.quality(quality)
    measured = np.flatnonzero(np.isfinite(found))
    if not len(measured):
        raise InputError(
            "no point of this sweep could be scored, so there is nothing to draw: see the notes of"
            " the table"
        )
    figure = Figure(figsize=(5.6, 4.4), dpi=150, layout="constrained")
    ax = figure.subplots()
    others = [
        axis.name
        for axis in varying(sweep.entries)
        if axis.name not in (across.name, up.name)
    ]
    title = f"the best over {', '.join(others)}" if others else "every point"
    if len(across.distinct) * len(up.distinct) <= 2 * len(sweep.entries):
        drawn = _draw_cells(ax, across, up, found, measured)
    else:
        title = "every point; the best is circled"
        # the best last, so that it lies on top
        order = measured[np.argsort(found[measured])]
        columns, rows = (
            np.asarray(axis.values, np.float64)[order] for axis in (across, up)
        )
        drawn = ax.scatter(
            columns,
            rows,
            c=found[order],
            s=42,
            cmap=COLORS,
            edgecolors="0.3",
            linewidths=0.4,
        )
        ax.scatter(
            columns[-1:],
            rows[-1:],
            s=130,
            facecolors="none",
            edgecolors=FRONT,
            linewidths=1.8,
        )
        for setting, axis, scale in (
            (across, ax.xaxis, ax.set_xscale),
            (up, ax.yaxis, ax.set_yscale),
        ):
            if setting.log:
                scale("log")
                axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                _use_plain_numbers(axis)
    ax.set_xlabel(across.name, fontsize=8.5)
    ax.set_ylabel(up.name, fontsize=8.5)
    ax.tick_params(labelsize=7.5)
    ax.set_title(_shorten(title, 70), fontsize=8.5)
    bar = figure.colorbar(drawn, ax=ax)
    bar.set_label(f"quality = {formula(quality, sweep.metrics)}", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _choose_settings(sweep: Sweep, x: str | None, y: str | None) -> tuple[Axis, Axis]:
    numeric = {axis.name: axis for axis in varying(sweep.entries) if axis.numeric}
    for name in (x, y):
        if name is not None and name not in numeric:
            raise unknown("numeric setting that varies", name, numeric)
    left = [name for name in numeric if name not in (x, y)]
    chosen = [name or (left.pop(0) if left else None) for name in (x, y)]
    if None in chosen or chosen[0] == chosen[1]:
        raise InputError(
            "a heat map needs two numeric settings that vary: this sweep has "
            + (", ".join(numeric) or "none")
        )
    return numeric[str(chosen[0])], numeric[str(chosen[1])]


def _draw_cells(
    ax: Axes, across: Axis, up: Axis, found: np.ndarray, measured: np.ndarray
) -> ScalarMappable:
    columns, rows = across.distinct, up.distinct
    best = np.full((len(rows), len(columns)), np.nan)
    for i in measured:
        row, column = rows.index(up.values[i]), columns.index(across.values[i])
        best[row, column] = np.nanmax([best[row, column], found[i]])
    # cells without a point are NaN and stay white
    drawn = ax.imshow(best, origin="lower", cmap=COLORS, aspect="auto")
    ax.set_xticks(
        range(len(columns)),
        [_tick_text(value) for value in columns],
        rotation=0 if len(columns) <= 8 else 45,
    )
    ax.set_yticks(range(len(rows)), [_tick_text(value) for value in rows])
    low, high = np.nanmin(best), np.nanmax(best)
    if best.size <= MAX_WRITTEN_CELLS:
        for (row, column), value in np.ndenumerate(best):
            if np.isfinite(value):
                dark = value < (low + high) / 2
                weight = "bold" if value == high else "normal"
                ax.text(
                    column,
                    row,
                    format_number(value),
                    ha="center",
                    va="center",
                    fontsize=7,
                    weight=weight,
                    color="w" if dark else "k",
                )
    return drawn
