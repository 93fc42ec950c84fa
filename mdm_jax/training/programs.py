"""The compiled steps of a training: which program a job takes, and sums of one pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mdm_jax.training.job import TrainingJob
from mdm_jax.training.prototypes.steps import prototype_program
from mdm_jax.training.stages import PLAIN, Stage
from mdm_jax.training.steps import TrainingProgram, TrainingState, classifier_program


def reset_sums_each_pass(
    stage: Stage, step: int, compiled: TrainingProgram
) -> Callable[..., Any]:
    """The steps of a stage from number `step` on, their sums set to zero as each pass begins."""
    numbers, act = itertools.count(step), compiled.stages[stage.kind]
    if stage.kind == PLAIN:  # its compiled step does it
        return act

    def begin_pass_and_act(state: TrainingState, *given: Any) -> Any:
        if (next(numbers) - stage.start) % stage.period == 0:
            state = state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums))
        return act(state, *given)

    return begin_pass_and_act


def build_program(job: TrainingJob, module: Any) -> TrainingProgram:
    """The compiled steps of a training, of a plain classifier or of a prototype network."""
    if job.config.has_prototypes:
        return prototype_program(job.config, module, job.steps_per_epoch)
    return classifier_program(job.config, module, job.steps, job.steps_per_epoch)
