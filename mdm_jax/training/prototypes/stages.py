"""The stages of a prototype network that take no batch of images: push, last layer, pruning.

Each begins with one pass over the training images as they are (not augmented), and is a pure
function of the weights that it begins with; so a training that is killed there does the stage again
and comes to the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float32

from mdm_jax.data.loader import eval_batches
from mdm_jax.models import weights
from mdm_jax.models.classifier import Classifier
from mdm_jax.training.job import TrainingJob
from mdm_jax.training.prototypes import losses, projection, pruning
from mdm_jax.training.prototypes.record import PushRecord
from mdm_jax.training.prototypes.steps import prototype_program
from mdm_jax.training.steps import TrainingProgram, TrainingState

Says = Callable[[str], object]

# (items done, all items); raises to end a pass.
OnBatch = Callable[[int, int], object]


def as_classifier(job: TrainingJob, module: nnx.Module) -> Classifier:
    """The network of a training as one that is ready to use; it computes in float32."""
    network = nnx.view(
        module,
        deterministic=True,
        use_running_average=True,
        raise_if_not_found=False,
    )
    return Classifier(
        network,
        job.config.model.architecture,
        job.source.class_names,
        job.preprocessing,
    )


class StageResult(NamedTuple):
    """What a push or a pruning leaves."""

    job: TrainingJob
    compiled: TrainingProgram
    state: TrainingState
    record: PushRecord


def push(
    job: TrainingJob,
    compiled: TrainingProgram,
    state: TrainingState,
    before: PushRecord | None,
    says: Says,
    on_batch: OnBatch,
) -> StageResult:
    """Each prototype becomes the nearest patch, or pooled feature, of an image of its class."""
    module: Any = compiled.module(state)
    found = projection.find_nearest(
        as_classifier(job, module),
        job.source,
        **_loading_options(job),
        on_batch=on_batch,
    )
    pushed = projection.push_records(
        found, job.source, module.prototype_classes, job.source.class_names
    )
    for each in pushed:
        if each.reason:
            says(f"prototype {each.prototype} stays as it is: {each.reason}")
    places = [(each.item, each.position) for each in pushed if each.position is not None]
    shared = len(places) - len(set(places))
    if shared:
        says(
            f"{shared} of {len(pushed)} prototypes became a patch that another one has become"
            " already"
        )
    # the module of the state is not changed: a stopped stage is done again from it
    moved = nnx.clone(module)
    moved.prototypes[...] = jnp.asarray(
        projection.project(module.prototypes[...], found, pushed)
    )
    params = nnx.state(moved, nnx.Param)
    record = PushRecord(job.source.name, job.config.data.train, pushed, int(state.step) + 1)
    return StageResult(
        job, compiled, state._replace(params=params, step=state.step + 1), record
    )


def prune(
    job: TrainingJob,
    compiled: TrainingProgram,
    state: TrainingState,
    before: PushRecord | None,
    says: Says,
    on_batch: OnBatch,
) -> StageResult:
    """Drop the prototypes whose nearest images are of other classes; optimizers begin anew."""
    assert before is not None, "a push comes before"
    module: Any = compiled.module(state)
    classes, config = module.prototype_classes, job.config.prototypes
    reading = _loading_options(job) | {
        "k": config.prune_nearest,
        "own_class": False,
    }
    found = projection.find_nearest(
        as_classifier(job, module), job.source, **reading, on_batch=on_batch
    )
    keep = pruning.prototypes_to_keep(
        found.own, found.distances, classes, config.prune_fewer
    )
    says(f"pruning keeps {len(keep)} of {len(classes)} prototypes")
    # arrays change their shapes, so everything is compiled anew
    smaller = job.with_prototypes([classes[j] for j in keep])
    arrays = pruning.prune_weights(weights.entries(module), keep, smaller.construct)
    pruned = weights.load(smaller.construct, arrays)
    program = prototype_program(job.config, pruned, job.steps_per_epoch)
    after = program.initial(pruned)._replace(step=state.step + 1)
    return StageResult(smaller, program, after, pruning.prune_record(before, keep))


def _loading_options(job: TrainingJob) -> dict[str, Any]:
    """How the training images are read, without augmentation."""
    data = job.config.data
    return {"limit": data.train_items, "batch": data.batch, "workers": data.workers}


def training_similarities(
    job: TrainingJob,
    compiled: TrainingProgram,
    state: TrainingState,
    on_batch: OnBatch,
) -> tuple[
    Float32[np.ndarray, "n m"],
    Float32[np.ndarray, "n m"],
    Array | np.ndarray,
    Bool[np.ndarray, " n"],
]:
    """Similarities, distances, labels and validity of every training image.

    The distances are those that cluster and separation are computed on."""
    classifier, found = as_classifier(job, compiled.module(state)), []
    done, count = 0, job.items
    for batch in eval_batches(job.source, job.training, job.fit):
        similarity, compared = _similarities_and_distances(classifier, batch.images)
        found.append(
            (
                np.asarray(similarity),
                np.asarray(compared),
                batch.labels,
                batch.valid,
            )
        )
        # the last batch is filled up
        done = min(done + len(batch.labels), count)
        on_batch(done, count)
    columns: Any = zip(*found)
    first, second, labels, valid = (np.concatenate(each)[:count] for each in columns)
    return first, second, labels, valid


@jax.jit
def _similarities_and_distances(classifier: Any, images: Array) -> tuple[Array, Array]:
    _, out = classifier(images)
    return out["similarities"].astype(jnp.float32), losses.compared_distances(out).astype(
        jnp.float32
    )
