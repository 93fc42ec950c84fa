"""What `mdm sweep` is asked, as a TOML file says it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mdm_jax import metrics, nodes
from mdm_jax.config import MDMConfig, preset
from mdm_jax.errors import InputError, unknown
from mdm_jax.execution.keys import as_key
from mdm_jax.metrics import Metric
from mdm_jax.sweeps.points import WEIGHT, Point, point
from mdm_jax.sweeps.quality import check_quality
from mdm_jax.sweeps.search_space import grid, sample

TARGETS = ("prediction", "label")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A sweep: which network and images, which points, and what counts."""

    model: str | None = None
    """network by name; by its weights alone when not given; without either the embedded digits
    network"""
    weights: str | None = None
    """hub id, folder with config.json and model.safetensors, safetensors file, or folder of a
    training"""
    image_size: int | None = None
    """side of the network's input in pixels, in place of its config's"""
    dtype: str = "float32"
    """what the network computes in: float32 or bfloat16"""
    data: str = "digits"
    """source of the images, such as digits, folder:PATH or tfds:NAME"""
    split: str = "test"
    """split of the data"""
    limit: int | None = None
    """use only so many images, spread evenly over the data"""
    targets: str = "prediction"
    """which class is explained: prediction (what the network says) or label"""
    base: str = "fast"
    """preset that every point changes"""
    node: str = "probability"
    """what is explained"""
    metrics: tuple[str, ...] = ("insertion", "deletion", "energy")
    """names or ids of metrics"""
    quality: Mapping[str, float] = field(default_factory=dict)
    """weight of each metric in the quality, which ranks the points; by default 1 where higher is
    better, -1 where lower is"""
    axes: Mapping[str, Any] = field(default_factory=dict)
    """values of each setting: every combination is a point; with `count`, choices or { low, high,
    log } to draw from"""
    points: tuple[Mapping[str, Any], ...] = ()
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

    def check(self) -> tuple[list[Point], dict[str, Metric]]:
        """The points and the metrics. Raises InputError for what cannot be, before anything is
        loaded or computed."""
        for name in ("limit", "count", "micro_batch", "image_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give a whole number from 1")
        if not 0 < self.tune_on <= 1:
            raise InputError(
                f"tune_on is {self.tune_on}: give a share of the images above 0, up to 1"
            )
        if self.targets not in TARGETS:
            raise unknown("kind of targets", self.targets, TARGETS)
        as_key(self.seed)
        nodes.resolve(self.node)
        if not self.metrics:
            raise InputError("there are no metrics: give one or more, such as insertion deletion")
        asked = {metric.id: metric for metric in map(metrics.find, self.metrics)}
        if self.quality:
            check_quality(self.quality, asked)
        return [point(each, self.base_config(), self.node) for each in self.drawn()], asked

    def base_config(self) -> MDMConfig:
        return preset(self.base)

    def drawn(self) -> list[dict[str, Any]]:
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
        return grid(self.axes) if self.count is None else sample(self.axes, self.count, self.seed)


WRITTEN: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(
        ("model", "weights", "dtype", "data", "split", "targets", "base", "node", "out"),
        ((str,), "text in quotes"),
    ),
    **dict.fromkeys(
        ("image_size", "limit", "count", "seed", "micro_batch"), ((int,), "a whole number")
    ),
    "metrics": ((list,), 'a list of names such as ["insertion", "energy"]'),
    "quality": (
        (dict,),
        "a table of metrics and weights such as { insertion = 1.0, deletion = -1.0 }",
    ),
    "axes": ((dict,), "a table [axes] of settings and lists such as learning_rate = [0.1, 0.3]"),
    "points": ((list,), "tables [[points]] of settings such as learning_rate = 0.3"),
    "tune_on": ((int, float), "a number such as 0.5"),
}
"""how each setting is written: its types, and how to say so"""


def sweep_config(settings: Mapping[str, Any]) -> SweepConfig:
    """The sweep that settings describe.

    Raises InputError for a setting that does not exist, with the nearest one, or of another type.
    """
    assert set(WRITTEN) == {each.name for each in fields(SweepConfig)}
    for name, value in settings.items():
        if name not in WRITTEN:
            raise unknown("setting", name, WRITTEN)
        kinds, example = WRITTEN[name]
        if not _suits(name, value, kinds):
            raise InputError(f"the setting {name} is {value!r}: write {example}")
    share = float(settings.get("tune_on", SweepConfig.tune_on))
    named = {
        "metrics": tuple(settings.get("metrics", SweepConfig.metrics)),
        "points": tuple(settings.get("points", ())),
    }
    return SweepConfig(
        **(dict(settings) | named | {"axes": _dotted(settings.get("axes", {})), "tune_on": share})
    )


def _dotted(axes: Mapping[str, Any]) -> dict[str, Any]:
    """Axes by the names of settings: TOML reads an unquoted objective.area as a table in a
    table."""
    weights = axes.get("objective")
    if not isinstance(weights, Mapping):
        return dict(axes)
    flat = {WEIGHT + name: axis for name, axis in weights.items()}
    return {
        name: axis
        for each, axis in axes.items()
        for name, axis in (flat if each == "objective" else {each: axis}).items()
    }


def _suits(name: str, value: Any, kinds: tuple[type, ...]) -> bool:
    entries = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    if name == "metrics":
        return all(isinstance(each, str) for each in entries)
    if name == "points":
        return all(isinstance(each, dict) for each in entries)
    if name == "quality":
        return all(type(each) in (int, float) and math.isfinite(each) for each in entries)
    return True
