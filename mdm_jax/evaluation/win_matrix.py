"""The win matrix: where one method is first alone, first tied, or loses, and to whom.

A cell is one metric on one network and one set of images. The reference is compared there with
every other method that was measured, pseudo-methods such as `random` and `center` included, by the
95 % interval of the difference, paired over the images that both have:

- "first": it is better than every rival, each interval apart from 0
- "tied": no rival is better with its interval apart, but some interval holds 0
- "lost": some rival is better with its interval apart

Each rival is one comparison at 95 %, not corrected for their number: a reference that is as good
as twenty independent rivals loses to one of them in 4 cells of 10 (1 - 0.975^20). The verdict is
hard on the reference on purpose."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mdm_jax.evaluation.benchmark import Entry
from mdm_jax.evaluation.statistics import Difference, Interval, difference
from mdm_jax.metrics import Metric

VERDICTS = ("first", "tied", "lost")

# A rival counts from so many common images on: with fewer, even a difference of one sign on every
# image could be chance at 5 % (the sign test), whatever the bootstrap of so few says.
MIN_IMAGES = 6

# A matrix of rivals at similar cost has those that cost at most so many times as much.
SIMILAR_COST = 10.0


class WinCell(NamedTuple):
    """The reference on one metric, one network and one set of images."""

    data: str
    network: str
    metric: str
    """id"""
    verdict: str
    """one of `VERDICTS`"""
    rival: str
    """who decides: lost, the one that is better by most; first or tied, the nearest"""
    difference: float
    """from that rival; positive is good for the reference, also where less is better"""
    interval: Interval
    """95 % of the difference, paired over images, with the same sign"""
    rivals: int
    """methods that were compared"""
    images: int
    """that the reference and the deciding rival both have"""


@dataclass(frozen=True)
class WinMatrix:
    """The cells of one or several benchmarks."""

    cells: tuple[WinCell, ...]
    reference: str
    cost_limit: float | None = None
    """only rivals that cost at most so many times what the reference costs; None for all"""
    left_out: Mapping[tuple[str, str], tuple[str, ...]] = dataclasses.field(
        default_factory=dict
    )
    """rivals that cost more, by (data, network)"""
    too_few: Mapping[tuple[str, str], tuple[str, ...]] = dataclasses.field(
        default_factory=dict
    )
    """rivals that have fewer than `MIN_IMAGES` images and do not count, by (data, network)"""

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """(data, network) in order."""
        return tuple(dict.fromkeys((cell.data, cell.network) for cell in self.cells))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The ids of the metrics, in order."""
        return tuple(dict.fromkeys(cell.metric for cell in self.cells))

    def find(self, row: tuple[str, str], metric: str) -> WinCell | None:
        """The cell of (data, network) and a metric; None where nothing was compared."""
        for cell in self.cells:
            if (cell.data, cell.network) == row and cell.metric == metric:
                return cell
        return None

    def count(self, metric: str | None = None) -> dict[str, int]:
        """How many cells have each verdict, of one metric or of all."""
        verdicts = [each.verdict for each in self.cells if metric in (None, each.metric)]
        return {verdict: verdicts.count(verdict) for verdict in VERDICTS}


def compare(
    entries: Sequence[Entry],
    metrics: Mapping[str, Metric],
    reference: str,
    *,
    data: str = "",
    cost_limit: float | None = None,
) -> WinMatrix:
    """The win matrix of a benchmark's entries.

    `reference` is the label of a method, `data` names the images. With `cost_limit`, rivals that
    cost more than so many times what the reference costs do not count, forwards taken as thirds of
    an evaluation with a gradient. Metrics without a better side are left out, and so are networks
    that do not have the reference.
    """
    cells: list[WinCell] = []
    left_out, too_few = {}, {}
    for network in dict.fromkeys(entry.model for entry in entries):
        of_network = [entry for entry in entries if entry.model == network]
        ours = next((each for each in of_network if each.method == reference), None)
        if ours is None or ours.scores is None:
            continue
        rivals = [
            each for each in of_network if each is not ours and each.scores is not None
        ]
        costly = [each for each in rivals if _costs_too_much(each, ours, cost_limit)]
        if costly:
            left_out[data, network] = tuple(each.method for each in costly)
        compared = [each for each in rivals if each not in costly]
        few = [each.method for each in compared if _count_images(each) < MIN_IMAGES]
        if few:
            too_few[data, network] = tuple(few)
        for metric in metrics.values():
            cell = _decide(metric, ours, compared, data)
            if cell is not None:
                cells.append(cell)
    return WinMatrix(tuple(cells), reference, cost_limit, left_out, too_few)


def join(matrices: Sequence[WinMatrix]) -> WinMatrix:
    """The cells of several data sets in one matrix.

    All must have one reference and one cost limit; raises ValueError where they differ.
    """
    kinds = {(each.reference, each.cost_limit) for each in matrices}
    if len(kinds) != 1:
        raise ValueError(f"matrices of different references or cost limits: {kinds}")
    cells = tuple(cell for each in matrices for cell in each.cells)
    left_out = {row: names for each in matrices for row, names in each.left_out.items()}
    too_few = {row: names for each in matrices for row, names in each.too_few.items()}
    return dataclasses.replace(matrices[0], cells=cells, left_out=left_out, too_few=too_few)


def _count_images(entry: Entry) -> int:
    return 0 if entry.scores is None else len(entry.scores.ids)


def _costs_too_much(rival: Entry, ours: Entry, cost_limit: float | None) -> bool:
    if cost_limit is None or rival.cost is None or ours.cost is None:
        return False
    return rival.cost.equivalent > cost_limit * ours.cost.equivalent


def _decide(
    metric: Metric, ours: Entry, rivals: Sequence[Entry], data: str
) -> WinCell | None:
    """One cell; None where the metric has no better side, or no rival can be compared."""
    if metric.better == "none":
        return None
    compared = {}
    for rival in rivals:
        found = _difference(metric, ours, rival)
        # few images in common, or a value that is no number, say nothing
        if found is not None and found.verdict and found.counted >= MIN_IMAGES:
            compared[rival.method] = found
    if not compared:
        return None
    verdicts = {found.verdict for found in compared.values()}
    if "worse" in verdicts:
        verdict, deciding = "lost", "worse"
    elif "tied" in verdicts:
        verdict, deciding = "tied", "tied"
    else:
        verdict, deciding = "first", "better"
    among = {name: each for name, each in compared.items() if each.verdict == deciding}
    # lost: who is better by most; first and tied: who is nearest or ahead. Both are the least gain
    name = min(among, key=lambda each: among[each].value)
    gap = among[name]
    return WinCell(
        data,
        ours.model,
        metric.id,
        verdict,
        name,
        gap.value,
        gap.interval,
        len(compared),
        gap.counted,
    )


def _difference(metric: Metric, ours: Entry, rival: Entry) -> Difference | None:
    """Ours minus theirs, with the sign by which positive is good; None where one lacks it."""
    if ours.scores is None or rival.scores is None:
        return None
    if metric.id not in ours.scores.measured or metric.id not in rival.scores.measured:
        return None
    found = difference(
        metric, ours.scores.measured[metric.id], rival.scores.measured[metric.id]
    )
    if not math.isfinite(found.value) or metric.better == "higher":
        return found
    low, high = found.interval
    return found._replace(value=-found.value, interval=Interval(-high, -low))
