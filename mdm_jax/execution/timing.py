"""Wall time with compilation counted apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax

# Prefix of the events in which JAX reports its time for tracing, lowering and compiling.
COMPILE_EVENTS = "/jax/core/compile/"


# The last of the events of one program; JAX reports none when it begins to compile.
COMPILED = f"{COMPILE_EVENTS}backend_compile_duration"


@dataclass
class Timing:
    """Seconds inside a `stopwatch`."""

    total: float = 0.0
    compiling: float = 0.0
    """of them, those that tracing and compiling took"""

    @property
    def running(self) -> float:
        """Seconds without tracing and compiling."""
        return self.total - self.compiling


@contextmanager
def stopwatch() -> Iterator[Timing]:
    """Time a block; the `Timing` is filled in when the block ends."""
    timing = Timing()
    start = time.perf_counter()
    spans: list[tuple[float, float]] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith(COMPILE_EVENTS):
            end = time.perf_counter()
            spans.append((max(start, end - duration_secs), end))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield timing
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
        timing.total = time.perf_counter() - start
        timing.compiling = _union_length(spans)


class CompilationWatch:
    """Calls `tell(True)` when a program was traced or lowered, which is compiled next, and
    `tell(False)` when it is compiled, until it is stopped."""

    def __init__(self, tell: Callable[[bool], None]) -> None:
        self._tell = tell
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith(COMPILE_EVENTS):
            self._tell(event != COMPILED)

    def stop(self) -> None:
        """Call it no more."""
        jax.monitoring.unregister_event_duration_listener(self._listen)


def _union_length(spans: list[tuple[float, float]]) -> float:
    """Length of the union of spans."""
    # spans overlap: tracing a function also traces those that it calls
    length, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        length += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return length
