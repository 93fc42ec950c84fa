"""Points from axes: every combination, or draws at random.

scikit-learn's ParameterGrid and ParameterSampler are not used: both go through the axes in the
order of their names, and the sampler takes lists without replacement and draws other numbers from
a seed. The points of a stored sweep are found by their settings, so that the same axes and seed
have to give the same points, and more draws the same ones first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mdm_jax.config import MDMConfig
from mdm_jax.config_files import schema
from mdm_jax.errors import InputError, unknown

# Of one sweep.
MAX_POINTS = 100_000

# Significant digits of a number that is drawn: settings that a person can read.
DIGITS = 4
RANGE_KEYS = ("low", "high", "log")

# Draws a value of one axis.
Draw = Callable[[np.random.Generator], Any]


def grid(axes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the axes' values, the last axis varying fastest.

    `axes` maps the name of a setting (as in `points`) to the list of its values. Raises InputError
    for an axis that is empty or no list, and for more than `MAX_POINTS` points.
    """
    _check_axes(axes)
    values = [_check_choices(name, axis) for name, axis in axes.items()]
    _check_count(math.prod(map(len, values)))
    return [dict(zip(axes, combination)) for combination in itertools.product(*values)]


def sample(axes: Mapping[str, Any], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """`count` points drawn at random; of a larger count the first points are the same.

    An axis is a list of choices, drawn evenly, or `{"low": .., "high": .., "log": true}` for a
    number, drawn uniformly or, with `log`, uniformly in its logarithm, and rounded to `DIGITS`
    significant digits; a setting that is a whole number stays one. Raises InputError for a count
    below 1, an axis that is neither, or a range that cannot be.
    """
    _check_axes(axes)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"count is {count!r}: give a whole number of points from 1")
    _check_count(count)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"the seed is {seed!r}: give a whole number from 0")
    draws = {name: _make_draw(name, axis) for name, axis in axes.items()}
    rng = np.random.default_rng(seed)
    # point by point, so that a larger count does not change the first ones
    return [{name: draw(rng) for name, draw in draws.items()} for _ in range(count)]


def _check_axes(axes: Mapping[str, Any]) -> None:
    if not isinstance(axes, Mapping) or not axes:
        raise InputError(
            "there are no axes: give the settings to sweep, such as learning_rate = [0.1, 0.3]"
        )


def _check_count(count: int) -> None:
    if count > MAX_POINTS:
        raise InputError(
            f"these axes make {count} points: give fewer values,"
            f" or draw at most {MAX_POINTS} at random (count)"
        )


def _check_choices(name: str, axis: Any) -> Sequence[Any]:
    if isinstance(axis, Mapping):
        raise InputError(
            f"the axis {name} is a range, which has no values for a grid:"
            " give a list, or draw points (count)"
        )
    if isinstance(axis, np.ndarray):
        axis = axis.tolist()
    if not isinstance(axis, list | tuple | range) or not len(axis):
        raise InputError(
            f"the axis {name} is {axis!r}: give a list with one or more values, such as [0.1, 0.3]"
        )
    return axis


def _make_draw(name: str, axis: Any) -> Draw:
    if isinstance(axis, Mapping):
        return _draw_from_range(name, axis)
    values = _check_choices(name, axis)
    return lambda rng: values[int(rng.integers(len(values)))]


def _draw_from_range(name: str, axis: Mapping[str, Any]) -> Draw:
    low, high, log = _check_range(name, axis)
    settings = schema(MDMConfig)
    is_whole = name in settings and settings[name].type is int

    def draw(rng: np.random.Generator) -> int | float:
        if log:
            value = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            value = rng.uniform(low, high)
        # rounding may leave the range, so it is clipped afterwards
        if is_whole:
            return int(np.clip(round(value), math.ceil(low), math.floor(high)))
        return float(np.clip(float(f"{value:.{DIGITS}g}"), low, high))

    return draw


def _check_range(
    name: str, axis: Mapping[str, Any]
) -> tuple[int | float, int | float, bool]:
    for key in axis:
        if key not in RANGE_KEYS:
            raise unknown(f"key of the axis {name}", key, RANGE_KEYS)
    low: Any = axis.get("low")
    high: Any = axis.get("high")
    log = axis.get("log", False)
    if not _is_number(low) or not _is_number(high):
        raise InputError(
            f"the axis {name} is {dict(axis)!r}:"
            " give its numbers low and high, or a list of choices"
        )
    if not isinstance(log, bool) or low > high or (log and low <= 0):
        raise InputError(
            f"the axis {name} goes from {low} to {high} with log {log!r}: low may not exceed high,"
            " log is true or false, and a logarithm needs low above 0"
        )
    return low, high, log


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )
