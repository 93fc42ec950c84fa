"""What a person sees of a training: a progress bar and a line an epoch; Ctrl-C asks it to stop at the next step."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

EVERY = 0.2
"""seconds between two looks of the bar"""
ASKING = ("SIGINT", "SIGTERM", "SIGHUP")
"""signals that ask a process to end: Ctrl-C, the system, a terminal that is closed (not everywhere)"""


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

    def ask(self, number: int, frame: Any) -> None:
        """The handler of signals: the first asks, the second ends at once."""
        if self.stop:
            raise KeyboardInterrupt("stopped at once: the same command goes on from the last checkpoint")
        self.stop = True
        self.says("saving a checkpoint after this step (press Ctrl-C again to stop at once)")


@contextmanager
def display() -> Iterator[Display]:
    """A `Display` while it is drawn and takes the signals that ask a process to end."""
    shown = Display()
    mine = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in ASKING if hasattr(signal, name)] if mine else []
    before = {number: signal.signal(number, shown.ask) for number in numbers}
    try:
        with shown.bar:
            yield shown
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
