"""Train a classifier: `train(config)` begins or resumes a training and leaves a model folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mdm_jax.data.loader import Batch, eval_batches, train_batches
from mdm_jax.errors import InputError
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.models import weights
from mdm_jax.progress import Interrupted, NullProgress, Progress, Stopped
from mdm_jax.storage import checkpoints
from mdm_jax.training import run_folder
from mdm_jax.training.clock import TrainingClock
from mdm_jax.training.config import TrainConfig
from mdm_jax.training.job import TrainingJob, first_network, open_job
from mdm_jax.training.programs import build_program, reset_sums_each_pass
from mdm_jax.training.prototypes import record as records
from mdm_jax.training.prototypes import stages
from mdm_jax.training.prototypes.record import PushRecord
from mdm_jax.training.run_folder import TrainingFolder
from mdm_jax.training.stages import BATCHED, LAST_LAYER, PLAIN, PRUNE, PUSH, Stage
from mdm_jax.training.steps import (
    TrainingProgram,
    TrainingState,
    fill_tree,
    leaves,
)
from mdm_jax.training.tensorboard import ScalarWriter, check_installed
from mdm_jax.training.validation import (
    check_any_read,
    describe_line,
    divergence_error,
    metrics_line,
    validate,
)


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended."""

    run: TrainingFolder
    metrics: list[dict[str, Any]]
    """one line an epoch"""
    skipped: list[str]
    """a sentence for each image that could not be read"""
    was_done: bool
    """the training had ended before, and nothing was done"""


@own_settings()
def train(config: TrainConfig, progress: Progress | None = None) -> TrainingResult:
    """Train as the config says in the folder `config.out`, from the last checkpoint if any.

    Raises InputError for settings, data or a folder that do not fit, and when the loss becomes NaN
    or infinite; Stopped when `progress` asks for it."""
    progress = progress or NullProgress()
    config.check()
    if config.tensorboard:
        check_installed()
    job = open_job(config)
    with run_folder.open_training_folder(Path(config.out)) as run:
        run_folder.begin_training(run, config, job.source, job.held_out)
        return _Training(job, run, progress).run_to_end()


class StageWork(NamedTuple):
    """What a stage does at each of its steps."""

    fetch: Callable[[], tuple[Any, ...]]
    """what a step takes beside the state; may be interrupted"""
    act: Callable[..., tuple[TrainingState, jax.Array | None]]
    """(state, *what was fetched) -> (state, loss); the state that goes in is consumed"""
    images: int
    """that a step takes"""


@dataclass
class _Training:
    """The loop; what changes from step to step is here and in the `TrainingState`."""

    job: TrainingJob
    run: TrainingFolder
    progress: Progress
    metrics: list[dict[str, Any]] = field(default_factory=list)
    record: PushRecord | None = None
    """of the last push"""
    skipped: dict[str, None] = field(default_factory=dict)
    """an ordered set of sentences: each image once"""
    saved: int = 0
    """step of the last checkpoint"""
    clock: TrainingClock = field(default_factory=TrainingClock)
    compiled: TrainingProgram = field(init=False)
    scalars: ScalarWriter | None = None
    """for TensorBoard"""

    def run_to_end(self) -> TrainingResult:
        """Train until the last step, and write the weights."""
        checkpoint = checkpoints.restore(self.run.checkpoints)
        # a training that ended may have had its checkpoints removed
        if checkpoint is None and self.run.weights.exists():
            return TrainingResult(
                self.run, run_folder.read_metrics(self.run), [], was_done=True
            )
        state = self._begin() if checkpoint is None else self._resume(checkpoint)
        step, steps = int(state.step), self.job.steps
        is_last = step == steps and self._is_closed(step)
        # it may have been killed between the last checkpoint and the weights
        if is_last and run_folder.is_finished(self.run, self.compiled.module(state)):
            return TrainingResult(self.run, self.metrics, list(self.skipped), was_done=True)
        if checkpoint is not None:
            self.progress.say(f"going on from step {step} of {steps}")
        run_folder.write_metrics(self.run, self.metrics)
        if self.job.config.tensorboard:
            self.scalars = ScalarWriter(self.run.folder, self.metrics, self.clock.seconds)
        self.progress.begin("training", steps, step)
        try:
            state = self._loop(state, step)
        finally:
            self.progress.end()
            if self.scalars is not None:
                self.scalars.close()
        run_folder.write_weights(self.run, self.compiled.module(state))
        return TrainingResult(self.run, self.metrics, list(self.skipped), was_done=False)

    def _begin(self) -> TrainingState:
        module = first_network(self.job)
        self.compiled = build_program(self.job, module)
        return self.compiled.initial(module)

    def _resume(self, checkpoint: checkpoints.Checkpoint) -> TrainingState:
        tree, notes = checkpoint.tree, checkpoint.notes
        try:
            if "record" in notes:
                self.record = records.from_json(notes["record"])
                # a pruning changes the arguments of the network
                self.job = replace(self.job, arguments=notes["arguments"])
            # the network first: a pruning has changed what the optimizer's state must fit
            module = weights.load(self.job.construct, tree["model"])
            self.compiled = build_program(self.job, module)
            state = self.compiled.initial(module)
            rest = fill_tree((state.optimizer, state.step, state.sums), tree["optimizer"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the checkpoint in {self.run.checkpoints} is of another training or version"
                f" ({error})"
            ) from error
        self.saved, self.clock.seconds = checkpoint.step, float(notes.get("seconds", 0.0))
        self.skipped = dict.fromkeys(map(str, notes.get("skipped", ())))
        self.metrics = run_folder.read_metrics(self.run, until=checkpoint.step)
        self._write_record()
        return TrainingState(state.params, state.stats, *rest)

    def _loop(self, state: TrainingState, step: int) -> TrainingState:
        job, clock = self.job, self.clock
        loss: jax.Array | None = None
        stage: Stage | None = None
        clock.tick()
        while True:
            if self.progress.wants_stop():
                raise self._stop(state, step, loss)
            if job.timeline.ends_pass(step) and not self._is_closed(step):
                jax.block_until_ready(state)
                clock.tick_busy()
                self._check_loss(loss, step)
                if not self._close_pass(state, step):
                    continue  # asked to stop
                self._save(state, step, loss)
                clock.begin_pass()
                clock.tick()
            elif step % job.config.checkpoint_every == 0:
                clock.tick_busy()
                self._save(state, step, loss)
                clock.tick()
            if step == job.steps:
                return state
            try:
                if stage is None or step == stage.stop:
                    stage, loss = job.timeline.at(step), None
                    work = self._enter(state, stage, step)
                fetched = work.fetch()
            except Interrupted:
                raise self._stop(state, step, loss) from None
            except Exception:
                # what asks this process to stop may have ended the processes that load
                if self.progress.wants_stop():
                    raise self._stop(state, step, loss) from None
                raise
            before = loss
            state, loss = work.act(state, *fetched)
            if before is None:
                # the first step of a stage compiles: no time of the pass
                jax.block_until_ready(loss)
                clock.tick()
            else:
                # reading the loss before lets one step run while the next batch is fetched
                self._report(stage, step, before)
                clock.images += work.images
            step += 1

    def _report(self, stage: Stage, step: int, loss: jax.Array) -> None:
        if stage.kind == PLAIN:  # other stages are described when they begin
            epoch = 1 + (step - 1) // self.job.steps_per_epoch
            self.progress.describe(f"epoch {epoch}/{self.job.config.epochs}")
        rate = self.clock.speed(running=True)
        self.progress.advance(step, loss=self._check_loss(loss, step), rate=rate)

    def _enter(self, state: TrainingState, stage: Stage, step: int) -> StageWork:
        """What the stage does from step `step` on."""
        job, kind, compiled = self.job, stage.kind, self.compiled
        on_batch = partial(self._pass_images, kind)
        if kind != PLAIN:
            self.progress.describe(kind)
        if kind in BATCHED:
            batches = train_batches(
                job.source,
                job.training,
                job.fit,
                job.config.augment,
                start=stage.batch(step),
            )
            act = reset_sums_each_pass(stage, step, compiled)
            return StageWork(
                lambda: self._note_skipped(next(batches))[:3], act, job.config.data.batch
            )
        if kind == LAST_LAYER:
            given = stages.training_similarities(job, compiled, state, on_batch)
            self.progress.describe(kind)
            # it trains on similarities and sees no images
            return StageWork(lambda: given, reset_sums_each_pass(stage, step, compiled), 0)
        change = {PUSH: stages.push, PRUNE: stages.prune}[kind]
        changed = change(job, compiled, state, self.record, self.progress.say, on_batch)

        def take_result(_: TrainingState) -> tuple[TrainingState, None]:
            self.job, self.compiled, self.record = (
                changed.job,
                changed.compiled,
                changed.record,
            )
            return changed.state, None

        return StageWork(tuple, take_result, 0)

    def _pass_images(self, kind: str, done: int, count: int) -> None:
        """Called on the way through the images; raises Interrupted when asked to stop."""
        self.progress.describe(f"{kind}, image {done}/{count}")
        if self.progress.wants_stop():
            raise Interrupted

    def _stop(self, state: TrainingState, step: int, loss: jax.Array | None) -> Stopped:
        """What to raise when asked to stop, with a checkpoint written."""
        self._save(state, step, loss)
        if step:
            saved = "which is saved: the same command goes on from there"
        else:
            saved = "before the first: begin again"
        return Stopped(f"stopped at step {step} of {self.job.steps}, {saved}")

    def _close_pass(self, state: TrainingState, step: int) -> bool:
        """Measure, and add a line to the metrics; False when asked to stop on the way."""
        job, data, stage = self.job, self.job.config.data, self.job.timeline.at(step - 1)
        speed = self.clock.speed()
        if stage.kind not in (PUSH, PRUNE):
            check_any_read(state.sums, data.train, self.skipped)
        try:
            found = validate(self.compiled, state, self._held_out())
        except Interrupted:
            return False
        check_any_read(found.sums, data.evaluate, self.skipped)
        self.clock.tick()
        seconds = self.clock.seconds
        line = metrics_line(job, stage, step, state, found)
        line["images_per_second"] = round(speed, 1)
        line["seconds"] = round(seconds, 1)
        line["skipped"] = len(self.skipped)
        self.metrics.append(line)
        run_folder.write_metrics(self.run, self.metrics)
        if self.scalars is not None:
            self.scalars.write(line)
        rate = f"{speed:.0f} images/s, " if speed else ""
        self.progress.say(f"{describe_line(job, line)}; {rate}{seconds:.0f} s")
        return True

    def _held_out(self) -> Iterator[Batch]:
        """What is measured; raises Interrupted when asked to stop."""
        for batch in eval_batches(self.job.held_out, self.job.evaluation, self.job.fit):
            if self.progress.wants_stop():
                raise Interrupted
            yield self._note_skipped(batch)

    def _save(self, state: TrainingState, step: int, loss: jax.Array | None) -> None:
        """Write a checkpoint, unless there is one of this step.

        Raises InputError where the loss or a weight is not finite: from such a checkpoint no
        training could go on."""
        if step <= self.saved:
            return
        self._check_loss(loss, step)
        model = weights.entries(self.compiled.module(state))
        if not all(np.isfinite(array).all() for array in model.values()):
            raise divergence_error("a weight", step, self.saved, self.job.config)
        tree = {
            "model": model,
            "optimizer": leaves((state.optimizer, state.step, state.sums)),
            "step": np.asarray(step),
        }
        self.clock.tick()
        notes: dict[str, Any] = {
            "seconds": self.clock.seconds,
            "skipped": list(self.skipped),
        }
        if self.record is not None:
            # a training without prototypes has no record, and its arguments are in the config
            notes |= {
                "record": records.to_json(self.record),
                "arguments": self.job.arguments,
            }
        checkpoints.save(self.run.checkpoints, step, tree, notes)
        self.saved = step
        self._write_record()

    def _write_record(self) -> None:
        """Write beside the weights what pushes and prunings did up to the checkpoint."""
        if self.record is not None:
            records.write(self.run.folder, self.record)
            run_folder.write_network_config(
                self.run, self.job.config, self.job.source, self.job.arguments
            )

    def _note_skipped(self, batch: Batch) -> Batch:
        """The batch; says which of its images could not be read, each once."""
        for reason in batch.skipped:
            if reason not in self.skipped:
                self.skipped[reason] = None
                self.progress.say(f"skipped: {reason}")
        return batch

    def _check_loss(self, loss: jax.Array | None, step: int) -> float:
        """The loss of step `step`. Raises InputError when it is not finite."""
        value = 0.0 if loss is None else float(loss)
        if not np.isfinite(value):
            raise divergence_error("the loss", step, self.saved, self.job.config)
        return value

    def _is_closed(self, step: int) -> bool:
        """Whether the pass that ends at this step has been measured."""
        return bool(self.metrics) and self.metrics[-1]["step"] >= step
