"""A finished sweep: values, ranks, and the front of quality against cost."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from mdm_jax.config import MDMConfig
from mdm_jax.errors import InputError
from mdm_jax.evaluation.statistics import UNKNOWN, Interval, Scores, interval, replicates
from mdm_jax.metrics import Metric, look_up
from mdm_jax.sweeps.point_result import PointResult
from mdm_jax.sweeps.points import Point, format_value
from mdm_jax.sweeps.quality import KIND, Quality, check_quality, default_quality

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

# The number of a point.
Index = int | np.integer


@dataclass(frozen=True)
class Sweep:
    """Every point with its result; all lists are in the order of the points."""

    entries: tuple[Point, ...]
    metrics: Mapping[str, Metric]
    """by id"""
    outcomes: tuple[PointResult, ...]
    ids: tuple[str, ...]
    """of the images"""

    @property
    def points(self) -> list[dict[str, Any]]:
        """The settings of each point, as written."""
        return [entry.settings for entry in self.entries]

    @property
    def configs(self) -> list[MDMConfig]:
        """The config of each point."""
        return [entry.config for entry in self.entries]

    @property
    def best(self) -> dict[str, Any]:
        """The settings of the best point by the default quality, the first of `rank()`.

        Raises InputError where no point could be ranked.
        """
        ranked = self.rank()
        if not len(ranked):
            raise InputError(
                "no point of this sweep could be ranked: see its notes, or rank() by a quality"
                " of your own"
            )
        return self.points[ranked[0]]

    @cached_property
    def scores(self) -> list[Scores]:
        """Each point's statistics of every image by metric; empty for a point that failed."""
        scores = []
        for outcome in self.outcomes:
            measured = {name: self.metrics[name] for name in outcome.measured}
            scores.append(Scores(self.ids, measured, outcome.measured))
        return scores

    @property
    def evaluations(self) -> Float[np.ndarray, " points"]:
        """Network evaluations with a gradient, mean over images."""
        return np.asarray([outcome.evaluations for outcome in self.outcomes])

    @property
    def forward_passes(self) -> Float[np.ndarray, " points"]:
        """The cost of a point in forward passes, mean over images.

        An evaluation with a gradient counts as three.
        """
        return np.asarray([outcome.forward_passes for outcome in self.outcomes])

    @property
    def notes(self) -> list[str]:
        """What went wrong at each point; "" where nothing did."""
        return [outcome.note for outcome in self.outcomes]

    def metric(self, name: str) -> Metric:
        """The metric of an id or a short name. Raises InputError for one that was not measured."""
        return look_up(name, self.metrics, KIND)

    def values(self, metric: str) -> Float[np.ndarray, " points"]:
        """A metric's value at each point, NaN where it could not be measured."""
        measure = self.metric(metric)
        values = np.full(len(self.outcomes), np.nan)
        for i, outcome in enumerate(self.outcomes):
            measured = outcome.measured.get(measure.id)
            if measured is not None and len(measured.rows):
                values[i] = measure.reduce(measured.statistics)
        return values

    def default_quality(self) -> dict[str, float]:
        """Weight 1 for every metric where higher is better, -1 where lower is."""
        return default_quality(self.metrics)

    def quality(self, weights: Quality) -> Float[np.ndarray, " points"]:
        """sum_m weight_m * value_m at each point, NaN where a metric could not be measured.

        Raises InputError for weights that cannot be, see `check_quality`.
        """
        check_quality(weights, self.metrics)
        total = np.zeros(len(self.entries))
        for name, weight in weights.items():
            total = total + weight * self.values(name)
        return total

    def quality_interval(self, quality: Quality, index: Index) -> Interval:
        """95 % interval of one point's quality, by the bootstrap over images.

        NaN where one metric is missing, where its metrics were measured on different images, and
        for fewer than two images.
        """
        drawn = []
        rows: np.ndarray | None = None
        for name, weight in quality.items():
            metric = self.metric(name)
            measured = self.outcomes[index].measured.get(metric.id)
            if measured is None or len(measured.rows) < 2:
                return UNKNOWN
            if rows is not None and not np.array_equal(rows, measured.rows):
                return UNKNOWN
            rows = measured.rows
            # equal rows and seed: every metric sees the same resampled images
            values = replicates(
                metric.reduce, measured.statistics, reduces_mean=metric.reduces_mean
            )
            drawn.append(weight * values)
        return interval(np.sum(drawn, axis=0))

    def rank(self, quality: Quality | None = None) -> Int[np.ndarray, " ranked"]:
        """Numbers of the points by quality, best first, without those that failed.

        Of equal points the cheaper one comes first, then the first in order.
        """
        values = self.quality(self._weights(quality))
        # lexsort sorts by its last key first
        order = np.lexsort((np.arange(len(values)), self.forward_passes, -values))
        return order[np.isfinite(values[order])]

    def pareto(self, quality: Quality | None = None) -> Int[np.ndarray, " front"]:
        """Numbers of the points that no other beats in quality at as low a cost.

        The cost is `forward_passes`; of equal points the first is on the front.
        """
        values = self.quality(self._weights(quality))
        front: list[int] = []
        # by rising cost, a point is on the front if it is better than all that are cheaper
        for i in np.lexsort((np.arange(len(values)), -values, self.forward_passes)):
            if not np.isfinite(values[i]):
                continue
            if not front or values[i] > values[front[-1]]:
                front.append(int(i))
        return np.asarray(front, int)

    def of_images(self, images: Sequence[int]) -> Sweep:
        """The same sweep on some of the images, by their numbers.

        Choose a winner on one half and report it on the other.
        """
        chosen = sorted(set(map(int, images)))
        if not chosen or not 0 <= chosen[0] <= chosen[-1] < len(self.ids):
            raise InputError(
                f"images {list(images)[:5]} of {len(self.ids)}: give one or more, counted from 0"
            )
        outcomes = tuple(outcome.of_images(chosen) for outcome in self.outcomes)
        return replace(self, outcomes=outcomes, ids=tuple(self.ids[i] for i in chosen))

    def table(self, quality: Quality | None = None) -> pa.Table:
        """A row a point.

        Columns: point (its number), the settings, evaluations, forwards, kept_area, each metric
        with its 95 % interval (`_low`, `_high`), quality with its interval, rank (from 1; null for
        a point that failed), front, note. A setting that a point does not change is null; a
        setting with a value that is not a number is text.
        """
        import pyarrow as pa  # slow to import, and only tables need it

        weights = self._weights(quality)
        columns: dict[str, Any] = {"point": list(range(len(self.entries)))}
        columns |= _setting_columns(self.points)
        columns["evaluations"] = self.evaluations
        for name in ("forwards", "kept_area"):
            columns[name] = [float(each.diagnostics[name].mean()) for each in self.outcomes]
        columns |= _metric_columns(self)
        if weights:
            columns |= _quality_columns(self, weights)
            columns["rank"] = pa.array(columns["rank"], pa.int32())
        columns["note"] = self.notes
        return pa.table(columns)

    def _weights(self, quality: Quality | None) -> Quality:
        return self.default_quality() if quality is None else quality

    def plot_pareto(self, quality: Quality | None = None) -> Figure:
        """Deprecated: `mdm_jax.views.sweep_figures.pareto`."""
        return _moved("views.sweep_figures.pareto")(self, quality)

    def plot_parallel(self, quality: Quality | None = None) -> Figure:
        """Deprecated: `mdm_jax.views.sweep_figures.parallel`."""
        return _moved("views.sweep_figures.parallel")(self, quality)

    def plot_heatmap(
        self, x: str | None = None, y: str | None = None, quality: Quality | None = None
    ) -> Figure:
        """Deprecated: `mdm_jax.views.sweep_figures.heatmap`."""
        return _moved("views.sweep_figures.heatmap")(self, x, y, quality)

    def save_preset(self, path: Path | str, index: Index) -> Path:
        """Deprecated: `mdm_jax.sweeps.export_preset.save_preset`."""
        return _moved("sweeps.export_preset.save_preset")(self, index, path)


def _setting_columns(points: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for settings in points for name in settings)
    columns = {}
    for name in names:
        values = [settings.get(name) for settings in points]
        # an Arrow column has one type
        if not all(value is None or type(value) in (int, float) for value in values):
            values = [None if value is None else format_value(value) for value in values]
        columns[name] = values
    return columns


def _metric_columns(sweep: Sweep) -> dict[str, Any]:
    summaries = [scores.summary() for scores in sweep.scores]
    columns: dict[str, Any] = {}
    for name in sweep.metrics:
        intervals = [
            summary[name].interval if name in summary else UNKNOWN for summary in summaries
        ]
        columns[name] = sweep.values(name)
        columns[f"{name}_low"] = [each.low for each in intervals]
        columns[f"{name}_high"] = [each.high for each in intervals]
    return columns


def _quality_columns(sweep: Sweep, quality: Quality) -> dict[str, Any]:
    ranks: list[int | None] = [None] * len(sweep.entries)
    for rank, i in enumerate(sweep.rank(quality), 1):
        ranks[i] = rank
    intervals = [sweep.quality_interval(quality, i) for i in range(len(sweep.entries))]
    front = set(sweep.pareto(quality).tolist())
    return {
        "quality": sweep.quality(quality),
        "quality_low": [each.low for each in intervals],
        "quality_high": [each.high for each in intervals],
        "rank": ranks,
        "front": [i in front for i in range(len(sweep.entries))],
    }


def _moved(path: str) -> Any:
    """The function that a deprecated method calls, found by name: no import leads from here up."""
    module, _, name = f"mdm_jax.{path}".rpartition(".")
    warnings.warn(f"this method is now the function {module}.{name}", DeprecationWarning, 3)
    return getattr(import_module(module), name)
