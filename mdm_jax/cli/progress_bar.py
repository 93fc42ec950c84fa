"""Progress on standard error: a bar where it is a terminal, else a line a minute; sentences, and
Ctrl-C that asks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mdm_jax.cli.signals import interrupts
from mdm_jax.text_files import printable

# Between two updates of a bar: work that advances a thousand times a second must not wait.
REDRAW_SECONDS = 0.2

# Over which the rates of a run are averaged.
RATE_SECONDS = 30.0

# Between two lines where standard error is no terminal, such as the log of a job.
LINE_SECONDS = 60.0

Bar = TypeVar("Bar", bound="ProgressBar")


class Lines:
    """The progress of one task as lines for a log."""

    def __init__(self, stage: str, total: int, done: int) -> None:
        self.stage, self.total, self.first = stage, total, done
        self.began = self.written = time.monotonic()

    def due(self, done: int, rates: str) -> str:
        """The next line, where it is time for one: what is done, the rate, the time left."""
        now = time.monotonic()
        if now - self.written < LINE_SECONDS:
            return ""
        self.written = now
        parts = [f"{self.stage}: {done} of {self.total}"]
        if rates:
            parts.append(rates)
        if done > self.first:
            minutes = (now - self.began) / (done - self.first) * (self.total - done) / 60
            parts.append(f"about {max(1, round(minutes))} min left")
        return ", ".join(parts)


class ProgressBar:
    """A bar for one task after the other (a `mdm_jax.progress.Progress`)."""

    stopping: ClassVar[str] = "stopping"
    """what happens after the first Ctrl-C"""
    lost: ClassVar[str] = "what is not finished is lost"
    """what happens after the second"""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.stop = False
        self._bar: Progress | None = None
        self._lines: Lines | None = None
        self._task = TaskID(0)

    def columns(self) -> tuple[ProgressColumn, ...]:
        return (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )

    def begin(self, task: str, total: int, done: int = 0) -> None:
        self.end()
        if not self.console.is_terminal:
            self._lines = Lines(task, total, done)
            return
        self._bar = Progress(*self.columns(), console=self.console, transient=True)
        self._task = self._bar.add_task(
            printable(task), total=total, completed=done, rates=""
        )
        self._bar.start()

    def advance(self, done: int, **measures: float) -> None:
        self.draw(done)

    def draw(self, done: int, rates: str = "") -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, rates=rates)
        if self._lines is not None:
            line = self._lines.due(done, rates)
            if line:
                self.say(line)

    def describe(self, stage: str) -> None:
        if self._lines is not None:
            self._lines.stage = stage
        if self._bar is not None:
            self._bar.update(self._task, description=printable(stage))

    def say(self, sentence: str) -> None:
        self.console.print(
            printable(sentence), highlight=False, markup=False, soft_wrap=True
        )

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._lines = None

    def wants_stop(self) -> bool:
        return self.stop

    def request_stop(self) -> None:
        """Make `wants_stop` true from now on, and say so."""
        self.stop = True
        self.say(f"{self.stopping} (press Ctrl-C again to stop at once)")


class RunBar(ProgressBar):
    """The bar of a run: images and network evaluations a second, and the time that is left."""

    stopping = "finishing this chunk"
    lost = (
        "the chunk in flight is lost, and the same command goes on from the last one that is"
        " committed"
    )

    def columns(self) -> tuple[ProgressColumn, ...]:
        return (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
        )

    def begin(self, task: str, total: int, done: int = 0) -> None:
        if done:
            self.say(f"going on: {done} of {total} are there")
        super().begin(task, total, done)
        self.draw(done, "compiling")
        self._samples: deque[tuple[float, float, float]] = deque()
        """time in seconds, images and evaluations: the last `RATE_SECONDS` of them"""

    def advance(self, done: int, **measures: float) -> None:
        now, samples = time.monotonic(), self._samples
        if samples and now - samples[-1][0] < REDRAW_SECONDS:
            return
        samples.append((now, done, measures.get("evaluations", 0.0)))
        while now - samples[0][0] > RATE_SECONDS and len(samples) > 2:
            samples.popleft()
        before, images, evaluations = samples[0]
        seconds = now - before
        rates = ""
        if seconds:
            image_rate = (samples[-1][1] - images) / seconds
            evaluation_rate = (samples[-1][2] - evaluations) / seconds
            rates = f"{image_rate:.1f} images/s, {evaluation_rate:.1f} evaluations/s"
        self.draw(done, rates)


class TrainingBar(ProgressBar):
    """The bar of a training: its stage, the loss and the images a second."""

    stopping = "saving a checkpoint after this step"
    lost = "the same command goes on from the last checkpoint"

    def __init__(self) -> None:
        super().__init__()
        self._drawn = 0.0
        self._stage = self._rates = ""
        self._steps = 0

    def columns(self) -> tuple[ProgressColumn, ...]:
        return (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            TimeRemainingColumn(),
        )

    def begin(self, task: str, total: int, done: int = 0) -> None:
        super().begin(task, total, done)
        self._stage, self._steps = task, done

    def advance(self, done: int, **measures: float) -> None:
        self._steps = done
        self._rates = f"loss {measures['loss']:.3f}, {measures['rate']:.0f} images/s"
        self._redraw()

    def describe(self, stage: str) -> None:
        # A push passes through thousands of images without a step; its stage names the image.
        self._stage = stage
        self._redraw()

    def _redraw(self) -> None:
        now = time.monotonic()
        if now - self._drawn > REDRAW_SECONDS:
            self._drawn = now
            super().describe(self._stage)
            self.draw(self._steps, self._rates)


@contextmanager
def stoppable(bar: Bar) -> Iterator[Bar]:
    """The bar, while the first Ctrl-C asks the work to stop and the second ends it at once."""
    with interrupts(bar.request_stop, f"stopped at once: {bar.lost}"):
        try:
            yield bar
        finally:
            bar.end()
