"""What a person sees of a training: a progress bar and a line an epoch; Ctrl-C asks it to stop at
the next step."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from mdm_jax.cli.progress_bar import EVERY, Watcher, watching


class Display(Watcher):
    """Watches a training."""

    asked = "saving a checkpoint after this step"
    at_once = "the same command goes on from the last checkpoint"

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[now]}"),
        )
        super().__init__(*columns, TimeRemainingColumn())
        self.epoch_steps = self.epochs = 1
        self.drawn = 0.0
        self.doing = ""

    def begins(self, step: int, steps: int, steps_per_epoch: int) -> None:
        """A training begins after `step` of `steps` steps."""
        self.epoch_steps, self.epochs = steps_per_epoch, steps // steps_per_epoch
        self.task = self.bar.add_task("compiling", total=steps, completed=step, now="")

    def enters(self, doing: str) -> None:
        """A stage of a prototype network begins, or goes on where it takes no step for long."""
        self.doing = doing
        if self.task is not None and time.monotonic() - self.drawn > EVERY:
            self.drawn = time.monotonic()
            self.bar.update(self.task, description=doing, now="")

    def stepped(self, step: int, loss: float, rate: float) -> None:
        """A step is done; `rate` in images a second."""
        if self.task is not None and time.monotonic() - self.drawn > EVERY:
            epoch, self.drawn = 1 + (step - 1) // self.epoch_steps, time.monotonic()
            now = f"loss {loss:.3f}, {rate:.0f} images/s"
            self.bar.update(
                self.task,
                completed=step,
                now=now,
                description=self.doing or f"epoch {epoch}/{self.epochs}",
            )


def display() -> AbstractContextManager[Display]:
    """A `Display` while it is drawn and takes the signals that ask a process to end."""
    return watching(Display())
