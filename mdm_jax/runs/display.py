"""What a person sees of a run: a progress bar with rates and the time that is left; Ctrl-C asks it to stop after the chunk."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mdm_jax.interrupts import interrupts

EVERY = 0.2
"""seconds between two looks of the bar"""
RECENT = 30.0
"""seconds over which rates are taken"""


class Display:
    """Watches a run on standard error, where a bar is drawn if it is a terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        columns = TextColumn("explaining"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[now]}")
        hidden = not self.console.is_terminal
        left = TimeRemainingColumn(compact=True)
        self.bar = Progress(*columns, left, TextColumn("left"), console=self.console, disable=hidden, transient=True)
        self.task: TaskID | None = None
        self.rows = self.evaluations = 0
        self.looks: deque[tuple[float, int, int]] = deque()
        self.stop = False

    def begins(self, done: int, total: int) -> None:
        """A run of which `done` of `total` rows are there begins."""
        if done:
            self.says(f"going on: {done} of {total} are there")
        self.task = self.bar.add_task("explaining", total=total, completed=done, now="compiling")
        self.rows = done

    def advanced(self, rows: int, evaluations: int) -> None:
        """Rows are done, with so many network evaluations."""
        self.rows, self.evaluations, now = self.rows + rows, self.evaluations + evaluations, time.monotonic()
        if self.task is None or (self.looks and now - self.looks[-1][0] < EVERY):
            return
        self.looks.append((now, self.rows, self.evaluations))
        while now - self.looks[0][0] > RECENT and len(self.looks) > 2:
            self.looks.popleft()
        seconds = now - self.looks[0][0]
        rates = ((done - before) / seconds for done, before in zip(self.looks[-1][1:], self.looks[0][1:])) if seconds else ()
        shown = ", ".join(f"{rate:.1f} {what}/s" for rate, what in zip(rates, ("images", "evaluations")))
        self.bar.update(self.task, completed=self.rows, now=shown)

    def says(self, sentence: str) -> None:
        """A sentence to keep on the screen."""
        self.console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def wants_stop(self) -> bool:
        """Whether Ctrl-C was pressed, or the process was asked to end."""
        return self.stop

    def ask(self) -> None:
        """Take note that the process was asked to stop."""
        self.stop = True
        self.says("finishing this chunk (press Ctrl-C again to stop at once)")


@contextmanager
def display() -> Iterator[Display]:
    """A `Display` while it is drawn and takes the signals that ask a process to end."""
    shown = Display()
    second = "stopped at once: the chunk in flight is lost, and the same command goes on from the last one that is committed"
    with interrupts(shown.ask, second), shown.bar:
        yield shown
