"""The settings that differ between points, as coordinates: each point's value of one, and how it is
shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mdm_jax.config_files import NONE
from mdm_jax.sweeps.points import NODE, PRESET, WEIGHT, Point, format_value

DECADES = 15.0
"""a range over which the largest number is so many times the smallest is shown by its logarithm"""


class Axis(NamedTuple):
    """One setting."""

    name: str
    values: tuple[Any, ...]
    """of each point: a number, or text"""
    numeric: bool

    @property
    def distinct(self) -> list[Any]:
        """The values that occur: numbers ascending, texts in the order of the points."""
        found = list(dict.fromkeys(self.values))
        return sorted(found) if self.numeric else found

    @property
    def log(self) -> bool:
        return (
            self.numeric
            and self.distinct[0] > 0
            and self.distinct[-1] / self.distinct[0] >= DECADES
        )

    def places(self) -> np.ndarray:
        """Each point's place in [0, 1]: on a linear or logarithmic scale, or among the texts."""
        values = (
            self.values if self.numeric else [self.distinct.index(value) for value in self.values]
        )
        at = np.asarray(values, np.float64)
        at = np.log(at) if self.log else at
        low, high = at.min(), at.max()
        return (at - low) / (high - low) if high > low else np.full(len(at), 0.5)


def varying(points: Sequence[Point]) -> list[Axis]:
    """The settings in which points differ, in the order in which they are written."""
    names = dict.fromkeys(name for each in points for name in each.settings)
    found = [_axis(points, name) for name in names]
    return [axis for axis in found if len(axis.distinct) > 1]


def _axis(points: Sequence[Point], name: str) -> Axis:
    values = [value_of(each, name) for each in points]
    numeric = all(type(value) in (int, float) for value in values)
    return Axis(
        name, tuple(values if numeric else [format_value(value) for value in values]), numeric
    )


def value_of(point: Point, name: str) -> Any:
    """A point's value of a setting, its base's where the point does not change it."""
    if name in point.settings:
        return point.settings[name]
    if name == NODE:
        return (
            point.node if isinstance(point.node, str) else getattr(point.node, "__name__", "node")
        )
    if name == PRESET:
        return "base"
    if name.startswith(WEIGHT):
        weights = {term.name: float(term.weight) for term in point.config.objective}
        return weights.get(name.removeprefix(WEIGHT), 0.0)
    if name == "objective":
        return {term.name: float(term.weight) for term in point.config.objective}
    return _plain(getattr(point.config, name))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic) or (np.ndim(value) == 0 and hasattr(value, "item")):
        return value.item()
    if value is None:
        return NONE
    return getattr(value, "__name__", value) if callable(value) else value
