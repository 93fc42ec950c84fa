"""Progress for logs: how fast a task is, and a line a minute, even while nothing advances."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Between two lines where standard error is no terminal, such as the log of a job.
LINE_SECONDS = 60.0


class Pace:
    """How fast a task is, from its first advance on: what comes before it is mostly compilation."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.began = total, done, time.monotonic()
        self._start: tuple[float, int] | None = None
        """time and items of the first advance"""

    def advance(self, done: int) -> None:
        """So many items are done in all."""
        if self._start is None and done > self.done:
            self._start = time.monotonic(), done
        self.done = done

    @property
    def seconds(self) -> float:
        """Since the task began."""
        return time.monotonic() - self.began

    @property
    def rate(self) -> float | None:
        """Items a second; None before the second advance."""
        if self._start is None:
            return None
        began, first = self._start
        seconds = time.monotonic() - began
        return (self.done - first) / seconds if self.done > first and seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Until the task ends at this pace; None before the second advance."""
        rate = self.rate
        return None if rate is None else max(self.total - self.done, 0) / rate


class Lines:
    """The progress of one task as lines of text."""

    def __init__(self, stage: str, total: int, done: int) -> None:
        self.stage, self.pace = stage, Pace(total, done)
        self.written = self.pace.began

    def due(self, done: int, rates: str, *, is_compiling: bool = False) -> str:
        """The next line, where it is time for one: what is done, the rate, the time left."""
        pace, now = self.pace, time.monotonic()
        pace.advance(done)
        if now - self.written < LINE_SECONDS or done >= pace.total:
            return ""
        self.written = now
        parts = [f"{self.stage}: {done} of {pace.total}"]
        if is_compiling:
            parts.append("compiling")
        elif rates:
            parts.append(rates)
        left = pace.seconds_left
        if left is None:
            parts.append(f"{_minutes(pace.seconds)} so far")
        else:
            parts.append(f"about {_minutes(left)} left")
        return ", ".join(parts)


class Heartbeat:
    """Calls a function every so many seconds until it is stopped: XLA may compile for minutes."""

    def __init__(self, seconds: float, beat: Callable[[], None]) -> None:
        self._seconds, self._beat, self._ended = seconds, beat, threading.Event()
        threading.Thread(target=self._run, name="progress", daemon=True).start()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._beat()

    def stop(self) -> None:
        """Call it no more."""
        self._ended.set()


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds / 60))} min"
