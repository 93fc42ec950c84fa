"""Rows on the devices: what goes in, what comes out, and never more at once than fits.

A pool takes rows from an iterator as it has room (`fill`) and gives those that are finished
(`take`). `BatchPool` does so for any method, a batch at a time; `continuous_batching.SlotPool` for
methods that proceed in steps, a row at a time."""

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
from mdm_jax.runs.compiled import DeviceProgram, ExplainRequest, ExplainResult

# Between two looks at whether something is computed: a thread that waits inside JAX would not hear
# Ctrl-C.
POLL_SECONDS = 0.002

# Rows that wait to be taken: a folder of unreadable images must not be read to its end at once.
MAX_FINISHED = 1024

# Batches handed to the devices at a time: one is computed while the next lies ready.
MAX_IN_FLIGHT = 2


class QueuedRow(NamedTuple):
    """A request with the number of its row.

    The request is None where there is nothing to ask, such as an image that cannot be read."""

    number: int
    request: ExplainRequest | None


# A row and its result, NumPy arrays.
FinishedRow = tuple[QueuedRow, ExplainResult | None]


@runtime_checkable
class Pool(Protocol):
    """Rows go in as there is room and come out as they are finished."""

    @property
    def busy(self) -> float:
        """Seconds in which the devices were at work."""

    def fill(self, rows: Iterator[QueuedRow]) -> None:
        """Take rows while there is room."""

    def take(self, wanted: range) -> list[FinishedRow]:
        """Finished rows of `wanted`, at least one; others stay.

        Waits for it, so the pool must hold a row of `wanted`."""

    def holds(self, wanted: range) -> bool:
        """Whether any row of `wanted` is there, finished or not."""


class PerDevicePools:
    """Several pools, one for each device group."""

    def __init__(self, pools: Sequence[Pool]):
        self.pools = pools

    @property
    def busy(self) -> float:
        """Mean over the pools."""
        return sum(pool.busy for pool in self.pools) / len(self.pools)

    def fill(self, rows: Iterator[QueuedRow]) -> None:
        """Fill one pool after the other."""
        for pool in self.pools:
            pool.fill(rows)

    def take(self, wanted: range) -> list[FinishedRow]:
        """Finished rows of every pool that holds any of `wanted`."""
        finished: list[FinishedRow] = []
        for pool in self.pools:
            if pool.holds(wanted):
                finished += pool.take(wanted)
        return finished

    def holds(self, wanted: range) -> bool:
        """Whether any pool holds a row of `wanted`."""
        return any(pool.holds(wanted) for pool in self.pools)


class BatchPool:
    """Batches of `size` rows on each device, for any method."""

    def __init__(self, program: DeviceProgram, size: int):
        self.program, self.size = program, size
        self.waiting: deque[QueuedRow] = deque()
        self.in_flight: deque[tuple[list[QueuedRow], ExplainResult]] = deque()
        self.finished: list[FinishedRow] = []
        self.seconds, self.clock = 0.0, time.perf_counter()

    @property
    def busy(self) -> float:
        """Seconds in which a batch was computed."""
        return self.seconds

    def fill(self, rows: Iterator[QueuedRow]) -> None:
        """Hand batches to the devices while there is room."""
        while len(self.in_flight) < MAX_IN_FLIGHT:
            batch = self._next_batch(rows)
            if not batch:
                return
            if not self.in_flight:
                self.clock = time.perf_counter()
            try:
                requests = stack_requests(batch, self._capacity)
                self.in_flight.append((batch, self.program(requests)))
            except jax.errors.JaxRuntimeError as error:
                self._shrink(error, batch)

    def take(self, wanted: range) -> list[FinishedRow]:
        """Finished rows of `wanted`, once there are any."""
        while not any(row.number in wanted for row, _ in self.finished):
            self._finish_batch()
        return take_finished(self.finished, wanted)

    def holds(self, wanted: range) -> bool:
        """Whether a row of `wanted` waits, is computed or is finished."""
        computed = itertools.chain.from_iterable(batch for batch, _ in self.in_flight)
        finished = (row for row, _ in self.finished)
        rows = itertools.chain(self.waiting, computed, finished)
        return any(row.number in wanted for row in rows)

    @property
    def _capacity(self) -> int:
        return self.size * self.program.devices

    def _next_batch(self, rows: Iterator[QueuedRow]) -> list[QueuedRow]:
        batch: list[QueuedRow] = []
        while len(batch) < self._capacity and len(self.finished) < MAX_FINISHED:
            row = self.waiting.popleft() if self.waiting else next(rows, None)
            if row is None:
                break
            if row.request is None:
                self.finished.append((row, None))
            else:
                batch.append(row)
        return batch

    def _finish_batch(self) -> None:
        """Wait for the oldest batch."""
        if not self.in_flight:  # after running out of memory
            self.fill(iter(()))
        batch, results = self.in_flight[0]
        try:
            results = fetch(results)
        except jax.errors.JaxRuntimeError as error:
            self._shrink(error, [])
            return
        self.in_flight.popleft()
        now = time.perf_counter()
        self.seconds, self.clock = self.seconds + now - self.clock, now
        self.finished += [(row, take_result(results, i)) for i, row in enumerate(batch)]

    def _shrink(self, error: Exception, batch: Sequence[QueuedRow]) -> None:
        """Go on with half as many rows at a time, where the memory did not suffice.

        All that was on the devices begins again."""
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
        lost = [row for rows, _ in self.in_flight for row in rows]
        # To the front and in order: the oldest chunk is waited for.
        self.waiting.extendleft(reversed([*lost, *batch]))
        self.in_flight.clear()


def take_finished(finished: list[FinishedRow], wanted: range) -> list[FinishedRow]:
    """The finished rows of `wanted`, which are removed from the list."""
    taken = [each for each in finished if each[0].number in wanted]
    finished[:] = [each for each in finished if each[0].number not in wanted]
    return taken


def fetch(tree: Any) -> Any:
    """Arrays on the host, once they are computed."""
    while not all(leaf.is_ready() for leaf in jax.tree.leaves(tree)):
        time.sleep(POLL_SECONDS)
    return jax.device_get(tree)


def stack_requests(rows: Sequence[QueuedRow], size: int) -> ExplainRequest:
    """The requests of rows as one batch of `size`; the last is repeated where there are fewer."""
    requests: list[Any] = [row.request for row in rows]
    requests += requests[-1:] * (size - len(requests))
    return ExplainRequest(*(np.stack(column) for column in zip(*requests)))


def take_result(results: ExplainResult, i: int) -> ExplainResult:
    """The i-th result of a batch, in memory of its own: the batch's can be freed."""
    return jax.tree.map(lambda leaf: np.array(leaf[i]), results)
