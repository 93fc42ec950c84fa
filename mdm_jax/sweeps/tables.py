"""A sweep as a table: a row a point, as Arrow, Markdown and CSV."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc

from mdm_jax.evaluation.statistics import Interval
from mdm_jax.evaluation.tables import heading, number, span
from mdm_jax.sweeps.points import label, shown
from mdm_jax.sweeps.result import Quality, Sweep


def table(sweep: Sweep, quality: Quality | None = None) -> pa.Table:
    """Columns: point (its number), the settings, evaluations, forwards, kept_area, each metric with
    its 95 % interval (`_low`, `_high`), quality with its interval, rank (from 1; null for a point
    that failed), front, note.

    A setting that a point does not change is null; one that is no number is text.
    """
    quality = sweep.default_quality() if quality is None else quality
    columns: dict[str, Any] = {"point": list(range(len(sweep.entries)))}
    names = list(dict.fromkeys(name for each in sweep.points for name in each))
    for name in names:
        values = [each.get(name) for each in sweep.points]
        numeric = all(value is None or type(value) in (int, float) for value in values)
        columns[name] = (
            values if numeric else [None if value is None else shown(value) for value in values]
        )
    columns["evaluations"] = sweep.evaluations
    for name in ("forwards", "kept_area"):
        columns[name] = [float(each.diagnostics[name].mean()) for each in sweep.outcomes]
    summaries = [each.summary() for each in sweep.scores]
    for name in sweep.metrics:
        found = [each.get(name) for each in summaries]
        columns[name] = sweep.values(name)
        columns[f"{name}_low"] = [math.nan if each is None else each.interval.low for each in found]
        columns[f"{name}_high"] = [
            math.nan if each is None else each.interval.high for each in found
        ]
    if quality:
        columns |= _quality(sweep, quality)
    columns["note"] = sweep.notes
    return pa.table(columns)


def _quality(sweep: Sweep, quality: Quality) -> dict[str, Any]:
    ranks: list[int | None] = [None] * len(sweep.entries)
    for rank, i in enumerate(sweep.rank(quality), 1):
        ranks[i] = rank
    intervals = [sweep.quality_interval(quality, i) for i in range(len(sweep.entries))]
    front = set(sweep.pareto(quality).tolist())
    return {
        "quality": sweep.quality(quality),
        "quality_low": [each.low for each in intervals],
        "quality_high": [each.high for each in intervals],
        "rank": pa.array(ranks, pa.int32()),
        "front": [i in front for i in range(len(sweep.entries))],
    }


def csv(rows: pa.Table) -> str:
    """The table with unrounded numbers."""
    sink = io.BytesIO()
    pc.write_csv(rows, sink)
    return sink.getvalue().decode()


def markdown(
    sweep: Sweep, quality: Quality, points: Sequence[int], notes: Sequence[str] = ()
) -> str:
    """Some points, best first as they are given, with what the columns mean below."""
    values, summaries = sweep.quality(quality), {i: sweep.scores[i].summary() for i in points}
    front = set(sweep.pareto(quality).tolist())
    measured = [heading(each) for each in sweep.metrics.values()]
    heads = ["point", "settings", "evaluations", "forwards", *measured, "quality ↑", "note"]
    lines = [heads, ["---:", "---", "---:", "---:", *["---:"] * (len(measured) + 1), "---"]]
    for i in points:
        cells = [
            (
                _cell(summaries[i][name].value, summaries[i][name].interval)
                if name in summaries[i]
                else "n/a"
            )
            for name in sweep.metrics
        ]
        settings = label(sweep.points[i])
        lines.append(
            [
                str(i),
                f"**{settings}**" if i in front else settings,
                f"{sweep.evaluations[i]:.4g}",
                f"{sweep.outcomes[i].diagnostics['forwards'].mean():.4g}",
                *cells,
                (
                    _cell(values[i], sweep.quality_interval(quality, i))
                    if math.isfinite(values[i])
                    else "n/a"
                ),
                sweep.notes[i],
            ]
        )
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    foot = [
        f"quality: {weighed(sweep, quality)}",
        (
            "value [95 % bootstrap interval over images]; bold: no other point is better at as low"
            " a cost"
        ),
        (
            "evaluations: of the network with a gradient, each costs three forwards; forwards:"
            " without; means over images"
        ),
        *(f"{metric.id}: {metric.description}" for metric in sweep.metrics.values()),
        *notes,
    ]
    return "\n".join([*rows, "", *(f"- {line}" for line in foot)]) + "\n"


def weighed(sweep: Sweep, quality: Quality) -> str:
    """The quality as a formula, such as insertion - deletion + 0.5 energy."""
    parts = []
    for name, weight in quality.items():
        size = "" if abs(weight) == 1 else f"{abs(weight):g} "
        parts.append(f"{'-' if weight < 0 else '+'} {size}{sweep.metric(name).name}")
    return " ".join(parts).removeprefix("+ ")


def _cell(value: float, interval: Interval) -> str:
    return f"{number(value)} {span(interval)}".rstrip()
