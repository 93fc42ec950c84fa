"""Rows on the devices: what goes in, what comes out, and never more at once than fits.

A pool takes rows from an iterator as it has room (`fill`) and gives those that are done (`take`).
`Batches` does so for any method, a batch at a time; `Slots` (in slots.py) for methods that proceed
in steps, a row at a time."""

from __future__ import annotations

import itertools
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from mdm_jax.errors import InputError
from mdm_jax.execution.micro_batches import OUT_OF_MEMORY
from mdm_jax.runs.compiled import Answer, Program, Question

PAUSE = 0.002
"""seconds between two looks at whether something is computed: a thread that waits inside JAX would
not hear Ctrl-C"""
LANDED = 1024
"""rows that wait to be taken, at most: a folder of unreadable images must not be read to its end at
once"""
FLIGHTS = 2
"""batches handed to the devices at a time: one is computed while the next lies ready"""


class Row(NamedTuple):
    """A question with the number of its row; None where there is nothing to ask, such as an image
    that cannot be read."""

    number: int
    question: Question | None


Done = tuple[Row, Answer | None]
"""a row and its answer, NumPy arrays"""


@runtime_checkable
class Pool(Protocol):
    """Rows go in as there is room and come out as they are done."""

    @property
    def busy(self) -> float:
        """Seconds in which the devices were at work."""

    def fill(self, rows: Iterator[Row]) -> None:
        """Take rows while there is room."""

    def take(self, wanted: range) -> list[Done]:
        """Rows of `wanted`, of which it holds some, that are done, at least one; waits for it.
        Others stay."""

    def holds(self, wanted: range) -> bool:
        """Whether any row of `wanted` is there, done or not."""


class SideBySide:
    """Several pools, one for each team of devices."""

    def __init__(self, pools: Sequence[Pool]):
        self.pools = pools

    @property
    def busy(self) -> float:
        return sum(pool.busy for pool in self.pools) / len(self.pools)

    def fill(self, rows: Iterator[Row]) -> None:
        for pool in self.pools:
            pool.fill(rows)

    def take(self, wanted: range) -> list[Done]:
        return [done for pool in self.pools if pool.holds(wanted) for done in pool.take(wanted)]

    def holds(self, wanted: range) -> bool:
        return any(pool.holds(wanted) for pool in self.pools)


class Batches:
    """Batches of `size` rows on each device, for any method."""

    def __init__(self, program: Program, size: int):
        self.program, self.size = program, size
        self.waiting: deque[Row] = deque()
        self.flights: deque[tuple[list[Row], Answer]] = deque()
        self.landed: list[Done] = []
        self.seconds, self.clock = 0.0, time.perf_counter()

    @property
    def busy(self) -> float:
        return self.seconds

    def fill(self, rows: Iterator[Row]) -> None:
        while len(self.flights) < FLIGHTS:
            batch = self._next_batch(rows)
            if not batch:
                return
            if not self.flights:
                self.clock = time.perf_counter()
            try:
                self.flights.append(
                    (batch, self.program(stacked(batch, self.size * self.program.devices)))
                )
            except jax.errors.JaxRuntimeError as error:
                self._shrink(error, batch)

    def take(self, wanted: range) -> list[Done]:
        while not any(row.number in wanted for row, _ in self.landed):
            self._land()
        done = [each for each in self.landed if each[0].number in wanted]
        self.landed = [each for each in self.landed if each[0].number not in wanted]
        return done

    def holds(self, wanted: range) -> bool:
        aboard = itertools.chain(
            self.waiting, *(flight for flight, _ in self.flights), (row for row, _ in self.landed)
        )
        return any(row.number in wanted for row in aboard)

    def _next_batch(self, rows: Iterator[Row]) -> list[Row]:
        batch: list[Row] = []
        while len(batch) < self.size * self.program.devices and len(self.landed) < LANDED:
            row = self.waiting.popleft() if self.waiting else next(rows, None)
            if row is None:
                break
            if row.question is None:
                self.landed.append((row, None))
            else:
                batch.append(row)
        return batch

    def _land(self) -> None:
        if not self.flights:  # after running out of memory
            self.fill(iter(()))
        batch, answers = self.flights[0]
        try:
            answers = arrived(answers)
        except jax.errors.JaxRuntimeError as error:
            self._shrink(error, [])
            return
        self.flights.popleft()
        self.seconds, self.clock = (
            self.seconds + time.perf_counter() - self.clock,
            time.perf_counter(),
        )
        self.landed += [(row, one_of(answers, i)) for i, row in enumerate(batch)]

    def _shrink(self, error: Exception, batch: Sequence[Row]) -> None:
        """Out of memory: half as many at a time, beginning again with all that was on the
        devices."""
        if OUT_OF_MEMORY not in str(error):
            raise error
        if self.size == 1:
            raise InputError(
                "the device has not enough memory for a single image: use a smaller network or"
                " image size, or bfloat16"
            ) from error
        self.size //= 2
        warnings.warn(
            f"out of memory: going on with {self.size} images at a time",
            RuntimeWarning,
            stacklevel=4,
        )
        aboard = [row for flight, _ in self.flights for row in flight]
        self.waiting.extendleft(reversed([*aboard, *batch]))
        self.flights.clear()


def arrived(tree: Any) -> Any:
    """Arrays on the host, once they are computed."""
    while not all(leaf.is_ready() for leaf in jax.tree.leaves(tree)):
        time.sleep(PAUSE)
    return jax.device_get(tree)


def stacked(rows: Sequence[Row], size: int) -> Question:
    """The questions of rows as one batch of `size`; the last is repeated where there are fewer."""
    questions: list[Any] = [row.question for row in rows]
    questions += questions[-1:] * (size - len(questions))
    return Question(*(np.stack(column) for column in zip(*questions)))


def one_of(answers: Answer, i: int) -> Answer:
    """The i-th answer of a batch, in memory of its own."""
    return jax.tree.map(lambda leaf: np.array(leaf[i]), answers)
