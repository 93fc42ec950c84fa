"""The benchmark's table: values with intervals, and differences from a reference method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mdm_jax.evaluation.benchmark import Entry, Results
from mdm_jax.evaluation.cost import Cost
from mdm_jax.evaluation.statistics import UNKNOWN, Difference, Interval, Summary, difference
from mdm_jax.metrics import Metric

NO_DIFFERENCE = Difference(np.nan, UNKNOWN, 0, "")


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
    """by metric id"""
    notes: Mapping[str, str]
    """by metric, or "" for the method: why there is nothing"""
    failures: Mapping[str, int]
    """images without an explanation, by the name of the status"""
    has_ranking: bool = False
    """whether the method gives a ranking, which order metrics read"""


@dataclass(frozen=True)
class Table:
    """The rows of all networks; `evaluation.table_text` writes it, `views.benchmark_figures` draws
    it."""

    rows: tuple[Row, ...]
    metrics: Mapping[str, Metric]
    """by id"""
    notes: tuple[str, ...]
    """a sentence for each network"""
    reference: str
    """label of the method that the others are compared with"""

    @property
    def models(self) -> tuple[str, ...]:
        """The labels of the networks, in order."""
        return tuple(dict.fromkeys(row.model for row in self.rows))

    def of(self, model: str) -> list[Row]:
        """The rows of one network."""
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
    """The table of some entries.

    Others are compared with the method of the label `reference`, by default the first MDM, or the
    first method where MDM is not among them.
    """
    if reference is None:
        labels = [entry.method for entry in entries]
        of_mdm = [label for label in labels if label.partition(":")[0] == "mdm"]
        reference = (of_mdm or labels)[0]
    rows: list[Row] = []
    # methods are compared within a network: images and targets differ between networks
    for model in dict.fromkeys(entry.model for entry in entries):
        of_model = [entry for entry in entries if entry.model == model]
        rows += _rows(of_model, metrics, reference)
    return Table(tuple(rows), metrics, tuple(notes), reference)


def _rows(
    entries: Sequence[Entry], metrics: Mapping[str, Metric], reference: str
) -> list[Row]:
    """The rows of one network."""
    summaries = [
        {} if entry.scores is None else entry.scores.summary() for entry in entries
    ]
    standard = next((entry for entry in entries if entry.method == reference), None)
    best = {name: _find_best(metric, summaries) for name, metric in metrics.items()}
    rows = []
    for i, entry in enumerate(entries):
        cells = {}
        for name, summary in summaries[i].items():
            metric = metrics[name]
            apart = _compare(metric, entry, None if entry is standard else standard)
            rank = _rank(metric, entries, i, best[name])
            cells[name] = Cell(summary, apart.value, apart.interval, apart.verdict, rank)
        row = Row(
            entry.model,
            entry.method,
            entry.cost,
            cells,
            entry.notes,
            entry.failures,
            entry.has_ranking,
        )
        rows.append(row)
    return rows


def _find_best(metric: Metric, summaries: Sequence[Mapping[str, Summary]]) -> int | None:
    """The number of the entry with the best value; None where no value is better than another."""
    # a metric that a method does not have is NaN, and never the best
    values = [each[metric.id].value if metric.id in each else np.nan for each in summaries]
    if metric.better == "none" or np.isnan(values).all():
        return None
    return int(np.nanargmax(values) if metric.better == "higher" else np.nanargmin(values))


def _rank(metric: Metric, entries: Sequence[Entry], i: int, best: int | None) -> str:
    if best is None:
        return ""
    if i == best:
        return "best"
    # by the difference from the best, since overlapping intervals of two values say little
    low, high = _compare(metric, entries[i], entries[best]).interval
    return "near" if low <= 0 <= high else ""


def _compare(metric: Metric, entry: Entry, other: Entry | None) -> Difference:
    if other is None or entry.scores is None or other.scores is None:
        return NO_DIFFERENCE
    ours, theirs = (each.measured.get(metric.id) for each in (entry.scores, other.scores))
    if ours is None or theirs is None:
        return NO_DIFFERENCE
    return difference(metric, ours, theirs)
