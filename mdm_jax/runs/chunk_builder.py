"""A chunk while its rows come in, in whatever order, until it can be written."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mdm_jax.runs import records
from mdm_jax.runs.compiled import ExplainResult
from mdm_jax.runs.plan import RunPlan
from mdm_jax.runs.store import ChunkData
from mdm_jax.types import REASONS, Status

# Statuses of rows without a result, beside those of `Status`.
UNREADABLE, NO_TARGET = "UNREADABLE", "NO_TARGET"

# Statuses of rows that explain nothing through a fault of the image, the data or the network.
FAILED = (UNREADABLE, NO_TARGET, Status.NOT_FINITE.name)
FLOATS = ("activation", "activation_masked", "activation_fill", "kept_area", "objective")

# Fields of `Info` that a record holds.
INTEGERS = ("target", "steps", "evaluations", "forwards")


class RowInfo(NamedTuple):
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


class ChunkBuilder:
    """The rows of one chunk."""

    def __init__(self, plan: RunPlan, chunk: int):
        self.plan, self.chunk = plan, chunk
        self.rows = plan.layout.rows_of(chunk)
        self.records: dict[int, dict[str, Any]] = {}
        # Rows without a result stay NaN.
        self.arrays = {
            name: np.full((len(self.rows), *spec.shape), np.nan, spec.dtype)
            for name, spec in plan.specs.items()
        }

    @property
    def is_complete(self) -> bool:
        """Whether every row is there."""
        return len(self.records) == len(self.rows)

    def add(self, info: RowInfo, result: ExplainResult | None) -> None:
        """Add a row and its result, None where there is none."""
        record = {
            name: value for name, value in info._asdict().items() if value is not None
        }
        if result is not None:
            record |= _record_of(result)
            maps = [each for each in (result.saliency, result.evidence) if each is not None]
            # In the order of `arrays.specs`.
            kept = [*result.mask_vectors, *maps]
            for array, values in zip(self.arrays.values(), kept, strict=True):
                array[info.row - self.rows.start] = values
        self.records[info.row] = record

    def build(self) -> ChunkData:
        """The complete chunk, as it is written."""
        vector = self.plan.result.info.activation.ndim > 0
        schema = records.schema(self.plan.terms, vector=vector)
        table = records.table([self.records[row] for row in self.rows], schema)
        return ChunkData(self.chunk, table, self.arrays)


def _record_of(result: ExplainResult) -> dict[str, Any]:
    """What a record says of a result."""
    info, status = result.info, Status(int(result.info.status))
    record: dict[str, Any] = {name: _number(getattr(info, name)) for name in FLOATS}
    record |= {f"term_{name}": _number(value) for name, value in info.terms.items()}
    record |= {name: int(getattr(info, name)) for name in INTEGERS}
    record |= {
        "prediction": int(result.prediction),
        "probability": _number(result.probability),
        "status": status.name,
        "reason": REASONS.get(status, ""),
    }
    return record


def _number(value: Any) -> float | list[float] | None:
    """A number, or several; null where it is missing or NaN, which many readers cannot tell from a
    number."""
    if np.ndim(value):
        return np.asarray(value, float).tolist()
    return float(value) if math.isfinite(value) else None
