"""What a benchmark is asked: methods, metrics, images and how they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mdm_jax import methods, metrics
from mdm_jax.errors import InputError, unknown
from mdm_jax.execution.keys import as_key
from mdm_jax.methods import Chosen
from mdm_jax.metrics import Metric

TARGETS = ("prediction", "label")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a benchmark compares, and how."""

    methods: tuple[str, ...]
    """such as "mdm" or "rise:samples=1000" """
    metrics: tuple[str, ...]
    """ids or names"""
    out: Path
    limit: int | None = None
    """images, spread evenly over the source; all when None"""
    targets: str = "prediction"
    """which class is explained: "prediction", what the network says, or "label", the true class
    (what the pointing game and MaxBoxAcc call ground-truth-known); images whose class the network
    does not have are then left out"""
    only_correct: bool = False
    """use only images that the network classifies correctly"""
    seed: int = 0
    micro_batch: int | None = None
    """images explained at a time; found from the memory when None"""
    metric_micro_batch: int | None = None
    """images measured at a time"""
    chunk: int = 50
    """images in a file, and so what is lost when a run is killed"""

    def check(self) -> tuple[tuple[Chosen, ...], dict[str, Metric]]:
        """The methods and metrics. Raises InputError for an unknown name or a number out of
        range."""
        if self.targets not in TARGETS:
            raise unknown("kind of targets", self.targets, TARGETS)
        for name in ("limit", "micro_batch", "metric_micro_batch", "chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give a whole number from 1")
        as_key(self.seed)
        chosen = tuple(methods.choose(text) for text in dict.fromkeys(self.methods))
        if not chosen:
            raise InputError("no methods: give one or more, such as mdm gradient")
        if not self.metrics:
            raise InputError("no metrics: give one or more, such as insertion deletion")
        return chosen, {metric.id: metric for metric in map(metrics.find, self.metrics)}
