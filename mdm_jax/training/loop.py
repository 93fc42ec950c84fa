"""Train a classifier: `train(config)` begins, or goes on exactly where it stopped, and leaves a
model folder."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mdm_jax.data.loader import Batch, eval_batches, train_batches
from mdm_jax.errors import InputError
from mdm_jax.models import weights
from mdm_jax.progress import Interrupted, NullProgress, Progress, Stopped
from mdm_jax.storage import checkpoints
from mdm_jax.training import run_folder as run_folder
from mdm_jax.training.config import TrainConfig
from mdm_jax.training.job import TrainingJob, first_network, open_job
from mdm_jax.training.prototypes import record as records
from mdm_jax.training.prototypes import stages
from mdm_jax.training.prototypes.record import PushRecord
from mdm_jax.training.prototypes.steps import prototype_program
from mdm_jax.training.run_folder import TrainingFolder
from mdm_jax.training.stages import BATCHED, LAST_LAYER, PLAIN, PRUNE, PUSH, Stage
from mdm_jax.training.steps import (
    TrainingProgram,
    TrainingState,
    classifier_program,
    fill_tree,
    leaves,
)
from mdm_jax.training.validation import describe_line, metrics_line, validate
from mdm_jax.training.work import Work, counted


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


def train(config: TrainConfig, progress: Progress | None = None) -> TrainingResult:
    """Train as the config says in the folder `config.out`; begun before, it goes on from the last
    checkpoint.

    Raises InputError for settings, data or a folder that do not fit, and when the loss becomes NaN
    or infinite; Stopped when `progress` asks for it."""
    progress = progress or NullProgress()
    config.check()
    job = open_job(config)
    with run_folder.open_training_folder(Path(config.out)) as run:
        run_folder.begin_training(run, config, job.source, job.held_out)
        return _Training(job, run, progress).go()


@dataclass
class _Training:
    """The loop; what changes from step to step is here and in the `State`."""

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
    seconds: float = 0.0
    """that the training took, over all processes"""
    clock: float = field(default_factory=time.perf_counter)
    """when `seconds` was last brought up to date"""
    compiled: TrainingProgram = field(init=False)

    def go(self) -> TrainingResult:
        checkpoint = checkpoints.restore(self.run.checkpoints)
        if (
            checkpoint is None and self.run.weights.exists()
        ):  # it ended, and its checkpoints were removed
            return TrainingResult(self.run, run_folder.read_metrics(self.run), [], was_done=True)
        state = self._begin() if checkpoint is None else self._resume(checkpoint)
        step, steps = int(state.step), self.job.steps
        if (
            step == steps
            and self._is_closed(step)
            and run_folder.is_finished(self.run, self.compiled.module(state))
        ):
            return TrainingResult(self.run, self.metrics, list(self.skipped), was_done=True)
        if checkpoint is not None:
            self.progress.say(f"going on from step {step} of {steps}")
        run_folder.write_metrics(self.run, self.metrics)
        self.progress.begin("compiling", steps, step)
        try:
            state = self._loop(state, step)
        finally:
            self.progress.end()
        run_folder.write_weights(self.run, self.compiled.module(state))
        return TrainingResult(self.run, self.metrics, list(self.skipped), was_done=False)

    def _begin(self) -> TrainingState:
        module = first_network(self.job)
        self.compiled = _build_program(self.job, module)
        return self.compiled.initial(module)

    def _resume(self, checkpoint: checkpoints.Checkpoint) -> TrainingState:
        tree, notes = checkpoint.tree, checkpoint.notes
        try:
            if "record" in notes:
                self.record = records.from_json(notes["record"])
                self.job = replace(self.job, arguments=notes["arguments"])  # a pruning changes them
            module = weights.load(self.job.construct, tree["model"])
            self.compiled = _build_program(self.job, module)
            state = self.compiled.initial(module)
            rest = fill_tree((state.optimizer, state.step, state.sums), tree["optimizer"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the checkpoint in {self.run.checkpoints} is of another training or version"
                f" ({error})"
            ) from error
        self.saved, self.seconds = checkpoint.step, float(notes.get("seconds", 0.0))
        self.skipped = dict.fromkeys(map(str, notes.get("skipped", ())))
        self.metrics = run_folder.read_metrics(self.run, until=checkpoint.step)
        self._tell()
        return TrainingState(state.params, state.stats, *rest)

    def _loop(self, state: TrainingState, step: int) -> TrainingState:
        job, config = self.job, self.job.config
        loss, busy, images = None, 0.0, 0
        stage: Stage | None = None
        self._tick()
        while True:
            if self.progress.wants_stop():
                raise self._stopped(state, step, loss)
            if job.timeline.ends_pass(step) and not self._is_closed(step):
                jax.block_until_ready(state)
                busy += self._tick()
                self._check(loss, step)
                if not self._close_pass(state, step, images / busy if images else 0.0):
                    continue  # asked to stop
                self._save(state, step, loss)
                busy, images = 0.0, 0
                self._tick()
            elif step % config.checkpoint_every == 0:
                busy += self._tick()
                self._save(state, step, loss)
                self._tick()
            if step == job.steps:
                return state
            try:
                if stage is None or step == stage.stop:
                    stage, loss = job.timeline.at(step), None
                    work = self._enter(state, stage, step)
                given = work.fetch()
            except Interrupted:
                raise self._stopped(state, step, loss) from None
            except Exception:
                if (
                    self.progress.wants_stop()
                ):  # what asks this process to stop may have ended those that load
                    raise self._stopped(state, step, loss) from None
                raise
            before, (state, loss) = loss, work.act(state, *given)
            if before is None:
                jax.block_until_ready(loss)
                self._tick()  # compiled: that is in the seconds, not in the images a second
            else:  # one step runs while the next batch is fetched, and never more
                rate = images / max(busy + self._since(), 1e-9)
                if stage.kind == PLAIN:  # other stages are described when they begin
                    epoch = 1 + (step - 1) // job.steps_per_epoch
                    self.progress.describe(f"epoch {epoch}/{config.epochs}")
                self.progress.advance(step, loss=self._check(before, step), rate=rate)
                images += work.images
            step += 1

    def _enter(self, state: TrainingState, stage: Stage, step: int) -> Work:
        """What the stage does from step `step` on."""
        job, kind, compiled = self.job, stage.kind, self.compiled
        if kind != PLAIN:
            self.progress.describe(kind)
        if kind in BATCHED:
            batches = train_batches(
                job.source, job.training, job.fit, job.config.augment, start=stage.batch(step)
            )
            return Work(
                lambda: self._noted(next(batches))[:3],
                counted(stage, step, compiled),
                job.config.data.batch,
            )
        if kind == LAST_LAYER:
            given = stages.training_similarities(job, compiled, state, partial(self._passing, kind))
            self.progress.describe(kind)
            return Work(lambda: given, counted(stage, step, compiled), 0)  # it sees no images
        change = {PUSH: stages.push, PRUNE: stages.prune}[kind]
        changed = change(
            job, compiled, state, self.record, self.progress.say, partial(self._passing, kind)
        )

        def take(_: TrainingState) -> tuple[TrainingState, None]:
            self.job, self.compiled, self.record = changed.job, changed.compiled, changed.record
            return changed.state, None

        return Work(tuple, take, 0)

    def _passing(self, kind: str, done: int, count: int) -> None:
        """Called on the way through the images; raises Interrupted when asked to stop."""
        self.progress.describe(f"{kind}, image {done}/{count}")
        if self.progress.wants_stop():
            raise Interrupted

    def _stopped(self, state: TrainingState, step: int, loss: jax.Array | None) -> Stopped:
        """What to raise when asked to stop, with a checkpoint written."""
        self._save(state, step, loss)
        saved = (
            "which is saved: the same command goes on from there"
            if step
            else "before the first: begin again"
        )
        return Stopped(f"stopped at step {step} of {self.job.steps}, {saved}")

    def _close_pass(self, state: TrainingState, step: int, speed: float) -> bool:
        """Measure, and add a line to the metrics; False when asked to stop on the way."""
        job, data, stage = self.job, self.job.config.data, self.job.timeline.at(step - 1)
        if stage.kind not in (PUSH, PRUNE):
            self._check_any(state.sums, data.train)
        try:
            found = validate(self.compiled, state, self._held_out())
        except Interrupted:
            return False
        self._check_any(found.sums, data.evaluate)
        self._tick()
        told = {
            "images_per_second": round(speed, 1),
            "seconds": round(self.seconds, 1),
            "skipped": len(self.skipped),
        }
        self.metrics.append(metrics_line(job, stage, step, state, found) | told)
        run_folder.write_metrics(self.run, self.metrics)
        self.progress.say(
            f"{describe_line(job, self.metrics[-1])};"
            f" {f'{speed:.0f} images/s, ' if speed else ''}{self.seconds:.0f} s"
        )
        return True

    def _held_out(self) -> Iterator[Batch]:
        """What is measured; raises Interrupted when asked to stop."""
        for batch in eval_batches(self.job.held_out, self.job.evaluation, self.job.fit):
            if self.progress.wants_stop():
                raise Interrupted
            yield self._noted(batch)

    def _save(self, state: TrainingState, step: int, loss: jax.Array | None) -> None:
        """Write a checkpoint, unless there is one of this step; never one that cannot be gone on
        from."""
        if step <= self.saved:
            return
        self._check(loss, step)
        model = weights.entries(self.compiled.module(state))
        if not all(np.isfinite(array).all() for array in model.values()):
            raise self._diverged("a weight", step)
        tree = {
            "model": model,
            "optimizer": leaves((state.optimizer, state.step, state.sums)),
            "step": np.asarray(step),
        }
        self._tick()
        notes: dict[str, Any] = {"seconds": self.seconds, "skipped": list(self.skipped)}
        if self.record is not None:
            notes |= {"record": records.to_json(self.record), "arguments": self.job.arguments}
        checkpoints.save(self.run.checkpoints, step, tree, notes)
        self.saved = step
        self._tell()

    def _tell(self) -> None:
        """Write down beside the weights what the pushes and prunings did that the checkpoint
        holds."""
        if self.record is not None:
            records.write(self.run.folder, self.record)
            run_folder.write_network_config(
                self.run, self.job.config, self.job.source, self.job.arguments
            )

    def _noted(self, batch: Batch) -> Batch:
        """The batch; says which of its images could not be read, each once."""
        for reason in batch.skipped:
            if reason not in self.skipped:
                self.skipped[reason] = None
                self.progress.say(f"skipped: {reason}")
        return batch

    def _check_any(self, sums: Any, split: str) -> None:
        """Raises InputError when no image of an epoch could be read."""
        if not sums.items:
            first = next(iter(self.skipped), "")
            raise InputError(
                f"no image of the split {split} could be read: mend or replace them ({first})"
            )

    def _check(self, loss: jax.Array | None, step: int) -> float:
        """The loss of step `step`. Raises InputError when it is no number."""
        value = 0.0 if loss is None else float(loss)
        if not math.isfinite(value):
            raise self._diverged("the loss", step)
        return value

    def _diverged(self, what: str, step: int) -> InputError:
        kept = (
            f"the checkpoint of step {self.saved} is kept"
            if self.saved
            else "there is no checkpoint yet"
        )
        gentler = "a lower optimizer.learning_rate or with optimizer.clip = 1.0"
        if self.job.config.has_prototypes:
            gentler = "lower rates in [prototypes], such as features_rate"
        return InputError(
            f"{what} became NaN or infinite at step {step}: begin again in another folder (--out)"
            f" with {gentler}; {kept}"
        )

    def _is_closed(self, step: int) -> bool:
        return bool(self.metrics) and self.metrics[-1]["step"] >= step

    def _since(self) -> float:
        return time.perf_counter() - self.clock

    def _tick(self) -> float:
        """Seconds since the last tick, which are added to those of the training."""
        elapsed = self._since()
        self.seconds, self.clock = self.seconds + elapsed, self.clock + elapsed
        return elapsed


def _build_program(job: TrainingJob, module: Any) -> TrainingProgram:
    if job.config.has_prototypes:
        return prototype_program(job.config, module, job.steps_per_epoch)
    return classifier_program(job.config, module, job.steps, job.steps_per_epoch)
