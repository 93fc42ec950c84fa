"""Time that a training took, and its images a second."""

from __future__ import annotations

import time


class TrainingClock:
    """Seconds of the whole training, and images a second of the pass so far.

    Compiling, measuring and writing count as seconds of the training and not as time of the pass.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.images = 0
        self._busy = 0.0
        self._last = time.perf_counter()

    def tick(self) -> float:
        """Seconds since the last tick, which are added to those of the training."""
        elapsed = time.perf_counter() - self._last
        self.seconds += elapsed
        self._last += elapsed
        return elapsed

    def tick_busy(self) -> None:
        """Count the time since the last tick as time of the pass too."""
        self._busy += self.tick()

    def begin_pass(self) -> None:
        """Begin to count the images of a pass."""
        self.images, self._busy = 0, 0.0

    def speed(self, *, running: bool = False) -> float:
        """Images a second of the pass, `running` with the time since the last tick."""
        busy = self._busy
        if running:
            busy += time.perf_counter() - self._last
        # no time at all where nothing was timed yet
        return self.images / max(busy, 1e-9)
