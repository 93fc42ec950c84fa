"""What a person sees of a run: a progress bar with rates and the time that is left; Ctrl-C asks it
to stop after the chunk."""

from __future__ import annotations

import time
from collections import deque
from contextlib import AbstractContextManager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from mdm_jax.cli.progress_bar import EVERY, Watcher, watching

RECENT = 30.0
"""seconds over which rates are taken"""


class Display(Watcher):
    """Watches a run."""

    asked = "finishing this chunk"
    at_once = (
        "the chunk in flight is lost, and the same command goes on from the last one that is"
        " committed"
    )

    def __init__(self) -> None:
        columns = (
            TextColumn("explaining"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[now]}"),
        )
        super().__init__(*columns, TimeRemainingColumn(compact=True), TextColumn("left"))
        self.rows = self.evaluations = 0
        self.looks: deque[tuple[float, int, int]] = deque()

    def begins(self, done: int, total: int) -> None:
        """A run of which `done` of `total` rows are there begins."""
        if done:
            self.says(f"going on: {done} of {total} are there")
        self.task = self.bar.add_task("explaining", total=total, completed=done, now="compiling")
        self.rows = done

    def advanced(self, rows: int, evaluations: int) -> None:
        """Rows are done, with so many network evaluations."""
        self.rows, self.evaluations, now = (
            self.rows + rows,
            self.evaluations + evaluations,
            time.monotonic(),
        )
        if self.task is None or (self.looks and now - self.looks[-1][0] < EVERY):
            return
        self.looks.append((now, self.rows, self.evaluations))
        while now - self.looks[0][0] > RECENT and len(self.looks) > 2:
            self.looks.popleft()
        seconds = now - self.looks[0][0]
        rates = (
            (
                (done - before) / seconds
                for done, before in zip(self.looks[-1][1:], self.looks[0][1:])
            )
            if seconds
            else ()
        )
        shown = ", ".join(
            f"{rate:.1f} {what}/s" for rate, what in zip(rates, ("images", "evaluations"))
        )
        self.bar.update(self.task, completed=self.rows, now=shown)


def display() -> AbstractContextManager[Display]:
    """A `Display` while it is drawn and takes the signals that ask a process to end."""
    return watching(Display())
