"""A finished sweep: values, ranks and the front of quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from mdm_jax import metrics
from mdm_jax.config import MDMConfig
from mdm_jax.errors import InputError, unknown
from mdm_jax.evaluation.statistics import UNKNOWN, Interval, Scores, interval, replicates
from mdm_jax.metrics import Metric
from mdm_jax.sweeps.point_result import Outcome
from mdm_jax.sweeps.points import Point

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

Index = int | np.integer
"""the number of a point"""
Quality = Mapping[str, float | int]
"""metric -> weight; a quality is the weighted sum of the metrics' values, and the higher the
better"""


@dataclass(frozen=True)
class Sweep:
    """Every point with what it gave; lists run in the order of the points."""

    entries: tuple[Point, ...]
    metrics: Mapping[str, Metric]
    """by id, as they were asked for"""
    outcomes: tuple[Outcome, ...]
    ids: tuple[str, ...]
    """of the images"""

    @property
    def points(self) -> list[dict[str, Any]]:
        """The settings of each point, as written."""
        return [entry.settings for entry in self.entries]

    @property
    def configs(self) -> list[MDMConfig]:
        return [entry.config for entry in self.entries]

    @cached_property
    def scores(self) -> list[Scores]:
        """Statistics of every image by metric; of a point that failed there are none."""
        return [
            Scores(self.ids, {name: self.metrics[name] for name in each.measured}, each.measured)
            for each in self.outcomes
        ]

    @property
    def evaluations(self) -> Float[np.ndarray, " points"]:
        """Network evaluations with a gradient, mean over images."""
        return np.asarray([each.evaluations for each in self.outcomes])

    @property
    def forward_passes(self) -> Float[np.ndarray, " points"]:
        """Network evaluations in forward passes, one with a gradient as three, mean over images:
        what a point costs."""
        return np.asarray([each.forward_passes for each in self.outcomes])

    @property
    def notes(self) -> list[str]:
        """What went wrong at each point; "" where nothing did."""
        return [each.note for each in self.outcomes]

    def values(self, metric: str) -> Float[np.ndarray, " points"]:
        """A metric's value at each point, NaN where it could not be measured."""
        asked = self.metric(metric)
        found = [each.measured.get(asked.id) for each in self.outcomes]
        reduced = [
            np.nan if each is None or not len(each.rows) else asked.reduce(each.statistics)
            for each in found
        ]
        return np.asarray(reduced, np.float64)

    def metric(self, name: str) -> Metric:
        """The metric of an id or a name. Raises InputError for one that was not asked for."""
        return _asked(name, self.metrics)

    def quality(self, weights: Quality) -> Float[np.ndarray, " points"]:
        """sum_m weight_m * value_m at each point, NaN where a metric could not be measured.

        Raises InputError for a quality that cannot be, see `check_quality`.
        """
        check_quality(weights, self.metrics)
        total = np.zeros(len(self.entries))
        for name, weight in weights.items():
            total = total + weight * self.values(name)
        return total

    def default_quality(self) -> dict[str, float]:
        """Every metric that has a better direction, weighed alike."""
        signs = {"higher": 1.0, "lower": -1.0}
        return {
            name: signs[metric.better]
            for name, metric in self.metrics.items()
            if metric.better in signs
        }

    def quality_interval(self, quality: Quality, index: Index) -> Interval:
        """95 % of one point's quality, by the bootstrap over images; NaN where its metrics look at
        different images."""
        measured = [self.outcomes[index].measured.get(self.metric(name).id) for name in quality]
        rows = [each.rows for each in measured if each is not None]
        if (
            len(rows) < len(measured)
            or len(rows[0]) < 2
            or any(not np.array_equal(rows[0], other) for other in rows)
        ):
            return UNKNOWN
        drawn = [  # the same images are drawn for every metric
            weight * replicates(self.metric(name).reduce, each.statistics)
            for (name, weight), each in zip(quality.items(), measured)
            if each is not None
        ]
        return interval(np.sum(drawn, axis=0))

    def rank(self, quality: Quality | None = None) -> Int[np.ndarray, " ranked"]:
        """Points by quality, best first; of equals the cheaper one, then the first. Failed points
        are left out."""
        quality = self.default_quality() if quality is None else quality
        found = self.quality(quality)
        order = np.lexsort((np.arange(len(found)), self.forward_passes, -found))
        return order[np.isfinite(found[order])]

    def pareto(self, quality: Quality | None = None) -> Int[np.ndarray, " front"]:
        """The points that no other beats in quality at as low a cost, by `forward_passes`; of
        equals the first."""
        found = self.quality(self.default_quality() if quality is None else quality)
        front: list[int] = []
        for i in np.lexsort((np.arange(len(found)), -found, self.forward_passes)):
            if np.isfinite(found[i]) and (not front or found[i] > found[front[-1]]):
                front.append(int(i))
        return np.asarray(front, int)

    def of_images(self, images: Sequence[int]) -> Sweep:
        """The same sweep on some of the images: choose a winner on one half, and report it on the
        other."""
        chosen = sorted(set(map(int, images)))
        if not chosen or not 0 <= chosen[0] <= chosen[-1] < len(self.ids):
            raise InputError(
                f"images {list(images)[:5]} of {len(self.ids)}: give one or more, counted from 0"
            )
        outcomes = tuple(each.of(chosen) for each in self.outcomes)
        return replace(self, outcomes=outcomes, ids=tuple(self.ids[i] for i in chosen))

    def table(self, quality: Quality | None = None) -> pa.Table:
        """A row a point: its settings, evaluations, each metric with its 95 % interval, the
        quality, its rank and a note."""
        from mdm_jax.sweeps import tables

        return tables.table(self, quality)

    def save_preset(self, path: Path | str, index: Index) -> Path:
        """Write a point's settings as TOML that `--config` takes. Raises InputError for a config
        that no file can say."""
        from mdm_jax.sweeps import export_preset

        if not -len(self.entries) <= index < len(self.entries):
            raise InputError(
                f"there is no point {index}: this sweep has {len(self.entries)}, counted from 0"
            )
        return export_preset.save(self.entries[index], Path(path))

    def plot_pareto(self, quality: Quality | None = None) -> Figure:
        """Quality against network evaluations, with the front."""
        from mdm_jax.views import sweep_figures

        return sweep_figures.pareto(self, quality)

    def plot_parallel(self, quality: Quality | None = None) -> Figure:
        """Parallel coordinates: a line a point through its settings and its metrics, colored by
        quality."""
        from mdm_jax.views import sweep_figures

        return sweep_figures.parallel(self, quality)

    def plot_heatmap(
        self, x: str | None = None, y: str | None = None, quality: Quality | None = None
    ) -> Figure:
        """Quality over two numeric settings; the best over all others."""
        from mdm_jax.views import sweep_figures

        return sweep_figures.heatmap(self, x, y, quality)


def find(asked: Sequence[str | Metric]) -> dict[str, Metric]:
    """Metrics by id. Raises InputError for none, and for an unknown name."""
    if not asked:
        raise InputError("no metrics: give one or more, such as insertion deletion")
    return {
        each.id: each
        for each in (metrics.find(one) if isinstance(one, str) else one for one in asked)
    }


def check_quality(weights: Quality, asked: Mapping[str, Metric]) -> None:
    """Raises InputError for no metrics, one that was not asked for, and a weight that rewards what
    is worse."""
    if not weights:
        raise InputError(
            'the quality has no metrics: give a weight for one or more, such as {"insertion": 1}'
        )
    for name, weight in weights.items():
        metric = _asked(name, asked)
        if not np.isfinite(weight):
            raise InputError(f"the weight of {name} in the quality is {weight}: give a number")
        if weight * {"higher": 1, "lower": -1, "none": 0}[metric.better] < 0:
            sign = "above" if metric.better == "higher" else "below"
            raise InputError(
                f"the weight of {name} in the quality is {weight}: {metric.better} is better, give"
                f" one {sign} zero"
            )


def _asked(name: str, asked: Mapping[str, Metric]) -> Metric:
    if name in asked:
        return asked[name]
    named = [each for each in asked.values() if each.name == name]
    if len(named) != 1:
        raise unknown("metric of this sweep", name, asked)
    return named[0]
