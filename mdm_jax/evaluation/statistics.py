"""Statistics over images: a metric's value, its interval, and the difference between two methods.

Intervals are 95 % percentile intervals of the bootstrap over images. `scipy.stats.bootstrap` is not
used, because it draws other images from the same seed, which would move every published interval,
and it copies the statistics for each of the 2000 resamples (a curve has 1000 numbers an image).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mdm_jax.errors import InputError
from mdm_jax.metrics import look_up
from mdm_jax.metrics.metric import Metric, mean

RESAMPLES = 2000
LEVEL = 0.95

# Statistics [m, ...] -> number.
Reduce = Callable[[Any], float]


class Interval(NamedTuple):
    """The ends of an interval; NaN where it is not known."""

    low: float
    high: float


# The interval of no image, or of one: one image says nothing about the spread over images.
UNKNOWN = Interval(math.nan, math.nan)


class Summary(NamedTuple):
    """One metric over a set of images."""

    value: float
    """NaN where no image counted"""
    interval: Interval
    """95 %, by the bootstrap over images"""
    counted: int
    without_truth: int
    """images without the mask or box that the metric compares with"""
    protocol: str
    better: str
    parts: Mapping[str, float] = {}
    """the value of each part alone, where the metric has parts"""
    spread: float = math.nan
    """standard deviation of the parts' values (divided by their number); NaN without parts"""


class Difference(NamedTuple):
    """One metric of a method minus that of another, paired over images."""

    value: float
    """NaN where no image has both"""
    interval: Interval
    """95 %: both methods see the same resampled images"""
    counted: int
    """images with both"""
    verdict: str
    """of the first method: "better", "worse", "tied", or "" where nothing can be said"""


class Measured(NamedTuple):
    """A metric's statistics of the images that it could be measured on."""

    statistics: Float[np.ndarray, "m ..."]
    rows: Int[np.ndarray, " m"]
    """numbers of these images, ascending"""


@dataclass(frozen=True)
class Scores:
    """Per-image statistics by metric; a metric is named by its id or its short name."""

    ids: tuple[str, ...]
    """of the images"""
    metrics: Mapping[str, Metric]
    """by id"""
    measured: Mapping[str, Measured]
    """by metric id"""

    def metric(self, name: str) -> Metric:
        """The metric of an id or a short name. Raises InputError for one that was not measured."""
        return look_up(name, self.metrics, "metric of these scores")

    def per_image(self, metric: str) -> Float[np.ndarray, "n ..."]:
        """A metric's statistics [n, ...] of every image, NaN for an image without truth.

        Raises InputError for a metric that was not measured.
        """
        statistics, rows = self.measured[self.metric(metric).id]
        every_image = np.full((len(self.ids), *statistics.shape[1:]), np.nan)
        every_image[rows] = statistics
        return every_image

    def summary(self, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Summary]:
        """Each metric's value with its interval, by metric id."""
        return {name: self._summary(name, resamples, seed) for name in self.measured}

    def _summary(self, name: str, resamples: int, seed: int) -> Summary:
        metric = self.metrics[name]
        statistics, rows = self.measured[name]
        value, bounds = estimate(
            metric.reduce,
            statistics,
            reduces_mean=metric.reduces_mean,
            resamples=resamples,
            seed=seed,
        )
        parts = values_of_parts(metric, statistics)
        return Summary(
            value,
            bounds,
            counted=len(rows),
            without_truth=len(self.ids) - len(rows),
            protocol=metric.protocol,
            better=metric.better,
            parts=parts,
            spread=float(np.std(list(parts.values()))) if parts else math.nan,
        )

    def paired_difference(
        self, other: Scores, metric: str, *, resamples: int = RESAMPLES, seed: int = 0
    ) -> Difference:
        """A metric of these scores minus that of `other`, on the same images by another method.

        The images are paired by their order, so both must have the same ids. The interval is of
        the difference itself: both methods see the same resampled images, so that what makes an
        image hard for both does not widen it. `verdict` is "tied" where the interval holds 0.

        Example:
          >>> evaluate(network, images, ours).paired_difference(
          ...     evaluate(network, images, theirs), "insertion"
          ... )

        Raises:
          InputError: a metric that one of them lacks, or scores of other images.
        """
        if self.ids != other.ids:
            raise InputError(
                "the scores are of different images: give scores of the same ids in the same order"
            )
        ours = self.metric(metric)
        theirs = other.metric(ours.id)
        return difference(
            ours,
            self.measured[ours.id],
            other.measured[theirs.id],
            resamples=resamples,
            seed=seed,
        )


def values_of_parts(
    metric: Metric, statistics: Float[np.ndarray, "m ..."]
) -> dict[str, float]:
    """The metric's number of each of its parts alone; empty without parts or images.

    Raises InputError where the statistics are not [m, parts].
    """
    if not metric.parts or not len(statistics):
        return {}
    if statistics.shape[1:] != (len(metric.parts),):
        raise InputError(
            f"{metric.id} names {len(metric.parts)} parts, but its statistics of an image have the"
            f" shape {statistics.shape[1:]}: return one number for each part"
        )
    numbers = range(len(metric.parts))
    values = [float(metric.reduce(statistics[:, [number]])) for number in numbers]
    return dict(zip(metric.parts, values))


def estimate(
    reduce: Reduce,
    statistics: Float[np.ndarray, "m ..."],
    *,
    reduces_mean: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, Interval]:
    """The reduced statistics and their 95 % interval.

    The value is NaN without statistics; one image has no interval.
    """
    if not len(statistics):
        return np.nan, UNKNOWN
    value = float(reduce(statistics))
    if len(statistics) == 1:
        return value, UNKNOWN
    drawn = replicates(
        reduce, statistics, reduces_mean=reduces_mean, resamples=resamples, seed=seed
    )
    return value, interval(drawn)


def difference(
    metric: Metric,
    ours: Measured,
    theirs: Measured,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Ours minus theirs over the images that both were measured on, paired.

    Both see the same resampled images. A metric that is reduced over the whole set, such as with
    one threshold for all images, is reduced anew for each side of each resample.
    """
    # an image that one of them lacks says nothing about the difference
    common = np.intersect1d(ours.rows, theirs.rows)
    if not len(common):
        return Difference(np.nan, UNKNOWN, 0, "")
    our_statistics = ours.statistics[np.searchsorted(ours.rows, common)]
    their_statistics = theirs.statistics[np.searchsorted(theirs.rows, common)]
    gap = float(metric.reduce(our_statistics)) - float(metric.reduce(their_statistics))
    if len(common) == 1:
        return Difference(gap, UNKNOWN, 1, "")
    our_draws, their_draws = (
        replicates(
            metric.reduce,
            each,
            reduces_mean=metric.reduces_mean,
            resamples=resamples,
            seed=seed,
        )
        for each in (our_statistics, their_statistics)
    )
    gap_interval = interval(our_draws - their_draws)
    return Difference(gap, gap_interval, len(common), verdict(metric.better, gap_interval))


def verdict(better: str, interval: Interval) -> str:
    """Whether a difference (ours minus theirs) is "better", "worse" or "tied", by its interval.

    "tied" where the interval holds 0; "" where nothing can be said: no better direction, or no
    interval.
    """
    if better == "none" or not np.isfinite(interval).all():
        return ""
    if interval.low <= 0 <= interval.high:
        return "tied"
    higher = interval.low > 0
    return "better" if higher == (better == "higher") else "worse"


def replicates(
    reduce: Reduce,
    statistics: Float[np.ndarray, "m ..."],
    *,
    reduces_mean: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, " r"]:
    """The reduced statistics of `resamples` draws of m images with replacement.

    The draws depend on m and the seed alone, so metrics of the same images see the same draws.
    With `reduces_mean`, `reduce` depends on the mean over images only (see `Metric.reduces_mean`).
    """
    draws = _draws(len(statistics), resamples, seed)
    # means of thousands of float32 numbers would differ with their order
    statistics = np.asarray(statistics, np.float64)
    if reduce is mean and statistics.ndim == 1:
        return statistics[draws].mean(axis=1)
    # 0 * NaN is NaN: with counts as weights a NaN would also reach draws without its image
    if (reduces_mean or reduce is mean) and np.isfinite(statistics).all():
        means = _resampled_means(statistics, draws)
        reduced = [reduce(each[None]) for each in means]
    else:
        reduced = [reduce(statistics[rows]) for rows in draws]
    return np.asarray(reduced, np.float64)


def _resampled_means(statistics: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Each draw's mean [r, ...] by one matrix product: no draw copies the statistics."""
    images = len(statistics)
    counts = np.stack([np.bincount(rows, minlength=images) for rows in draws])
    means = counts @ statistics.reshape(images, -1) / images
    return means.reshape(len(draws), *statistics.shape[1:])


def interval(replicates: Float[np.ndarray, " r"]) -> Interval:
    """The middle 95 % of replicates; NaN where one is not a number."""
    # percentiles, not value +- 1.96 s: scores are bounded, and so their intervals should be
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(replicates, [tail, 100 - tail])
    return Interval(float(low), float(high))


# a table asks for the same draws for every metric and method
@lru_cache(maxsize=8)
def _draws(count: int, resamples: int, seed: int) -> Int[np.ndarray, "r m"]:
    if resamples < 1:
        raise InputError(f"resamples is {resamples}: give a whole number from 1")
    rng = np.random.default_rng(seed)
    # another dtype would draw other numbers from the same seed, and move published intervals
    return rng.integers(count, size=(resamples, count), dtype=np.int32)
