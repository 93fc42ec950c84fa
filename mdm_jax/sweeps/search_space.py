"""Points from axes: every combination, or draws at random."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mdm_jax.config import MDMConfig
from mdm_jax.config_files import schema
from mdm_jax.errors import InputError, unknown

LARGEST = 100_000
"""points of one sweep"""
DIGITS = 4
"""significant digits of a number that is drawn: settings that a person can read"""
RANGE = ("low", "high", "log")


def grid(axes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the axes' values, the last axis varying fastest.

    `axes` maps the name of a setting (as in `points`) to the list of its values. Raises InputError
    for an axis that is empty or no list, and for more than `LARGEST` points."""
    _named(axes)
    values = [_choices(name, axis) for name, axis in axes.items()]
    _countable(math.prod(map(len, values)))
    return [dict(zip(axes, each)) for each in itertools.product(*values)]


def sample(axes: Mapping[str, Any], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """`count` points drawn at random; of a larger count the first points are the same.

    An axis is a list of choices, drawn evenly, or `{"low": .., "high": .., "log": true}` for a
    number, drawn uniformly or, with `log`, uniformly in its logarithm, and rounded to `DIGITS`
    significant digits; a setting that is a whole number stays one. Raises InputError for a count
    below 1, an axis that is neither, or a range that cannot be."""
    _named(axes)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"count is {count!r}: give a whole number of points from 1")
    _countable(count)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"the seed is {seed!r}: give a whole number from 0")
    draws = {name: _draw(name, axis) for name, axis in axes.items()}
    rng = np.random.default_rng(seed)
    return [{name: draw(rng) for name, draw in draws.items()} for _ in range(count)]


def _named(axes: Mapping[str, Any]) -> None:
    if not isinstance(axes, Mapping) or not axes:
        raise InputError(
            "there are no axes: give the settings to sweep, such as learning_rate = [0.1, 0.3]"
        )


def _countable(count: int) -> None:
    if count > LARGEST:
        raise InputError(
            f"these axes make {count} points: give fewer values, or draw at most {LARGEST} at"
            " random (count)"
        )


def _choices(name: str, axis: Any) -> Sequence[Any]:
    if isinstance(axis, Mapping):
        raise InputError(
            f"the axis {name} is a range, which has no values for a grid: give a list, or draw"
            " points (count)"
        )
    if isinstance(axis, np.ndarray):
        axis = axis.tolist()
    if not isinstance(axis, list | tuple | range) or not len(axis):
        raise InputError(
            f"the axis {name} is {axis!r}: give a list with one or more values, such as [0.1, 0.3]"
        )
    return axis


def _draw(name: str, axis: Any) -> Callable[[np.random.Generator], Any]:
    if not isinstance(axis, Mapping):
        values = _choices(name, axis)
        return lambda rng: values[int(rng.integers(len(values)))]
    for key in axis:
        if key not in RANGE:
            raise unknown(f"key of the axis {name}", key, RANGE)
    low, high, log = axis.get("low", math.nan), axis.get("high", math.nan), axis.get("log", False)
    if not all(
        isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end)
        for end in (low, high)
    ):
        raise InputError(
            f"the axis {name} is {dict(axis)!r}: give its numbers low and high, or a list of"
            " choices"
        )
    if not isinstance(log, bool) or low > high or (log and low <= 0):
        raise InputError(
            f"the axis {name} goes from {low} to {high} with log {log!r}: low may not exceed high,"
            " log is true or false, and a logarithm needs low above 0"
        )
    settings = schema(MDMConfig)
    whole = name in settings and settings[name].type is int

    def draw(rng: np.random.Generator) -> int | float:
        value = (
            math.exp(rng.uniform(math.log(low), math.log(high))) if log else rng.uniform(low, high)
        )
        if whole:
            return int(np.clip(round(value), math.ceil(low), math.floor(high)))
        return float(np.clip(float(f"{value:.{DIGITS}g}"), low, high))

    return draw
