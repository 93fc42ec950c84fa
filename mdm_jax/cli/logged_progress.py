"""The progress of a command, shown to people and written into the log of `--log-json`."""

from __future__ import annotations

import math
import time
from typing import Any

from mdm_jax.cli.event_log import EventLog
from mdm_jax.cli.progress_bar import ProgressBar
from mdm_jax.cli.progress_lines import Heartbeat, Pace

# Between two lines of a task's progress.
PROGRESS_SECONDS = 10.0


class LoggedProgress:
    """A bar, and the log that tells the same (a `mdm_jax.progress.Progress`)."""

    def __init__(self, bar: ProgressBar, log: EventLog) -> None:
        self.bar, self.log = bar, log
        self._task: str | None = None
        self._stage: str | None = None
        self._measures: dict[str, float] = {}
        self._pace = Pace(0, 0)
        self._written = 0.0
        self._heart: Heartbeat | None = None
        # One of both is enough where they go to the same place.
        bar.console.quiet = log.is_on_stderr

    @property
    def lost(self) -> str:
        """What happens after the second Ctrl-C."""
        return self.bar.lost

    def begin(self, task: str, total: int, done: int = 0) -> None:
        self.end()
        self.bar.begin(task, total, done)
        self._task, self._stage, self._measures = task, None, {}
        self._pace = Pace(total, done)
        self._write("begin")
        if self.log.is_open:
            self._heart = Heartbeat(PROGRESS_SECONDS, self._write_when_due)

    def advance(self, done: int, **measures: float) -> None:
        self.bar.advance(done, **measures)
        self._measures = measures
        self._pace.advance(done)
        self._write_when_due()

    def describe(self, stage: str) -> None:
        self.bar.describe(stage)
        self._stage = stage

    def say(self, sentence: str) -> None:
        self.bar.say(sentence)
        self.log.write("message", message=sentence)

    def end(self) -> None:
        self.bar.end()
        if self._heart is not None:
            self._heart.stop()
        if self._task is not None:
            self._write("end")
        self._task = self._heart = None

    def wants_stop(self) -> bool:
        return self.bar.wants_stop()

    def request_stop(self) -> None:
        """Make `wants_stop` true from now on, and say so."""
        self.bar.stop = True
        self.say(f"{self.bar.stopping} (press Ctrl-C again to stop at once)")

    def _write_when_due(self) -> None:
        """Called by two threads, of which one may end the task."""
        if self._task is not None and time.monotonic() - self._written >= PROGRESS_SECONDS:
            self._write("progress")

    def _write(self, event: str) -> None:
        self._written = time.monotonic()
        pace = self._pace
        values: dict[str, Any] = {
            "task": self._task,
            "stage": "compiling" if self.bar.is_compiling else self._stage,
            "done": pace.done,
            "total": pace.total,
            "rate": _rounded(pace.rate),
            "seconds_left": _rounded(pace.seconds_left),
            "seconds": _rounded(pace.seconds),
            "measures": {name: _rounded(each) for name, each in self._measures.items()},
        }
        self.log.write(event, **values)


def _rounded(value: float | None) -> float | None:
    """As JSON has it: no NaN, no infinity, and no more digits than anybody reads."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
