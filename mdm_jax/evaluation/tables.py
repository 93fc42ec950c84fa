"""The benchmark's table: values with intervals, differences against a reference method, as
Markdown, CSV and a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mdm_jax.evaluation.benchmark import Cost, Entry, Results
from mdm_jax.evaluation.statistics import Interval, Summary, difference, verdict
from mdm_jax.metrics import Metric

MARKS = {"better": "▲", "worse": "▼", "tied": "≈", "": ""}
"""a method against the reference"""
FAILURES = {
    "NOT_FINITE": "outputs or gradients were not finite for {} images: check the weights",
    "CONSTANT": (
        "for {} images the activation was the same as on the fill alone, so their maps say nothing"
    ),
}
"""why images have no explanation, by the name of the status"""
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}
BEST, NEAR = "#bfe3c5", "#e6f4e8"
BAND = 10
"""metrics side by side in the picture"""
COLUMN, HEIGHT = 1.15, 0.36
"""inches, of a cell in the picture"""


class Cell(NamedTuple):
    """One metric of one method."""

    summary: Summary
    difference: float
    """from the reference method; NaN for itself"""
    interval: Interval
    """95 % of the difference, paired over images"""
    verdict: str
    """the method against the reference: "better", "worse", "tied" or "" """
    rank: str
    """ "best" of its column, "near" where the paired interval of its difference from the best holds
    0, else "" """


@dataclass(frozen=True)
class Row:
    """One method on one network."""

    model: str
    method: str
    cost: Cost | None
    cells: Mapping[str, Cell]
    notes: Mapping[str, str]
    """by metric, or "" for the method: why there is nothing"""
    failures: Mapping[str, int]


@dataclass(frozen=True)
class Table:
    rows: tuple[Row, ...]
    metrics: Mapping[str, Metric]
    notes: tuple[str, ...]
    reference: str

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.model for row in self.rows))

    def of(self, model: str) -> list[Row]:
        return [row for row in self.rows if row.model == model]


def build(results: Results, reference: str | None = None) -> Table:
    """The table of a benchmark, see `of_entries`."""
    return of_entries(results.entries, results.metrics, results.notes, reference)


def of_entries(
    entries: Sequence[Entry],
    metrics: Mapping[str, Metric],
    notes: Sequence[str] = (),
    reference: str | None = None,
) -> Table:
    """The table of some entries. Others are compared with the method of the label `reference`, by
    default the first MDM."""
    labels = [entry.method for entry in entries]
    reference = reference or next(
        (label for label in labels if label.partition(":")[0] == "mdm"), labels[0]
    )
    rows: list[Row] = []
    for model in dict.fromkeys(entry.model for entry in entries):
        rows += _rows([entry for entry in entries if entry.model == model], metrics, reference)
    return Table(tuple(rows), metrics, tuple(notes), reference)


def _rows(entries: Sequence[Entry], metrics: Mapping[str, Metric], reference: str) -> list[Row]:
    summaries = [{} if entry.scores is None else entry.scores.summary() for entry in entries]
    standard = next((entry for entry in entries if entry.method == reference), None)
    best = {name: _best(metric, name, summaries) for name, metric in metrics.items()}
    rows = []
    for i, entry in enumerate(entries):
        cells = {}
        for name, summary in summaries[i].items():
            metric, rank = metrics[name], ""
            against, apart = _against(metric, entry, None if standard is entry else standard)
            if (top := best[name]) is not None:
                _, gap = _against(metric, entry, entries[top])
                rank = "best" if top == i else "near" if gap.low <= 0 <= gap.high else ""
            cells[name] = Cell(summary, against, apart, verdict(metric.better, apart), rank)
        rows.append(Row(entry.model, entry.method, entry.cost, cells, entry.notes, entry.failures))
    return rows


def _best(metric: Metric, name: str, summaries: Sequence[Mapping[str, Summary]]) -> int | None:
    values = [each[name].value if name in each else math.nan for each in summaries]
    if metric.better == "none" or np.isnan(values).all():
        return None
    return int(np.nanargmax(values) if metric.better == "higher" else np.nanargmin(values))


def _against(metric: Metric, entry: Entry, other: Entry | None) -> tuple[float, Interval]:
    both = [
        (
            each.scores.measured.get(metric.id)
            if each is not None and each.scores is not None
            else None
        )
        for each in (entry, other)
    ]
    if both[0] is None or both[1] is None:
        return math.nan, Interval(math.nan, math.nan)
    return difference(metric, both[0], both[1])


def markdown(table: Table) -> str:
    """One table a network, then what the marks and the metrics mean."""
    parts = [f"## {model}\n\n{_grid(table, model)}" for model in table.models]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in footnotes(table))]) + "\n"


def _grid(table: Table, model: str) -> str:
    heads = [
        "method",
        *(heading(metric) for metric in table.metrics.values()),
        "evaluations",
        "forwards",
        "s / image",
    ]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for row in table.of(model):
        cells = [_marked(row.cells.get(name), row) for name in table.metrics]
        lines.append(
            [
                f"**{row.method}**" if row.method == table.reference else row.method,
                *cells,
                *costs(row.cost),
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _marked(cell: Cell | None, row: Row) -> str:
    if cell is None or not cell.summary.counted:
        return "n/a" if cell is None else "no truth"
    value = number(cell.summary.value)
    value = {"best": f"**{value}**", "near": f"<u>{value}</u>"}.get(cell.rank, value)
    return " ".join(filter(None, (value, span(cell.summary.interval), MARKS[cell.verdict])))


def footnotes(table: Table) -> list[str]:
    """What stands below a table: the marks, the images, the metrics' protocols, and why a cell is
    empty."""
    lines = [
        (
            "value [95 % bootstrap interval over images]; bold: best of the column, underlined: not"
            " told apart from it"
        ),
        (
            f"{MARKS['better']} better, {MARKS['worse']} worse, {MARKS['tied']} tied with"
            f" {table.reference}: by the 95 % interval of the difference, paired over images"
        ),
        (
            "evaluations: of the network with a gradient; forwards: without; s / image: running,"
            " compilation not counted"
        ),
        *table.notes,
        *missing(table),
        *(
            (
                f"{metric.id} ({metric.better} is better): {metric.description}"
                if metric.better != "none"
                else f"{metric.id}: {metric.description}"
            )
            for metric in table.metrics.values()
        ),
    ]
    return lines


def missing(table: Table) -> list[str]:
    """Why there are no values, and how many maps are of no use."""
    lines = []
    for row in table.rows:
        for name, note in row.notes.items():
            lines.append(
                f"{row.model}, {row.method}{', ' + name if name else ''} not applicable: {note}"
            )
        lines += [
            f"{row.model}, {row.method}: {FAILURES[name].format(count)}"
            for name, count in row.failures.items()
        ]
    return lines


def heading(metric: Metric) -> str:
    return f"{metric.id} {ARROWS[metric.better]}".rstrip()


def number(value: float) -> str:
    """Three decimals without the leading zero, three digits where it is larger, one where it is
    tiny."""
    if math.isnan(value):
        return "NaN"
    if 0 < abs(value) < 0.001:
        return f"{value:.0e}"
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3g}"


def span(interval: Interval) -> str:
    return "" if np.isnan(interval).all() else f"[{number(interval.low)}, {number(interval.high)}]"


def costs(cost: Cost | None) -> list[str]:
    return (
        ["", "", ""]
        if cost is None
        else [f"{cost.evaluations:.4g}", f"{cost.forwards:.4g}", f"{cost.seconds:.3g}"]
    )


COLUMNS = (
    *(
        "model",
        "method",
        "metric",
        "protocol",
        "better",
        "value",
        "low",
        "high",
        "counted",
        "without_truth",
    ),
    *(
        "difference",
        "difference_low",
        "difference_high",
        "verdict",
        "rank",
        "evaluations",
        "forwards",
        "seconds",
        "note",
    ),
)


def to_csv(table: Table) -> str:
    """One line for each network, method and metric, with unrounded numbers."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        for name, metric in table.metrics.items():
            line: dict[str, Any] = {
                "model": row.model,
                "method": row.method,
                "metric": metric.name,
                "protocol": metric.protocol,
            }
            line |= {"better": metric.better, "note": row.notes.get(name, row.notes.get("", ""))}
            if row.cost is not None:
                line |= row.cost._asdict()
            if (cell := row.cells.get(name)) is not None:
                summary = cell.summary
                line |= {
                    "value": summary.value,
                    "low": summary.interval.low,
                    "high": summary.interval.high,
                }
                line |= {
                    "counted": summary.counted,
                    "without_truth": summary.without_truth,
                    "difference": cell.difference,
                }
                line |= {"difference_low": cell.interval.low, "difference_high": cell.interval.high}
                line |= {"verdict": cell.verdict, "rank": cell.rank}
            writer.writerow(line)
    return text.getvalue()


def plain(table: Table) -> list[dict[str, Any]]:
    """The rows as plain values for JSON and the terminal: a metric's value under its id, and the
    cost."""
    rows: list[dict[str, Any]] = []
    for row in table.rows:
        values = {
            name: _finite(row.cells[name].summary.value) if name in row.cells else None
            for name in table.metrics
        }
        cost = row.cost._asdict() if row.cost else dict.fromkeys(Cost._fields)
        rows.append({"model": row.model, "method": row.method} | values | cost)
    return rows


def picture(table: Table, model: str) -> Figure:
    """One network's table: the best of a column on green, what is not told apart from it on light
    green."""
    rows, names = table.of(model), list(table.metrics)
    count = -(-len(names) // -(-len(names) // BAND))  # as even as can be
    bands = [names[start : start + count] for start in range(0, len(names), count)]
    first = max(1.5, 0.085 * max(len(row.method) for row in rows))
    width, height = (
        first + COLUMN * count + COLUMN * 2.2,
        HEIGHT * (len(rows) + 1.7) * len(bands) + 0.8 * HEIGHT,
    )
    figure = Figure(figsize=(width + 0.2, height), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.1, width + 0.1), ylim=(height, 0))
    axes.axis("off")
    for number_of, band in enumerate(bands):
        _band(axes, table, rows, band, first, HEIGHT * (len(rows) + 1.7) * number_of)
    marks = (
        f"against {table.reference}: ▲ better, ▼ worse, ≈ tied; green: best, light green: not told"
        " apart from it"
    )
    note = f"{model}: value [95 % interval]; {marks}"
    axes.text(0, height - 0.45 * HEIGHT, note, ha="left", va="center", fontsize=6.5, color="0.3")
    return figure


def _band(
    axes: Axes, table: Table, rows: Sequence[Row], names: Sequence[str], first: float, top: float
) -> None:
    """Some metrics of every method, with the costs, from `top` downwards."""
    metrics = [table.metrics[name] for name in names]
    heads = [f"{metric.name} {ARROWS[metric.better]}\n{metric.protocol}" for metric in metrics]
    heads += ["evaluations", "forwards", "s / image"]
    middles = [first + COLUMN * (i + 0.5) for i in range(len(names))]
    middles += [first + COLUMN * (len(names) + each) for each in (0.4, 1.1, 1.8)]
    axes.text(0, top + 0.75 * HEIGHT, "method", ha="left", va="center", fontsize=7.5, weight="bold")
    for at, head in zip(middles, heads):
        axes.text(
            at, top + 0.75 * HEIGHT, head, ha="center", va="center", fontsize=7.5, weight="bold"
        )
    axes.axhline(top + 1.3 * HEIGHT, color="black", lw=0.8)
    for i, row in enumerate(rows):
        middle = top + (i + 1.85) * HEIGHT
        weight = "bold" if row.method == table.reference else "normal"
        axes.text(0, middle, row.method, ha="left", va="center", fontsize=8, weight=weight)
        for at, name in zip(middles, names):
            _draw(axes, row.cells.get(name), at, middle)
        for at, text in zip(middles[len(names) :], costs(row.cost)):
            axes.text(at, middle, text, ha="center", va="center", fontsize=7.5)


def _draw(axes: Axes, cell: Cell | None, at: float, middle: float) -> None:
    if cell is None or not cell.summary.counted:
        text = "n/a" if cell is None else "no truth"
        axes.text(at, middle, text, ha="center", va="center", fontsize=7, color="0.5")
        return
    if cell.rank:
        color, corner = (
            BEST if cell.rank == "best" else NEAR,
            (at - 0.48 * COLUMN, middle - 0.48 * HEIGHT),
        )
        axes.add_patch(Rectangle(corner, 0.96 * COLUMN, 0.96 * HEIGHT, color=color, lw=0))
    weight = "bold" if cell.rank == "best" else "normal"
    text = f"{number(cell.summary.value)} {MARKS[cell.verdict]}".rstrip()
    axes.text(at, middle - 0.17 * HEIGHT, text, ha="center", va="center", fontsize=8, weight=weight)
    axes.text(
        at,
        middle + 0.24 * HEIGHT,
        span(cell.summary.interval),
        ha="center",
        va="center",
        fontsize=5.8,
        color="0.35",
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
