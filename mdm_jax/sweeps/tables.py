"""A sweep's table as CSV and as Markdown."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv as pc

from mdm_jax.evaluation.formatting import (
    csv_cell,
    format_estimate,
    heading,
    markdown_list,
    markdown_table,
    order_metrics,
)
from mdm_jax.sweeps.points import label
from mdm_jax.sweeps.quality import Quality, formula
from mdm_jax.sweeps.result import Sweep

NOT_MEASURED = "n/a"


def csv(rows: pa.Table) -> str:
    """The rows of `Sweep.table` with unrounded numbers."""
    for number, column in enumerate(rows.schema):
        if pa.types.is_string(column.type):
            texts = [csv_cell(each) for each in rows[column.name].to_pylist()]
            rows = rows.set_column(number, column, pa.array(texts, pa.string()))
    sink = io.BytesIO()
    pc.write_csv(rows, sink)
    return sink.getvalue().decode()


def markdown(
    sweep: Sweep, quality: Quality, points: Sequence[int], notes: Sequence[str] = ()
) -> str:
    """Some points, in the order given, and below them what the columns mean."""
    heads = ["point", "settings", "evaluations", "forwards"]
    heads += [heading(metric) for metric in sweep.metrics.values()]
    heads += ["quality ↑", "note"]
    qualities = sweep.quality(quality)
    # the front of all points, whichever are shown
    front = set(sweep.pareto(quality).tolist())
    rows = []
    for i in points:
        outcome, settings = sweep.outcomes[i], label(sweep.points[i])
        row = [
            str(i),
            f"**{settings}**" if i in front else settings,
            f"{outcome.evaluations:.4g}",
            f"{outcome.diagnostics['forwards'].mean():.4g}",
            *_metric_cells(sweep, i),
        ]
        if math.isfinite(qualities[i]):
            interval = sweep.quality_interval(quality, i)
            row.append(format_estimate(qualities[i], interval))
        else:
            row.append(NOT_MEASURED)
        rows.append([*row, outcome.note])
    table = markdown_table(heads, rows, left_columns=("settings", "note"))
    return f"{table}\n\n{markdown_list(_footnotes(sweep, quality, notes))}\n"


def _metric_cells(sweep: Sweep, i: int) -> list[str]:
    summary = sweep.scores[i].summary()
    cells = []
    for name in sweep.metrics:
        if name in summary:
            cells.append(format_estimate(summary[name].value, summary[name].interval))
        else:
            cells.append(NOT_MEASURED)
    return cells


def _footnotes(sweep: Sweep, quality: Quality, notes: Sequence[str]) -> list[str]:
    names = order_metrics(sweep.metrics)
    rankings = (
        f"order metrics ({names}) read the ranking of points that have one (map evidence),"
        " others the saliency"
    )
    return [
        f"quality: {formula(quality, sweep.metrics)}",
        "value [95 % bootstrap interval over images];"
        " bold: no other point is better at as low a cost",
        "evaluations: of the network with a gradient, each costs three forwards;"
        " forwards: without; means over images",
        *([rankings] if names else []),
        *(f"{metric.id}: {metric.description}" for metric in sweep.metrics.values()),
        *notes,
    ]
