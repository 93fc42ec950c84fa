"""The settings of a benchmark: networks, methods, metrics, images and how they are used."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from mdm_jax import methods
from mdm_jax.config_files import check_choices, in_file
from mdm_jax.data.spec import DataSpec
from mdm_jax.errors import InputError
from mdm_jax.execution.keys import as_key
from mdm_jax.methods import ConfiguredMethod, MethodLike
from mdm_jax.metrics import Metric, find_all

Targets = Literal["prediction", "label"]
TARGETS = get_args(Targets)
DEFAULT_METRICS = (
    "insertion",
    "deletion",
    "road",
    "average_drop",
    "increase",
    "energy",
    "pointing",
)
# Settings that count something, from 1.
COUNTS = (
    "limit",
    "image_size",
    "costly_limit",
    "micro_batch",
    "metric_micro_batch",
    "chunk",
)
METHODS_IN_FILE = in_file(
    tuple[str, ...], 'a list such as ["mdm", "rise:num_samples=1000"]'
)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(DataSpec):
    """Which methods are compared, on which networks and images, and how."""

    models: tuple[str, ...] = ("resnet",)
    """networks: NAME, NAME=WEIGHTS, or LABEL=WEIGHTS where a config.json beside the weights tells
    the network"""
    image_size: int | None = None
    """side of the networks' input in pixels, in place of their configs'"""
    methods: tuple[MethodLike, ...] = field(
        default=("mdm", "gradient"), metadata=METHODS_IN_FILE
    )
    """what is compared, with settings where they differ from the defaults, such as mdm
    mdm:preset=paper rise:num_samples=1000; a function of yours as my_methods.py:inverse"""
    metrics: tuple[str, ...] = DEFAULT_METRICS
    """names, ids such as insertion:rise-224, or functions of yours, such as
    my_metrics.py:compactness"""
    reference: str | None = None
    """the method that others are compared with, as written among the methods; the first mdm when
    not given"""
    targets: Targets = "prediction"
    """which class is explained: what the network predicts, or the label, the true class (what the
    pointing game and MaxBoxAcc call ground-truth-known); images whose class the network does not
    have are then left out"""
    only_correct: bool = False
    """use only images that the network classifies correctly"""
    budget: float | None = None
    """minutes in which it is to end: a pilot measures what each method and metric takes, and as
    many images are used as fit; more minutes go on from what is stored"""
    costly_limit: int | None = None
    """methods that cost over 100 evaluations are worked out on the first so many of the images
    only"""
    seed: int = 0
    """seed of everything random"""
    micro_batch: int | None = None
    """images explained at a time; found from the memory when not given"""
    metric_micro_batch: int | None = None
    """images measured at a time"""
    chunk: int = 50
    """images in a file: what is lost at most when the benchmark is killed"""
    grid: int = 8
    """images in the grid of maps"""
    worst: str | None = None
    """a metric, such as energy: a second grid (worst.png) of the images on which the reference
    method scores worst"""
    out: Path = Path("mdm-benchmark")
    """folder of the maps, the scores, the tables and the figures"""

    def check(self) -> None:
        """Raises InputError for a number out of range."""
        check_choices(self)
        for name in COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give a whole number from 1")
        if self.budget is not None and not 0 < self.budget < math.inf:
            raise InputError(f"budget is {self.budget}: give minutes, more than 0")
        as_key(self.seed)
        if not self.methods:
            raise InputError("no methods: give one or more, such as mdm gradient")
        find_all(self.metrics)

    @property
    def nested(self) -> bool:
        """Whether the images are ordered so that fewer are among more, see `nested_order`."""
        return self.budget is not None or self.costly_limit is not None

    def resolve(self) -> tuple[tuple[ConfiguredMethod, ...], dict[str, Metric]]:
        """The methods, and the metrics by id. Raises InputError for an unknown name or a setting
        that cannot be."""
        self.check()
        chosen: dict[str, ConfiguredMethod] = {}
        for each in self.methods:
            method = methods.configure(each).with_default_config()
            chosen.setdefault(method.label, method)
        return tuple(chosen.values()), find_all(self.metrics)
