"""What is measured after each pass: held-out images, a line of metrics.jsonl, and what stops it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from mdm_jax.data.loader import Batch
from mdm_jax.errors import InputError
from mdm_jax.training.classification import mean_auc
from mdm_jax.training.config import TrainConfig
from mdm_jax.training.job import TrainingJob
from mdm_jax.training.prototypes.losses import MAP_TERMS
from mdm_jax.training.prototypes.optimizers import highest_rate
from mdm_jax.training.stages import LAST_LAYER, PRUNE, PUSH, Stage
from mdm_jax.training.steps import (
    Sums,
    TrainingProgram,
    TrainingState,
    learning_rate_schedule,
)


class Validation(NamedTuple):
    """Sums over held-out images."""

    sums: Sums
    auc: float | None
    """mean area under the ROC curve of images with any number of classes; None for images of one
    class each"""


def validate(
    compiled: TrainingProgram, state: TrainingState, batches: Iterable[Batch]
) -> Validation:
    """The network of a state on batches of held-out images, at least one."""
    totals, logits, labels = [], [], []
    for batch in batches:
        sums, outputs = compiled.measure(state, batch.images, batch.labels, batch.valid)
        totals.append(sums)
        # the area under a curve needs the answers of all images, not their sums
        if batch.labels.ndim == 2:
            logits.append(np.asarray(outputs)[batch.valid])
            labels.append(batch.labels[batch.valid])
    # sums stay on the device until all batches are queued
    total = totals[0]
    for each in totals[1:]:
        total += each
    auc = mean_auc(np.concatenate(logits), np.concatenate(labels)) if logits else None
    return Validation(total, auc)


def metrics_line(
    job: TrainingJob,
    stage: Stage,
    step: int,
    state: TrainingState,
    found: Validation,
) -> dict[str, Any]:
    """What the stage has learned after `step` steps, as a line of metrics.jsonl.

    A push and a pruning learn nothing, and so have no training loss. The terms of the loss of a
    prototype network are means over the images, without their weights."""
    config, sums = job.config, state.sums
    learns = stage.kind not in (PUSH, PRUNE)

    def train_mean(total: jax.Array, term: str = "") -> float | None:
        # the last layer's stage sees similarities and no maps
        absent = stage.kind == LAST_LAYER and term in MAP_TERMS
        return mean(total, sums.items) if learns and not absent else None

    line: dict[str, Any] = {"epoch": stage.passes_after(step)}
    if config.has_prototypes:
        line["stage"] = stage.kind
    line["step"] = step
    line["train_loss"] = train_mean(sums.loss)
    line["train_accuracy"] = train_mean(sums.hits)
    if config.has_prototypes:
        terms: dict[str, jax.Array] = sums.terms  # type: ignore[attr-defined]
        for name, total in terms.items():
            line[f"train_{name}"] = train_mean(total, name)
    line["eval_loss"] = mean(found.sums.loss, found.sums.items)
    line["eval_accuracy"] = mean(found.sums.hits, found.sums.items)
    if found.auc is not None:
        line["eval_auc"] = found.auc
    if config.has_prototypes:
        line["learning_rate"] = highest_rate(config.prototypes, stage, step - 1)
    else:
        rate = learning_rate_schedule(config.optimizer, job.steps)
        line["learning_rate"] = float(rate(step - 1))
    return line


def describe_line(job: TrainingJob, line: dict[str, Any]) -> str:
    """A line of metrics.jsonl as a sentence."""
    config = job.config
    stage = f"{line['stage']}, " if "stage" in line else ""
    auc = f", AUC {line['eval_auc']:.3f}" if "eval_auc" in line else ""
    learned = ""
    if line["train_loss"] is not None:
        learned = f"loss {line['train_loss']:.3f}, accuracy {line['train_accuracy']:.3f}; "
    return (
        f"{stage}epoch {line['epoch']}/{config.epochs}: {learned}{config.data.evaluate}"
        f" loss {line['eval_loss']:.3f}, accuracy {line['eval_accuracy']:.3f}{auc}"
    )


def check_any_read(sums: Any, split: str, skipped: Iterable[str]) -> None:
    """Raises InputError when no image of a pass could be read."""
    if not sums.items:
        first = next(iter(skipped), "")
        raise InputError(
            f"no image of the split {split} could be read: mend or replace them ({first})"
        )


def divergence_error(what: str, step: int, saved: int, config: TrainConfig) -> InputError:
    """The error of a loss or weight that is not finite; `saved` is the last checkpoint's step."""
    kept = (
        f"the checkpoint of step {saved} is kept" if saved else "there is no checkpoint yet"
    )
    gentler = "a lower optimizer.learning_rate or with optimizer.clip = 1.0"
    if config.has_prototypes:
        gentler = "lower rates in [prototypes], such as features_rate"
    return InputError(
        f"{what} became NaN or infinite at step {step}: begin again in another folder with"
        f" {gentler}; {kept}"
    )


def mean(total: jax.Array, count: jax.Array) -> float:
    """The mean of `count` items whose sum is `total`."""
    return float(total) / float(count)
