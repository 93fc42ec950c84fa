"""The benchmark's table as Markdown, as CSV and as plain records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mdm_jax.evaluation.cost import Cost
from mdm_jax.evaluation.formatting import (
    MARKS,
    csv_text,
    format_interval,
    format_number,
    format_spread,
    heading,
    markdown_list,
    markdown_table,
    order_metrics,
)
from mdm_jax.evaluation.tables import Cell, Row, Table
from mdm_jax.text_files import printable

COST_HEADS = ("evaluations", "forwards", "s / image")

# Why images have no explanation, by the name of the status.
FAILURES = {
    "NOT_FINITE": "outputs or gradients were not finite for {} images: check the weights",
    "CONSTANT": (
        "for {} images the activation was the same as on the fill alone, so their maps say nothing"
    ),
    "LOST": (
        "for {} images the masks keep less than half of the activation: what they show is no"
        " explanation"
    ),
    "EMPTY": "for {} images every pixel of the map has the same value, so their maps say nothing",
}

# Of the CSV.
COLUMNS = (
    "model",
    "method",
    "metric",
    "protocol",
    "part",
    "better",
    "value",
    "spread",
    "low",
    "high",
    "counted",
    "without_truth",
    "difference",
    "difference_low",
    "difference_high",
    "verdict",
    "rank",
    "evaluations",
    "forwards",
    "seconds",
    "note",
)

# Of the CSV's lines of a part, in common with the line of the whole.
PART_COLUMNS = (
    "model",
    "method",
    "metric",
    "protocol",
    "better",
    "counted",
    "without_truth",
    *Cost._fields,
)


def markdown(table: Table) -> str:
    """One table a network, one more for each metric with parts, then what marks and metrics
    mean."""
    parts = []
    for model in table.models:
        parts.append(f"## {printable(model)}\n\n{_model_table(table, model)}")
        for name, metric in table.metrics.items():
            if metric.parts:
                parts.append(f"{name} by part:\n\n{_parts_table(table, model, name)}")
    parts.append(markdown_list(footnotes(table)))
    return "\n\n".join(parts) + "\n"


def _model_table(table: Table, model: str) -> str:
    heads = ["method", *(heading(metric) for metric in table.metrics.values()), *COST_HEADS]
    lines = []
    for row in table.of(model):
        method = f"**{row.method}**" if row.method == table.reference else row.method
        cells = [_cell_text(row.cells.get(name)) for name in table.metrics]
        lines.append([method, *cells, *format_cost(row.cost)])
    return markdown_table(heads, lines, left_columns=("method",))


def _parts_table(table: Table, model: str, name: str) -> str:
    """The number under each part of a metric, and their spread."""
    names = table.metrics[name].parts
    lines = []
    for row in table.of(model):
        cell = row.cells.get(name)
        if cell is None or not cell.summary.parts:
            continue
        values = [cell.summary.parts[part] for part in names]
        numbers = [*values, cell.summary.value, cell.summary.spread]
        lines.append([row.method, *map(format_number, numbers)])
    heads = ["method", *names, "mean", "spread"]
    return markdown_table(heads, lines, left_columns=("method",))


def _cell_text(cell: Cell | None) -> str:
    if cell is None:
        return "n/a"
    if not cell.summary.counted:
        return "no truth"
    value = format_number(cell.summary.value)
    # Markdown has no underline of its own
    if cell.rank == "best":
        value = f"**{value}**"
    elif cell.rank == "near":
        value = f"<u>{value}</u>"
    spread = format_spread(cell.summary.spread)
    parts = value, spread, format_interval(cell.summary.interval), MARKS[cell.verdict]
    return " ".join(part for part in parts if part)


def footnotes(table: Table) -> list[str]:
    """The lines below a table: marks, images, protocols, and why a cell is empty."""
    lines = [
        "value [95 % bootstrap interval over images]; bold: best of the column,"
        " underlined: not told apart from it",
        f"{MARKS['better']} better, {MARKS['worse']} worse, {MARKS['tied']} tied with"
        f" {table.reference}: by the 95 % interval of the difference, paired over images",
        "evaluations: of the network with a gradient; forwards: without;"
        " s / image: running, compilation not counted",
        *table.notes,
        *missing(table),
        *_rankings(table),
    ]
    if any(metric.parts for metric in table.metrics.values()):
        lines.append("value ± spread: the standard deviation over the parts of the metric")
    for metric in table.metrics.values():
        better = "" if metric.better == "none" else f" ({metric.better} is better)"
        lines.append(f"{metric.id}{better}: {metric.description}")
    return lines


def _rankings(table: Table) -> list[str]:
    """Which methods' numbers of order are not of the map that their other numbers are of."""
    names = order_metrics(table.metrics)
    methods = dict.fromkeys(row.method for row in table.rows if row.has_ranking)
    if not (names and methods):
        return []
    return [
        f"{', '.join(methods)}: order metrics ({names}) read the method's ranking,"
        " others its saliency"
    ]


def missing(table: Table) -> list[str]:
    """Why values are missing, and how many maps say nothing."""
    lines = []
    for row in table.rows:
        for name, note in row.notes.items():
            what = f"{row.method}, {name}" if name else row.method
            lines.append(f"{row.model}, {what} not applicable: {note}")
        for status, count in row.failures.items():
            lines.append(f"{row.model}, {row.method}: {FAILURES[status].format(count)}")
    return lines


def format_cost(cost: Cost | None) -> list[str]:
    """The cells under `COST_HEADS`."""
    if cost is None:
        return ["", "", ""]
    return [f"{cost.evaluations:.4g}", f"{cost.forwards:.4g}", f"{cost.seconds:.3g}"]


def to_csv(table: Table) -> str:
    """One line for each network, method and metric, and for each part, with unrounded numbers."""
    lines: list[Mapping[str, Any]] = []
    for row in table.rows:
        for name in table.metrics:
            line = _csv_line(table, row, name)
            lines.append(line)
            cell = row.cells.get(name)
            for part, value in cell.summary.parts.items() if cell is not None else ():
                same = {each: line[each] for each in PART_COLUMNS if each in line}
                lines.append(same | {"part": part, "value": value})
    return csv_text(COLUMNS, lines)


def _csv_line(table: Table, row: Row, name: str) -> Mapping[str, Any]:
    metric, cell = table.metrics[name], row.cells.get(name)
    line: dict[str, Any] = {
        "model": row.model,
        "method": row.method,
        "metric": metric.name,
        "protocol": metric.protocol,
        "better": metric.better,
        # a method that cannot be had has one note for all metrics
        "note": row.notes.get(name, row.notes.get("", "")),
    }
    if row.cost is not None:
        line |= row.cost._asdict()
    if cell is not None:
        line |= {
            "value": cell.summary.value,
            "low": cell.summary.interval.low,
            "high": cell.summary.interval.high,
            "counted": cell.summary.counted,
            "without_truth": cell.summary.without_truth,
            "difference": cell.difference,
            "difference_low": cell.interval.low,
            "difference_high": cell.interval.high,
            "verdict": cell.verdict,
            "rank": cell.rank,
        }
        if cell.summary.parts:
            line["spread"] = cell.summary.spread
    return line


def to_records(table: Table) -> list[dict[str, Any]]:
    """The rows as plain values for JSON and the terminal: a value by metric id, and the cost."""
    records: list[dict[str, Any]] = []
    for row in table.rows:
        record: dict[str, Any] = {"model": row.model, "method": row.method}
        for name in table.metrics:
            cell = row.cells.get(name)
            # JSON has no NaN
            finite = cell is not None and math.isfinite(cell.summary.value)
            record[name] = cell.summary.value if cell is not None and finite else None
            if table.metrics[name].parts:
                record |= _records_of_parts(name, table.metrics[name].parts, cell)
        record |= dict.fromkeys(Cost._fields) if row.cost is None else row.cost._asdict()
        records.append(record)
    return records


def _records_of_parts(
    name: str, parts: Sequence[str], cell: Cell | None
) -> dict[str, float | None]:
    """The spread and the number of each part, None where it is not known."""
    known = {} if cell is None else {**cell.summary.parts, "spread": cell.summary.spread}
    values = {part: known.get(part, math.nan) for part in ("spread", *parts)}
    return {
        f"{name} {part}": value if math.isfinite(value) else None
        for part, value in values.items()
    }
