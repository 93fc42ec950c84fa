"""What a person sees of a training: a progress bar and a line an epoch; Ctrl-C asks it to stop at the next step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mdm_jax.interrupts import interrupts

EVERY = 0.2
"""seconds between two looks of the bar"""


class Display:
    """Watches a training on standard error, where a bar is drawn if it is a terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[now]}")
        hidden = not self.console.is_terminal
        self.bar = Progress(*columns, TimeRemainingColumn(), console=self.console, disable=hidden, transient=True)
        self.task: TaskID | None = None
        self.epoch_steps = self.epochs = 1
        self.drawn = 0.0
        self.stop = False

    def begins(self, step: int, steps: int, steps_per_epoch: int) -> None:
        """A training begins after `step` of `steps` steps."""
        self.epoch_steps, self.epochs = steps_per_epoch, steps // steps_per_epoch
        self.task = self.bar.add_task("compiling", total=steps, completed=step, now="")

    def stepped(self, step: int, loss: float, rate: float) -> None:
        """A step is done; `rate` in images a second."""
        if self.task is not None and time.monotonic() - self.drawn > EVERY:
            epoch, self.drawn = 1 + (step - 1) // self.epoch_steps, time.monotonic()
            now = f"loss {loss:.3f}, {rate:.0f} images/s"
            self.bar.update(self.task, completed=step, now=now, description=f"epoch {epoch}/{self.epochs}")

    def says(self, sentence: str) -> None:
        """A sentence to keep on the screen."""
        self.console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def wants_stop(self) -> bool:
        """Whether Ctrl-C was pressed, or the process was asked to end."""
        return self.stop

    def ask(self) -> None:
        """Take note that the process was asked to stop."""
        self.stop = True
        self.says("saving a checkpoint after this step (press Ctrl-C again to stop at once)")


@contextmanager
def display() -> Iterator[Display]:
    """A `Display` while it is drawn and takes the signals that ask a process to end."""
    shown = Display()
    with interrupts(shown.ask, "stopped at once: the same command goes on from the last checkpoint"), shown.bar:
        yield shown
