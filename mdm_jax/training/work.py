"""What a stage of a training does at each of its steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mdm_jax.training.stages import PLAIN, Stage
from mdm_jax.training.steps import TrainingProgram, TrainingState


class Work(NamedTuple):
    """What a stage does at each of its steps."""

    fetch: Callable[[], tuple[Any, ...]]
    """what a step takes beside the state; may be interrupted"""
    act: Callable[..., tuple[TrainingState, jax.Array | None]]
    """(state, *what was fetched) -> (state, loss); the state that goes in is consumed"""
    images: int
    """that a step takes"""


def counted(stage: Stage, step: int, compiled: TrainingProgram) -> Callable[..., Any]:
    """The steps of a stage from number `step` on, which count their items from zero at the
    beginning of each pass."""
    numbers, act = itertools.count(step), compiled.stages[stage.kind]
    if stage.kind == PLAIN:  # counts by itself
        return act

    def begun(state: TrainingState, *given: Any) -> Any:
        if (next(numbers) - stage.start) % stage.period == 0:
            state = state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums))
        return act(state, *given)

    return begun
