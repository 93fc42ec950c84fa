"""A chunk while its rows come in, in whatever order, until it can be written."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mdm_jax.runs import records
from mdm_jax.runs.compiled import Answer
from mdm_jax.runs.plan import Job
from mdm_jax.runs.store import ChunkData
from mdm_jax.types import Status

UNREADABLE, NO_TARGET = "UNREADABLE", "NO_TARGET"
"""statuses of rows without an answer, beside those of `Status`"""
FAILED = (UNREADABLE, NO_TARGET, Status.NOT_FINITE.name)
"""statuses of rows that explain nothing through a fault of the image, the data or the network"""
REASONS = {
    Status.NOT_FINITE: "the network gave NaN or infinite values",
    Status.CONSTANT: (
        "the network gives the same activation for the image, its fill and the masked image"
    ),
}


class Fact(NamedTuple):
    """What is known of a row before it is explained."""

    row: int
    item: int
    rank: int
    id: str
    label: int
    """the network's number of the true class, -1 where it has none"""
    label_name: str | None
    status: str = ""
    """why nothing is explained, UNREADABLE or NO_TARGET; empty otherwise"""
    reason: str = ""


class Assembly:
    """The rows of one chunk."""

    def __init__(self, job: Job, chunk: int):
        self.job, self.chunk, self.rows = job, chunk, job.layout.rows_of(chunk)
        self.records: dict[int, dict[str, Any]] = {}
        self.arrays = {
            name: np.full((len(self.rows), *spec.shape), np.nan, spec.dtype)
            for name, spec in job.specs.items()
        }

    @property
    def full(self) -> bool:
        return len(self.records) == len(self.rows)

    def put(self, fact: Fact, answer: Answer | None) -> None:
        """A row and its answer, None where there is none."""
        record = {name: value for name, value in fact._asdict().items() if value is not None}
        if answer is not None:
            record |= _recorded(answer)
            maps = [] if answer.saliency is None else [answer.saliency]
            for stored, values in zip(self.arrays.values(), [*answer.mask_vectors, *maps]):
                stored[fact.row - self.rows.start] = values
        self.records[fact.row] = record

    def data(self) -> ChunkData:
        vector = self.job.answer.info.activation.ndim > 0
        schema = records.schema(self.job.terms, vector=vector)
        return ChunkData(
            self.chunk, records.table([self.records[row] for row in self.rows], schema), self.arrays
        )


def _recorded(answer: Answer) -> dict[str, Any]:
    info, status = answer.info, Status(int(answer.info.status))
    floats = {
        name: getattr(info, name)
        for name in ("activation", "activation_masked", "activation_fill", "kept_area")
    }
    floats |= {"objective": info.objective, "probability": answer.probability}
    floats |= {f"term_{name}": value for name, value in info.terms.items()}
    whole = {
        name: int(getattr(info, name)) for name in ("target", "steps", "evaluations", "forwards")
    }
    text = {"status": status.name, "reason": REASONS.get(status, "")}
    return (
        {name: _number(value) for name, value in floats.items()}
        | whole
        | {"prediction": int(answer.prediction)}
        | text
    )


def _number(value: Any) -> float | list[float] | None:
    """A number that is missing is null, and so is NaN, which many readers cannot tell from a
    number."""
    if np.ndim(value):
        return np.asarray(value, float).tolist()
    return float(value) if math.isfinite(value) else None
