"""The benchmark's table as Markdown, as CSV and as plain records."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from mdm_jax.evaluation.cost import Cost
from mdm_jax.evaluation.formatting import (
    MARKS,
    format_interval,
    format_number,
    heading,
    markdown_table,
)
from mdm_jax.evaluation.tables import Cell, Row, Table

COST_HEADS = ("evaluations", "forwards", "s / image")

# Why images have no explanation, by the name of the status.
FAILURES = {
    "NOT_FINITE": "outputs or gradients were not finite for {} images: check the weights",
    "CONSTANT": (
        "for {} images the activation was the same as on the fill alone, so their maps say nothing"
    ),
}

# Of the CSV.
COLUMNS = (
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


def markdown(table: Table) -> str:
    """One table a network, then what the marks and the metrics mean."""
    parts = [f"## {model}\n\n{_model_table(table, model)}" for model in table.models]
    parts.append("\n".join(f"- {line}" for line in footnotes(table)))
    return "\n\n".join(parts) + "\n"


def _model_table(table: Table, model: str) -> str:
    heads = ["method", *(heading(metric) for metric in table.metrics.values()), *COST_HEADS]
    lines = []
    for row in table.of(model):
        method = f"**{row.method}**" if row.method == table.reference else row.method
        cells = [_cell_text(row.cells.get(name)) for name in table.metrics]
        lines.append([method, *cells, *format_cost(row.cost)])
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
    parts = value, format_interval(cell.summary.interval), MARKS[cell.verdict]
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
    ]
    for metric in table.metrics.values():
        better = "" if metric.better == "none" else f" ({metric.better} is better)"
        lines.append(f"{metric.id}{better}: {metric.description}")
    return lines


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
    """One line for each network, method and metric, with unrounded numbers."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        for name in table.metrics:
            writer.writerow(_csv_line(table, row, name))
    return text.getvalue()


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
        record |= dict.fromkeys(Cost._fields) if row.cost is None else row.cost._asdict()
        records.append(record)
    return records
