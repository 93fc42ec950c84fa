"""The settings that differ between points as coordinates, for tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mdm_jax.config_files import NONE
from mdm_jax.sweeps.points import NODE, PRESET, WEIGHT, Point, format_value

# An axis is logarithmic where its largest number is so many times the smallest, or more.
LOG_RATIO = 15.0


class Axis(NamedTuple):
    """One setting, with its value at every point."""

    name: str
    values: tuple[Any, ...]
    """of each point: a number, or text"""
    numeric: bool

    @property
    def distinct(self) -> list[Any]:
        """The values that occur: numbers ascending, texts in the order of the points."""
        distinct = list(dict.fromkeys(self.values))
        return sorted(distinct) if self.numeric else distinct

    @property
    def log(self) -> bool:
        """Whether the axis is logarithmic."""
        if not self.numeric:
            return False
        low, high = self.distinct[0], self.distinct[-1]
        return low > 0 and high / low >= LOG_RATIO

    def places(self) -> np.ndarray:
        """Each point's place in [0, 1]: on a linear or logarithmic scale, or among the texts."""
        if self.numeric:
            values = np.asarray(self.values, np.float64)
        else:
            values = np.asarray(
                [self.distinct.index(value) for value in self.values], np.float64
            )
        if self.log:
            values = np.log(values)
        low, high = values.min(), values.max()
        if not high > low:
            return np.full(len(values), 0.5)
        return (values - low) / (high - low)


def varying(points: Sequence[Point]) -> list[Axis]:
    """The settings in which points differ, in the order in which they are written."""
    names = dict.fromkeys(name for point in points for name in point.settings)
    axes = [_make_axis(points, name) for name in names]
    return [axis for axis in axes if len(axis.distinct) > 1]


def _make_axis(points: Sequence[Point], name: str) -> Axis:
    values = [value_of(point, name) for point in points]
    # the type itself: a bool is an int, but no coordinate
    if all(type(value) in (int, float) for value in values):
        return Axis(name, tuple(values), True)
    return Axis(name, tuple(format_value(value) for value in values), False)


def value_of(point: Point, name: str) -> Any:
    """A point's value of a setting, its base's where the point does not change it."""
    if name in point.settings:
        return point.settings[name]
    if name == NODE:
        return point.node if isinstance(point.node, str) else _name_of(point.node, "node")
    if name == PRESET:
        return "base"
    weights = {term.name: float(term.weight) for term in point.config.objective}
    if name == "objective":
        return weights
    if name.startswith(WEIGHT):
        return weights.get(name.removeprefix(WEIGHT), 0.0)
    return _to_plain(getattr(point.config, name))


def _name_of(function: Any, default: Any) -> Any:
    return getattr(function, "__name__", default)


def _to_plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_plain(each) for each in value]
    if isinstance(value, np.generic) or (np.ndim(value) == 0 and hasattr(value, "item")):
        return value.item()
    if value is None:
        return NONE
    return _name_of(value, value) if callable(value) else value
