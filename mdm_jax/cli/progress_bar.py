"""Progress on standard error: a bar where it is a terminal, else a line a minute; sentences, and
Ctrl-C that asks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

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

from mdm_jax.cli.progress_lines import LINE_SECONDS, Heartbeat, Lines
from mdm_jax.cli.signals import interrupts
from mdm_jax.execution.timing import CompilationWatch
from mdm_jax.text_files import printable

# Between two updates of a bar: work that advances a thousand times a second must not wait.
REDRAW_SECONDS = 0.2

# Over which the rates of a run are averaged.
RATE_SECONDS = 30.0


@runtime_checkable
class Stoppable(Protocol):
    """Progress that can be asked to stop the work."""

    @property
    def lost(self) -> str:
        """What happens to the work that is stopped at once."""

    def request_stop(self) -> None: ...
    def end(self) -> None: ...


Bar = TypeVar("Bar", bound=Stoppable)


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
        self._stage = self._rates = ""
        self._done = 0
        self.is_compiling = False
        self._ends: list[Callable[[], None]] = []
        """of what listens and beats while a task goes on"""

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
        self._stage, self._done, self._rates = task, done, ""
        self._ends.append(CompilationWatch(self._tell_compiling).stop)
        if not self.console.is_terminal:
            self._lines = Lines(task, total, done)
            self._ends.append(Heartbeat(LINE_SECONDS, self._write_line).stop)
            return
        self._bar = Progress(*self.columns(), console=self.console, transient=True)
        self._task = self._bar.add_task(
            printable(task), total=total, completed=done, rates=""
        )
        self._bar.start()

    def advance(self, done: int, **measures: float) -> None:
        self.draw(done)

    def draw(self, done: int, rates: str = "") -> None:
        self._done, self._rates = done, rates
        if self.is_compiling:
            self._tell_compiling(False)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, rates=rates)
        self._write_line()

    def describe(self, stage: str) -> None:
        self._stage = stage
        if self._lines is not None:
            self._lines.stage = stage
        if self._bar is not None:
            what = f"{stage}, compiling" if self.is_compiling else stage
            self._bar.update(self._task, description=printable(what))

    def _tell_compiling(self, is_compiling: bool) -> None:
        if is_compiling != self.is_compiling:
            self.is_compiling = is_compiling
            ProgressBar.describe(self, self._stage)

    def _write_line(self) -> None:
        """Called by two threads, of which one may end the task."""
        lines = self._lines
        if lines is None:
            return
        line = lines.due(self._done, self._rates, is_compiling=self.is_compiling)
        if line:
            self.say(line)

    def say(self, sentence: str) -> None:
        self.console.print(
            printable(sentence), highlight=False, markup=False, soft_wrap=True
        )

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._lines = None
        while self._ends:
            self._ends.pop()()
        self.is_compiling = False

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

    def columns(self) -> tuple[ProgressColumn, ...]:
        return (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            TimeRemainingColumn(),
        )

    def advance(self, done: int, **measures: float) -> None:
        self._done = done
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
            self.draw(self._done, self._rates)


@contextmanager
def stoppable(bar: Bar) -> Iterator[Bar]:
    """The bar, while the first Ctrl-C asks the work to stop and the second ends it at once."""
    with interrupts(bar.request_stop, f"stopped at once: {bar.lost}"):
        try:
            yield bar
        finally:
            bar.end()
