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
from mdm_jax.runs.batching import Row, arrived, stacked
from mdm_jax.runs.compiled import Question
from mdm_jax.runs.plan import Job

RECORD, FILE = 60, 5500
"""bytes of a row's record, and of a record file without rows, about"""


class Estimate(NamedTuple):
    """What is left of a run."""

    rows: int
    together: int
    """rows in a batch over all devices"""
    compiling: float
    """seconds"""
    batch: float
    """seconds of one batch"""
    seconds: float
    """of all rows; at most, where images may converge earlier"""
    bytes: int
    """of the whole store, before compression"""


def estimate(job: Job, chunks: Sequence[int]) -> Estimate:
    """Time one batch of the first readable image, over and over. Raises InputError where none of a
    chunk can be read."""
    rows = sum(len(job.layout.rows_of(chunk)) for chunk in chunks)
    together = job.micro_batch * sum(program.devices for program in job.programs)
    per_row = RECORD + sum(
        int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in job.specs.values()
    )
    size = per_row * job.layout.rows + FILE * job.layout.chunks
    if not chunks:
        return Estimate(0, together, 0.0, 0.0, 0.0, size)
    with closing(job.items(chunks[:1])) as items:
        image = next((read.image for read in items if read.image is not None), None)
    if image is None:
        raise InputError(
            f"none of the first {job.layout.chunk} images could be read: check the data"
        )
    row = Row(0, Question(image, np.int32(-1), id_numbers([0])[0]))

    def one_batch() -> float:
        start = time.perf_counter()
        parts = [
            program(stacked([row], job.micro_batch * program.devices)) for program in job.programs
        ]
        for part in parts:
            arrived(part)
        return time.perf_counter() - start

    with stopwatch() as timing:
        one_batch()
    seconds = one_batch()
    return Estimate(rows, together, timing.compiling, seconds, seconds * -(-rows // together), size)
