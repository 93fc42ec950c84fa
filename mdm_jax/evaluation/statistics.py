"""Statistics of many images by metric, and what they say: a value, its interval, the difference
between two methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mdm_jax.errors import InputError
from mdm_jax.metrics.metric import Metric, mean

RESAMPLES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan)
"""of nothing, or of one image, from which no spread over images can be told"""


class Summary(NamedTuple):
    """One metric over a set of images."""

    value: float
    """NaN where no image counted"""
    interval: Interval
    """95 %, by the bootstrap over images"""
    counted: int
    without_truth: int
    """images that have no mask or box for the metric to look at"""
    protocol: str
    better: str


class Measured(NamedTuple):
    """A metric's statistics of the images that it could be measured on."""

    statistics: Float[np.ndarray, "m ..."]
    rows: np.ndarray
    """which images these are, ascending"""


@dataclass(frozen=True)
class Scores:
    """Per-image statistics by metric id."""

    ids: tuple[str, ...]
    metrics: Mapping[str, Metric]
    measured: Mapping[str, Measured]

    def per_image(self, metric: str) -> Float[np.ndarray, "n ..."]:
        """A metric's statistics [n, ...], NaN for an image without truth. Raises KeyError for a
        metric that was not asked."""
        statistics, rows = self.measured[metric]
        whole = np.full((len(self.ids), *statistics.shape[1:]), np.nan)
        whole[rows] = statistics
        return whole

    def summary(self, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Summary]:
        """Each metric's value with its interval."""
        return {name: self._summary(name, resamples, seed) for name in self.measured}

    def _summary(self, name: str, resamples: int, seed: int) -> Summary:
        metric, (statistics, rows) = self.metrics[name], self.measured[name]
        value, interval = estimate(metric.reduce, statistics, resamples=resamples, seed=seed)
        return Summary(
            value, interval, len(rows), len(self.ids) - len(rows), metric.protocol, metric.better
        )


def estimate(
    reduce: Callable[[Any], float],
    statistics: Float[np.ndarray, "m ..."],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, Interval]:
    """The reduced statistics and their 95 % percentile interval: NaN without statistics, and no
    interval from one image."""
    if not len(statistics):
        return np.nan, UNKNOWN
    if len(statistics) == 1:
        return float(reduce(statistics)), UNKNOWN
    return float(reduce(statistics)), interval(
        replicates(reduce, statistics, resamples=resamples, seed=seed)
    )


def difference(
    metric: Metric, ours: Measured, theirs: Measured, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, Interval]:
    """Ours minus theirs over the images that both were measured on, paired: both see the same
    resampled images.

    A metric whose statistics are reduced for the whole set, such as a threshold chosen for all
    images, is reduced anew for each side of each resample."""
    common = np.intersect1d(ours.rows, theirs.rows)
    first, second = (each.statistics[np.searchsorted(each.rows, common)] for each in (ours, theirs))
    if not len(common):
        return np.nan, UNKNOWN
    gap = float(metric.reduce(first)) - float(metric.reduce(second))
    if len(common) == 1:
        return gap, UNKNOWN
    drawn = [
        replicates(metric.reduce, each, resamples=resamples, seed=seed) for each in (first, second)
    ]
    return gap, interval(drawn[0] - drawn[1])


def verdict(better: str, interval: Interval) -> str:
    """Whether a difference (ours minus theirs) is "better", "worse" or, where its interval holds 0,
    "tied".

    "" where nothing can be said: no better direction, or nothing measured.
    """
    if better == "none" or not np.isfinite(interval).all():
        return ""
    if interval.low <= 0 <= interval.high:
        return "tied"
    return "better" if (interval.low > 0) == (better == "higher") else "worse"


def replicates(
    reduce: Callable[[Any], float],
    statistics: Float[np.ndarray, "m ..."],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, " r"]:
    """The reduced statistics of `resamples` draws of m images with replacement; the draws depend on
    m and the seed alone."""
    draws = _draws(len(statistics), resamples, seed)
    if reduce is mean and statistics.ndim == 1:
        return np.asarray(statistics, np.float64)[draws].mean(axis=1)
    statistics = np.asarray(statistics, np.float64)
    if _of_mean(reduce, statistics, draws[:3]):
        counts = np.stack([np.bincount(rows, minlength=len(statistics)) for rows in draws])
        means = counts @ statistics.reshape(len(statistics), -1) / len(statistics)
        return np.asarray(
            [reduce(each.reshape(1, *statistics.shape[1:])) for each in means], np.float64
        )
    return np.asarray([reduce(statistics[rows]) for rows in draws], np.float64)


def _of_mean(reduce: Callable[[Any], float], statistics: np.ndarray, draws: np.ndarray) -> bool:
    """Whether a reduction sees the mean of the statistics only, as curves over thresholds do: then
    one matrix product gives every resample's mean, and nothing as large as the statistics is copied
    for each."""
    drawn = [statistics, *(statistics[rows] for rows in draws)]
    return all(
        np.isclose(reduce(each), reduce(each.mean(axis=0, keepdims=True)), rtol=1e-9, atol=1e-12)
        for each in drawn
    )


def interval(replicates: Float[np.ndarray, " r"]) -> Interval:
    """The middle 95 % of replicates; NaN where one is not a number."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(replicates, [tail, 100 - tail])
    return Interval(float(low), float(high))


@lru_cache(maxsize=8)
def _draws(count: int, resamples: int, seed: int) -> np.ndarray:
    if resamples < 1:
        raise InputError(f"resamples is {resamples}: give a whole number from 1")
    return np.random.default_rng(seed).integers(count, size=(resamples, count), dtype=np.int32)
