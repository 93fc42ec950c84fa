"""Wall time with compilation counted apart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax


@dataclass
class Timing:
    """Seconds inside a `stopwatch`: all of them, and those that tracing and compiling took."""

    total: float = 0.0
    compiling: float = 0.0

    @property
    def running(self) -> float:
        return self.total - self.compiling


@contextmanager
def stopwatch() -> Iterator[Timing]:
    """Time a block, filled in when the block ends; JAX reports what it spent on tracing, lowering
    and compiling."""
    timing, start, spans = Timing(), time.perf_counter(), []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            end = time.perf_counter()
            spans.append((max(start, end - duration_secs), end))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield timing
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
        timing.total = time.perf_counter() - start
        timing.compiling = _covered(spans)


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of spans: tracing a function traces those that it calls, and must not
    count twice."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered
