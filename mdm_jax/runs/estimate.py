"""What a run will cost, from one batch that is timed and thrown away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np

from mdm_jax.errors import InputError
from mdm_jax.execution.keys import id_numbers
from mdm_jax.execution.timing import stopwatch
from mdm_jax.runs.batching import QueuedRow, fetch, stack_requests
from mdm_jax.runs.compiled import ExplainRequest
from mdm_jax.runs.plan import RunPlan

# Of a row's record, and of a record file without rows, about.
RECORD_BYTES, FILE_BYTES = 60, 5500


class Estimate(NamedTuple):
    """What is left of a run."""

    rows: int
    batch_rows: int
    """rows in a batch over all devices"""
    compiling: float
    """seconds"""
    batch: float
    """seconds of one batch"""
    seconds: float
    """of all rows; at most, where images may converge earlier"""
    bytes: int
    """of the whole store, before compression"""


def estimate(plan: RunPlan, chunks: Sequence[int]) -> Estimate:
    """Time one batch of the first readable image, over and over.

    Raises InputError where no image of the first chunk can be read."""
    layout, programs = plan.layout, plan.programs
    rows = sum(len(layout.rows_of(chunk)) for chunk in chunks)
    batch_rows = plan.micro_batch * sum(program.devices for program in programs)
    row_bytes = RECORD_BYTES
    for spec in plan.specs.values():
        row_bytes += int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
    size = row_bytes * layout.rows + FILE_BYTES * layout.chunks
    if not chunks:
        return Estimate(0, batch_rows, 0.0, 0.0, 0.0, size)
    with closing(plan.items(chunks[:1])) as items:
        image = next((read.image for read in items if read.image is not None), None)
    if image is None:
        raise InputError(
            f"none of the first {layout.chunk} images could be read: check the data"
        )
    row = QueuedRow(0, ExplainRequest(image, np.int32(-1), id_numbers([0])[0]))

    def time_batch() -> float:
        start = time.perf_counter()
        # All groups are started before one is waited for, as in a run.
        results = [
            program(stack_requests([row], plan.micro_batch * program.devices))
            for program in programs
        ]
        for result in results:
            fetch(result)
        return time.perf_counter() - start

    with stopwatch() as timing:
        time_batch()  # compiles
    seconds = time_batch()
    batches = -(-rows // batch_rows)
    return Estimate(rows, batch_rows, timing.compiling, seconds, seconds * batches, size)
