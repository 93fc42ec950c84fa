"""Every choice of the method in one place: the config, its presets, and settings from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
import optax

from mdm_jax import fills, objectives
from mdm_jax.config_files import check_choices, in_file
from mdm_jax.errors import InputError, unknown
from mdm_jax.objectives import Term
from mdm_jax.types import STATIC, is_concrete_number

MAX_STEPS = 1_000_000
SHARES = ("coarse_to_fine", "area_budget", "kept_share")


# Names beside those of optax itself; `schedule_free` answers with the point at which it takes
# gradients, not their average.
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "momentum": partial(optax.sgd, momentum=0.9),
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
    "schedule_free": optax.contrib.schedule_free_adamw,
}


def optimizer(name: str) -> Callable[..., optax.GradientTransformation]:
    """An optimizer by name. Raises ValueError for another."""
    build = OPTIMIZERS.get(name) or getattr(optax, name, None)
    try:
        is_optimizer = build is not None and isinstance(
            build(0.1), optax.GradientTransformation
        )
    except Exception as error:  # optax holds much else
        raise ValueError from error
    if build is None or not is_optimizer:
        raise ValueError
    return build


def _read_fill(value: Any) -> Any:
    """Names stay, numbers are a color."""
    if not isinstance(value, tuple):
        return value
    if value and all(map(fills.is_name, value)):
        return value
    return np.asarray(value, np.float32)


FRACTION_OF_STEPS = in_file(float | None, "a share of the steps")
SHARE_OF_ACTIVATION = in_file(float, "a share of the activation")
FRACTION_OF_IMAGE = in_file(float | None, "a share of the image")
FILLS_IN_FILE = in_file(
    str | float | tuple[str, ...] | tuple[float, ...],
    'a name, several such as ["blur", "mean"], a number, or a color such as [0.5, 0.5, 0.5]',
    _read_fill,
)
OBJECTIVE_IN_FILE = in_file(
    dict[str, float],
    "a table of names and weights such as { lost_share = 1.0, area = 30.0 }",
    objectives.from_mapping,
)
OPTIMIZER_IN_FILE = in_file(
    str, "a name of optax such as adam, or momentum, nesterov or schedule_free", optimizer
)
SIZES_IN_FILE = in_file(
    tuple[int | tuple[int, int], ...] | None, "a list such as [4, 8, [8, 6]]"
)
WEIGHTS_IN_FILE = in_file(float | tuple[float, ...] | None, "a list of numbers, or one")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MDMConfig:
    """Every choice of the method. Numbers marked (leaf) may be arrays and be swept by `vmap`; the
    rest is structure."""

    sizes: int | tuple[int | tuple[int, int], ...] | None = field(
        default=None, metadata=STATIC | SIZES_IN_FILE
    )
    """mask sizes, integers or (height, width); None chooses by the image size"""
    schedule: Literal["sequence", "joint", "independent"] = field(
        default="sequence", metadata=STATIC
    )
    """sequence: one size after another, coarse ones first, each the smallest mask that keeps
    `kept_share` of the activation (see `size_sequence`); joint: one masked image, seen through the
    stacked mask; independent: one masked image per size"""
    map: Literal["evidence", "mask"] | None = field(default=None, metadata=STATIC)
    """the saliency map: mask (the stacked mask) or evidence (mask and evidence together, calibrated
    by forward evaluations, see `evidence`; only with the schedule sequence); None: evidence where
    the schedule gathers it"""
    kept_share: Any = field(default=0.95, metadata=SHARE_OF_ACTIVATION)
    """share of the activation that each size keeps in the schedule sequence (leaf)"""
    weight_rate: Any = 2.0
    """how fast the weight of the area follows the share that is kept, in the schedule sequence; 0
    leaves it at 1, where both have the same root mean square (leaf)"""
    rate_power: Any = 0.3
    """the learning rate of a size of n cells a side is (coarsest n / n)^rate_power of the first
    one's, in the schedule sequence (leaf)"""
    parametrization: Literal["box", "sigmoid"] = field(default="box", metadata=STATIC)
    """how mask values stay in [0, 1]: sigmoid, or box (projected after every step)"""
    start: Any = field(default=0.7, metadata=in_file(str | float, "a name or a number"))
    """first mask: "ones", "half", "random", a number, a map [h, w] in [0, 1] (leaf), or the name of
    a baseline"""
    coarse_to_fine: Any = field(default=None, metadata=FRACTION_OF_STEPS)
    """share of the steps over which the finer sizes join, one after the other, in the schedules
    joint and independent; None lets all learn from the start (leaf)"""
    area_budget: Any = field(default=None, metadata=FRACTION_OF_IMAGE)
    """the area that may be kept at the end, a share of the image: the bound falls to it step by
    step; None sets none (leaf)"""
    fill: Any = field(default=("blur", "mean"), metadata=FILLS_IN_FILE)
    """what replaces masked pixels: a name, a color or image, or a function (image, *, key) ->
    image; several, in a tuple, take turns from step to step (leaf)"""
    redraw_fill: bool = field(default=False, metadata=STATIC)
    """draw the fill anew at every step (for random fills), not once per image"""
    objective: tuple[Term, ...] = field(
        default=(objectives.high_activation(), objectives.area(30.0)),
        metadata=OBJECTIVE_IN_FILE,
    )
    """weighted terms (leaves: the weights); in the schedule sequence only the proportions count,
    among those that look at the masked image and among those that look at the mask"""
    stack_weights: Any = field(default=None, metadata=WEIGHTS_IN_FILE)
    """weight of each size in the stacked mask, or one number p: cells a side to the power of p;
    None: all equal (leaf)"""
    jitter: int = field(
        default=0, metadata=STATIC | in_file(int, "a whole number of pixels")
    )
    """the masked image is shifted by up to so many pixels each way, anew at every step, before the
    network sees it"""
    smoothing: Any = field(
        default=None, metadata=in_file(float | None, "a number of pixels")
    )
    """standard deviation in pixels of the Gaussian that smooths the saliency map at the end; None
    leaves it as it is (leaf)"""
    optimizer: Any = field(
        default=OPTIMIZERS["momentum"], metadata=STATIC | OPTIMIZER_IN_FILE
    )
    """an optax.GradientTransformation, or a function learning_rate -> GradientTransformation"""
    learning_rate: Any = 0.04
    """learning rate; in the schedule sequence of gradients with a root mean square of 1 (leaf)"""
    steps: int = field(default=14, metadata=STATIC)
    """optimizer steps, divided among the sizes in the schedule sequence; with `until_converged`, at
    most so many"""
    until_converged: bool = field(default=False, metadata=STATIC)
    """stop an image once its objective no longer improves, but not before all sizes have joined
    (`coarse_to_fine`)"""
    tolerance: Any = 1e-3
    """an improvement counts when it exceeds this share of the objective at the start (leaf)"""
    patience: int = field(default=5, metadata=STATIC)
    """steps without an improvement that count as convergence"""

    @property
    def shows_evidence(self) -> bool:
        """Whether the saliency map is of mask and evidence, not of the mask alone."""
        return shows_evidence(self.schedule, self.map)

    def check(self) -> None:
        """Raises InputError for the first value that cannot be; values under a JAX trace are not
        looked at."""
        check_choices(self)
        objectives.check(self.objective)
        if not (1 <= self.steps <= MAX_STEPS and 1 <= self.patience <= MAX_STEPS):
            raise InputError(
                f"steps is {self.steps} and patience {self.patience}: give whole numbers from 1 to"
                f" {MAX_STEPS}"
            )
        if not 0 <= self.jitter <= MAX_STEPS:
            raise InputError(
                f"jitter is {self.jitter}: give a whole number of pixels from 0"
            )
        for name in (
            "learning_rate",
            "tolerance",
            "stack_weights",
            "start",
            "fill",
            *SHARES,
            "smoothing",
            "weight_rate",
            "rate_power",
        ):
            value = getattr(self, name)
            if (
                value is None
                or isinstance(value, str)
                or not all(map(is_concrete_number, jax.tree.leaves(value)))
            ):
                continue
            if not all(
                np.all(np.isfinite(leaf)) and np.all(np.asarray(leaf) >= 0)
                for leaf in jax.tree.leaves(value)
            ):
                raise InputError(
                    f"{name} is {value}: give finite numbers that are not negative"
                )
            if name in SHARES and np.any(np.asarray(value) > 1):
                raise InputError(f"{name} is {value}: give a share, from 0 to 1")
        self._check_schedule()
        harder = self.area_budget is not None or any(
            each.function is objectives.late_area for each in self.objective
        )
        if self.until_converged and harder:
            raise InputError(
                "until_converged ends at the lowest objective that was met, an early one where"
                " area_budget or late_area ask for more from step to step: leave one of the two out"
            )
        for each in self.fill if isinstance(self.fill, tuple) else (self.fill,):
            if isinstance(each, str):
                fills.resolve(each)
        weights = self.stack_weights
        if (
            all(map(is_concrete_number, jax.tree.leaves(weights)))
            and np.ndim(weights)
            and not np.sum(weights) > 0
        ):
            raise InputError(
                f"stack_weights is {weights}: at least one weight must be above zero"
            )

    def _check_schedule(self) -> None:
        if self.schedule != "sequence":
            if self.map == "evidence":
                raise InputError(
                    "the map evidence needs the schedule sequence, and schedule is"
                    f" {self.schedule}: choose the map mask"
                )
            return
        for name in ("coarse_to_fine", "area_budget"):
            if getattr(self, name) is not None:
                raise InputError(
                    f"{name} is for the schedules joint and independent: leave it out, or choose"
                    " another schedule"
                )
        if self.until_converged:
            raise InputError(
                "until_converged is for the schedules joint and independent, as the schedule"
                " sequence divides its steps among the sizes: leave one of the two out"
            )
        if _needs_more_than_gradients(self.optimizer):
            raise InputError(
                "the schedule sequence takes no optimizer that evaluates by itself or averages:"
                " choose momentum, adam or another one"
            )


def shows_evidence(schedule: str, map_: str | None) -> bool:
    """Whether these two settings give a map of mask and evidence; also of recorded settings, which
    have no map where they are from before there was one."""
    return map_ == "evidence" or (map_ is None and schedule == "sequence")


def _needs_more_than_gradients(optimizer: Any) -> bool:
    """Whether an optimizer asks for the objective itself, or answers with an average."""
    if not isinstance(optimizer, optax.GradientTransformation):
        optimizer = optimizer(0.1)

    def update(vectors: tuple[jax.Array]) -> Any:
        return optimizer.update(vectors, optimizer.init(vectors), vectors)

    def is_average(state: Any) -> bool:
        return isinstance(state, optax.contrib.ScheduleFreeState)

    vectors = (jax.ShapeDtypeStruct((1, 1), np.float32),)
    try:
        _, state = jax.eval_shape(update, vectors)
    except TypeError:  # an argument is missing
        return True
    return any(map(is_average, jax.tree.leaves(state, is_leaf=is_average)))


PresetName = Literal["fast", "best", "paper", "fast-2026-11", "best-2026-11"]

# What `fast` was until November 2026: the stacked mask of all sizes at once, under one weight of
# the area for all images.
_JOINT = MDMConfig(
    schedule="joint",
    parametrization="sigmoid",
    start=0.9,
    coarse_to_fine=0.5,
    fill="blur",
    objective=(objectives.consistency("lost_share"), objectives.area(30.0)),
    optimizer=optax.adam,
    learning_rate=1.0,
    steps=15,
)

# `fast`: at most 20 evaluations, where those without a gradient count a third. `best`: four times
# the steps, for a sparser map. `paper`: the closest reading of what is known of the paper.
PRESETS: dict[str, MDMConfig] = {
    "fast": MDMConfig(),
    "best": MDMConfig(steps=60),
    "paper": replace(
        _JOINT,
        schedule="independent",
        parametrization="box",
        start="ones",
        coarse_to_fine=None,
        fill="mean",
        objective=(objectives.consistency("squared"), objectives.area(1.0)),
        learning_rate=0.1,
        steps=100,
    ),
    "fast-2026-11": _JOINT,
    "best-2026-11": replace(
        _JOINT, steps=150, learning_rate=0.3, fill=("blur", "mean", "noise")
    ),
}


def preset(name: str) -> MDMConfig:
    """The preset of that name. Raises InputError for another."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
