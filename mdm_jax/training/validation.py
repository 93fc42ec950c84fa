"""What is measured after each pass: the held-out images, and a line of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from mdm_jax.data.loader import Batch
from mdm_jax.training.classification import mean_auc
from mdm_jax.training.job import TrainingJob
from mdm_jax.training.prototypes.losses import MAP_TERMS
from mdm_jax.training.prototypes.steps import highest_rate
from mdm_jax.training.stages import LAST_LAYER, PRUNE, PUSH, Stage
from mdm_jax.training.steps import Sums, TrainingProgram, TrainingState, learning_rate_schedule


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
    totals, answers = [], []
    for batch in batches:
        sums, logits = compiled.measure(state, batch.images, batch.labels, batch.valid)
        totals.append(sums)
        if batch.labels.ndim == 2:
            answers.append((np.asarray(logits)[batch.valid], batch.labels[batch.valid]))
    total = totals[0]
    for each in totals[1:]:
        total += each
    return Validation(total, mean_auc(*map(np.concatenate, zip(*answers))) if answers else None)


def metrics_line(
    job: TrainingJob, stage: Stage, step: int, state: TrainingState, found: Validation
) -> dict[str, Any]:
    """What the stage has learned after `step` steps; a push and a pruning learn nothing, and so
    have no training loss.

    The terms of the loss of a prototype network are means over the images, before they are weighed.
    """
    config, learned = job.config, stage.kind not in (PUSH, PRUNE)
    sums: Any = state.sums

    def train(total: jax.Array, name: str = "") -> float | None:
        absent = stage.kind == LAST_LAYER and name in MAP_TERMS
        return mean(total, sums.items) if learned and not absent else None

    plain = not config.has_prototypes
    rate = (
        float(learning_rate_schedule(config.optimizer, job.steps)(step - 1))
        if plain
        else highest_rate(config.prototypes, stage, step - 1)
    )
    return (
        {"epoch": stage.passes_after(step)}
        | ({} if plain else {"stage": stage.kind})
        | {"step": step, "train_loss": train(sums.loss), "train_accuracy": train(sums.hits)}
        | (
            {}
            if plain
            else {f"train_{name}": train(total, name) for name, total in sums.terms.items()}
        )
        | {
            "eval_loss": mean(found.sums.loss, found.sums.items),
            "eval_accuracy": mean(found.sums.hits, found.sums.items),
        }
        | ({} if found.auc is None else {"eval_auc": found.auc})
        | {"learning_rate": rate}
    )


def describe_line(job: TrainingJob, line: dict[str, Any]) -> str:
    """A line as a person reads it."""
    stage = f"{line['stage']}, " if "stage" in line else ""
    auc = f", AUC {line['eval_auc']:.3f}" if "eval_auc" in line else ""
    learned = ""
    if line["train_loss"] is not None:
        learned = f"loss {line['train_loss']:.3f}, accuracy {line['train_accuracy']:.3f}; "
    return (
        f"{stage}epoch {line['epoch']}/{job.config.epochs}: {learned}{job.config.data.evaluate}"
        f" loss {line['eval_loss']:.3f}, accuracy {line['eval_accuracy']:.3f}{auc}"
    )


def mean(total: jax.Array, count: jax.Array) -> float:
    """A sum over so many items as their mean."""
    return float(total) / float(count)
