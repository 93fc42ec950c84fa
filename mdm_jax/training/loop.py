"""Train a classifier: `train(config)` begins, or goes on exactly where it stopped, and leaves a model folder."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax import checkpoints
from mdm_jax.data.loader import Batch, eval_batches, train_batches
from mdm_jax.errors import InputError
from mdm_jax.models import weights
from mdm_jax.training import run as run_folder
from mdm_jax.training.config import TrainConfig
from mdm_jax.training.job import Job, first_network, open_job
from mdm_jax.training.run import Run
from mdm_jax.training.steps import Program, State, Sums, filled, leaves, program, schedule


@runtime_checkable
class Watch(Protocol):
    """Whoever watches a training, and may ask it to stop."""

    def begins(self, step: int, steps: int, steps_per_epoch: int) -> None: ...
    def stepped(self, step: int, loss: float, rate: float) -> None: ...
    def says(self, sentence: str) -> None: ...
    def wants_stop(self) -> bool: ...


class Silent:
    """Watches nothing and never asks to stop."""

    def begins(self, step: int, steps: int, steps_per_epoch: int) -> None: ...
    def stepped(self, step: int, loss: float, rate: float) -> None: ...
    def says(self, sentence: str) -> None: ...
    def wants_stop(self) -> bool:
        return False


class Stopped(Exception):
    """The watcher asked to stop; a checkpoint holds everything, and the message says how to go on."""


@dataclass(frozen=True)
class Trained:
    """How a training ended."""

    run: Run
    metrics: list[dict[str, Any]]
    """one line an epoch"""
    skipped: list[str]
    """a sentence for each image that could not be read"""
    was_done: bool
    """the training had ended before, and nothing was done"""


def train(config: TrainConfig, watch: Watch | None = None) -> Trained:
    """Train as the config says in the folder `config.out`; begun before, it goes on from the last checkpoint.

    Raises InputError for settings, data or a folder that do not fit, and when the loss becomes NaN or infinite;
    Stopped when the watcher asks for it.
    """
    watch = watch or Silent()
    config.check()
    job = open_job(config)
    with run_folder.opened(Path(config.out)) as run:
        run_folder.begin(run, config, job.source, job.held_out)
        return _Training(job, run, watch).go()


@dataclass
class _Training:
    """The loop; what changes from step to step is here and in the `State`."""

    job: Job
    run: Run
    watch: Watch
    metrics: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, None] = field(default_factory=dict)
    """an ordered set of sentences: each image once"""
    saved: int = 0
    """step of the last checkpoint"""
    seconds: float = 0.0
    """that the training took, over all processes"""
    clock: float = field(default_factory=time.perf_counter)
    """when `seconds` was last brought up to date"""

    def go(self) -> Trained:
        checkpoint = checkpoints.restore(self.run.checkpoints)
        if checkpoint is None and self.run.weights.exists():  # it ended, and its checkpoints were removed
            return Trained(self.run, run_folder.metrics(self.run), [], was_done=True)
        state, compiled = self._begin() if checkpoint is None else self._resume(checkpoint)
        step, steps = int(state.step), self.job.steps
        if step == steps and self._is_closed(step) and run_folder.is_finished(self.run, compiled.module(state)):
            return Trained(self.run, self.metrics, list(self.skipped), was_done=True)
        if checkpoint is not None:
            self.watch.says(f"going on from step {step} of {steps}")
        run_folder.write_metrics(self.run, self.metrics)
        self.watch.begins(step, steps, self.job.steps_per_epoch)
        state = self._loop(compiled, state, step)
        run_folder.finish(self.run, compiled.module(state))
        return Trained(self.run, self.metrics, list(self.skipped), was_done=False)

    def _begin(self) -> tuple[State, Program]:
        module = first_network(self.job.config, self.job.construct)
        compiled = program(self.job.config, module, self.job.steps, self.job.steps_per_epoch)
        return compiled.initial(module), compiled

    def _resume(self, checkpoint: checkpoints.Checkpoint) -> tuple[State, Program]:
        tree, notes = checkpoint.tree, checkpoint.notes
        try:
            module = weights.load(self.job.construct, tree["model"])
            compiled = program(self.job.config, module, self.job.steps, self.job.steps_per_epoch)
            state = compiled.initial(module)
            rest = filled((state.optimizer, state.step, state.sums), tree["optimizer"])
        except (KeyError, ValueError) as error:
            raise InputError(f"the checkpoint in {self.run.checkpoints} is of another training or version ({error})") from error
        self.saved, self.seconds = checkpoint.step, float(notes.get("seconds", 0.0))
        self.skipped = dict.fromkeys(map(str, notes.get("skipped", ())))
        self.metrics = run_folder.metrics(self.run, until=checkpoint.step)
        return State(state.params, state.stats, *rest), compiled

    def _loop(self, compiled: Program, state: State, step: int) -> State:
        job, config = self.job, self.job.config
        batches = train_batches(job.source, job.training, job.fit, config.augment, start=step)
        loss, busy, images = None, 0.0, 0
        self._tick()
        while True:
            ends_epoch = step > 0 and step % job.steps_per_epoch == 0
            if self.watch.wants_stop():
                raise self._stopped(compiled, state, step, loss)
            if ends_epoch and not self._is_closed(step):
                jax.block_until_ready(state)
                busy += self._tick()
                self._check(loss, step)
                if not self._close_epoch(compiled, state, step, images / busy if images else 0.0):
                    continue  # asked to stop
                self._save(compiled, state, step, loss)
                busy, images = 0.0, 0
                self._tick()
            elif step % config.checkpoint_every == 0:
                busy += self._tick()
                self._save(compiled, state, step, loss)
                self._tick()
            if step == job.steps:
                return state
            try:
                batch = self._noted(next(batches))
            except Exception:
                if self.watch.wants_stop():  # what asks this process to stop may have ended those that load
                    raise self._stopped(compiled, state, step, loss) from None
                raise
            before, (state, loss) = loss, compiled.train(state, batch.images, batch.labels, batch.valid)
            if before is None:
                jax.block_until_ready(loss)
                self._tick()  # compiled: that is in the seconds, not in the images a second
            else:  # one step runs while the next batch is fetched, and never more
                self.watch.stepped(step, self._check(before, step), images / max(busy + self._since(), 1e-9))
                images += len(batch.labels)
            step += 1

    def _stopped(self, compiled: Program, state: State, step: int, loss: jax.Array | None) -> Stopped:
        """What to raise when asked to stop, with a checkpoint written."""
        self._save(compiled, state, step, loss)
        saved = "which is saved: the same command goes on from there" if step else "before the first: begin again"
        return Stopped(f"stopped at step {step} of {self.job.steps}, {saved}")

    def _close_epoch(self, compiled: Program, state: State, step: int, speed: float) -> bool:
        """Measure, and add a line to the metrics; False when asked to stop on the way."""
        job, total, data = self.job, Sums(*map(jnp.asarray, (0.0, 0.0, 0.0))), self.job.config.data
        self._check_any(state.sums, data.train)
        for batch in eval_batches(job.held_out, job.evaluation, job.fit):
            if self.watch.wants_stop():
                return False
            self._noted(batch)
            total += compiled.evaluate(state, batch.images, batch.labels, batch.valid)
        self._check_any(total, data.evaluate)
        self._tick()
        line = {
            "epoch": step // job.steps_per_epoch,
            "step": step,
            "train_loss": _mean(state.sums.loss, state.sums.items),
            "train_accuracy": _mean(state.sums.hits, state.sums.items),
            "eval_loss": _mean(total.loss, total.items),
            "eval_accuracy": _mean(total.hits, total.items),
            "learning_rate": float(schedule(job.config.optimizer, job.steps)(step - 1)),
            "images_per_second": round(speed, 1),
            "seconds": round(self.seconds, 1),
            "skipped": len(self.skipped),
        }
        self.metrics.append(line)
        run_folder.write_metrics(self.run, self.metrics)
        self.watch.says(
            f"epoch {line['epoch']}/{job.config.epochs}: loss {line['train_loss']:.3f}, accuracy "
            f"{line['train_accuracy']:.3f}; {data.evaluate} loss {line['eval_loss']:.3f}, accuracy "
            f"{line['eval_accuracy']:.3f}; {speed:.0f} images/s, {self.seconds:.0f} s"
        )
        return True

    def _save(self, compiled: Program, state: State, step: int, loss: jax.Array | None) -> None:
        """Write a checkpoint, unless there is one of this step; never one that cannot be gone on from."""
        if step <= self.saved:
            return
        self._check(loss, step)
        model = weights.entries(compiled.module(state))
        if not all(np.isfinite(array).all() for array in model.values()):
            raise self._diverged("a weight", step)
        tree = {"model": model, "optimizer": leaves((state.optimizer, state.step, state.sums)), "step": np.asarray(step)}
        self._tick()
        notes = {"seconds": self.seconds, "skipped": list(self.skipped)}
        checkpoints.save(self.run.checkpoints, step, tree, notes)
        self.saved = step

    def _noted(self, batch: Batch) -> Batch:
        """The batch; says which of its images could not be read, each once."""
        for sentence in batch.skipped:
            if sentence not in self.skipped:
                self.skipped[sentence] = None
                self.watch.says(f"skipped: {sentence}")
        return batch

    def _check_any(self, sums: Sums, split: str) -> None:
        """Raises InputError when no image of an epoch could be read."""
        if not sums.items:
            first = next(iter(self.skipped), "")
            raise InputError(f"no image of the split {split} could be read: mend or replace them ({first})")

    def _check(self, loss: jax.Array | None, step: int) -> float:
        """The loss of step `step`. Raises InputError when it is no number."""
        value = 0.0 if loss is None else float(loss)
        if not math.isfinite(value):
            raise self._diverged("the loss", step)
        return value

    def _diverged(self, what: str, step: int) -> InputError:
        kept = f"the checkpoint of step {self.saved} is kept" if self.saved else "there is no checkpoint yet"
        return InputError(
            f"{what} became NaN or infinite at step {step}: begin again in another folder (--out) with a lower "
            f"optimizer.learning_rate or with optimizer.clip = 1.0; {kept}"
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


def _mean(total: jax.Array, count: jax.Array) -> float:
    return float(total) / float(count)
