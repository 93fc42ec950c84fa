"""What `mdm sweep` is asked, as a TOML file says it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mdm_jax import nodes
from mdm_jax.config import MDMConfig, preset
from mdm_jax.config_files import as_lists, check_choices, in_file
from mdm_jax.data.spec import DataSpec
from mdm_jax.errors import InputError
from mdm_jax.execution.keys import as_key
from mdm_jax.metrics import Metric, find_all
from mdm_jax.models.spec import ModelSpec
from mdm_jax.sweeps.points import WEIGHT, Point, point
from mdm_jax.sweeps.quality import check_quality
from mdm_jax.sweeps.search_space import grid, sample


def _axes(value: Mapping[str, Any]) -> dict[str, Any]:
    """Axes by the names of settings: TOML reads an unquoted objective.area as a table in a
    table."""
    axes: dict[str, Any] = {}
    for name, axis in as_lists(value).items():
        if name == "objective" and isinstance(axis, Mapping):
            axes |= {WEIGHT + term: values for term, values in axis.items()}
        else:
            axes[name] = axis
    return axes


def _points(value: tuple[Mapping[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    return tuple(as_lists(value))


def _quality(value: Mapping[str, float]) -> Mapping[str, float]:
    if not all(math.isfinite(weight) for weight in value.values()):
        raise ValueError
    return value


METRICS_IN_FILE = in_file(
    tuple[str, ...], 'a list of names such as ["insertion", "energy"]'
)
QUALITY_IN_FILE = in_file(
    dict[str, float],
    "a table of metrics and weights such as { insertion = 1.0, deletion = -1.0 }",
    _quality,
)
AXES_IN_FILE = in_file(
    dict[str, Any],
    "a table [axes] of settings and lists such as learning_rate = [0.1, 0.3]",
    _axes,
)
POINTS_IN_FILE = in_file(
    tuple[dict[str, Any], ...],
    "tables [[points]] of settings such as learning_rate = 0.3",
    _points,
)


@dataclass(frozen=True, kw_only=True)
class SweepConfig(ModelSpec, DataSpec):
    """A sweep: which network and images, which points, and what counts."""

    targets: Literal["prediction", "label"] = "prediction"
    """which class is explained: what the network predicts, or the label"""
    base: str = "fast"
    """preset that every point changes"""
    node: str = "probability"
    """what is explained"""
    metrics: tuple[str, ...] = field(
        default=("insertion", "deletion", "energy"), metadata=METRICS_IN_FILE
    )
    """names or ids of metrics"""
    quality: Mapping[str, float] = field(default_factory=dict, metadata=QUALITY_IN_FILE)
    """weight of each metric in the quality, which ranks the points; by default 1 where higher is
    better, -1 where lower is"""
    axes: Mapping[str, Any] = field(default_factory=dict, metadata=AXES_IN_FILE)
    """values of each setting: every combination is a point; with `count`, choices or { low, high,
    log } to draw from"""
    points: tuple[Mapping[str, Any], ...] = field(default=(), metadata=POINTS_IN_FILE)
    """the points themselves, in place of axes"""
    count: int | None = None
    """points to draw at random from the axes, in place of every combination"""
    tune_on: float = 1.0
    """share of the images that chooses the winner, which is then reported on the others; 1 chooses
    and reports on all"""
    seed: int = 0
    """seed of everything random"""
    micro_batch: int | None = None
    """pairs of a point and an image solved at a time"""
    out: str = "mdm-sweep"
    """folder of the points, the tables and the figures"""

    def check(self) -> None:
        """Raises InputError for a value out of range."""
        check_choices(self)
        for name in ("limit", "count", "micro_batch", "image_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give a whole number from 1")
        if not 0 < self.tune_on <= 1:
            raise InputError(
                f"tune_on is {self.tune_on}: give a share of the images above 0, up to 1"
            )
        as_key(self.seed)
        find_all(self.metrics)

    def resolve(self) -> tuple[list[Point], dict[str, Metric]]:
        """The points and the metrics. Raises InputError for what cannot be, before anything is
        loaded or computed."""
        self.check()
        nodes.resolve(self.node)
        chosen = find_all(self.metrics)
        if self.quality:
            check_quality(self.quality, chosen)
        return [point(each, self.base_config(), self.node) for each in self.draw()], chosen

    def base_config(self) -> MDMConfig:
        return preset(self.base)

    def draw(self) -> list[dict[str, Any]]:
        """The settings of the points. Raises InputError for axes that cannot be, and for both axes
        and points, or neither."""
        if bool(self.axes) == bool(self.points):
            raise InputError(
                "give either a table [axes] with the values of settings, or [[points]] one by one"
            )
        if self.points:
            if self.count is not None:
                raise InputError(
                    "count draws from axes, and here are points: leave one of them out"
                )
            return [dict(each) for each in self.points]
        return (
            grid(self.axes)
            if self.count is None
            else sample(self.axes, self.count, self.seed)
        )
