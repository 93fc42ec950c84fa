"""The folder of a sweep: sweep.json says what every point has in common, points/IDENTITY.parquet
holds what one gave.

A point's file is written whole or not at all, so it is the mark that the point is finished. It is
found by its settings as
written: other points in the same folder add to what is there.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mdm_jax.errors import InputError
from mdm_jax.evaluation.statistics import Measured
from mdm_jax.images import printable
from mdm_jax.runs.records import DAMAGED, KEY
from mdm_jax.storage import part_names, workspace
from mdm_jax.storage.atomic import write_whole
from mdm_jax.storage.differences import differences, flat
from mdm_jax.storage.stored_format import upgrade
from mdm_jax.sweeps.point_result import PointResult
from mdm_jax.sweeps.points import Point

DESCRIPTION, POINTS = "sweep.json", "points"


@dataclasses.dataclass(frozen=True)
class Folder:
    """Where the points of a sweep are kept; None keeps nothing."""

    place: Path | None

    def read(self, point: Point) -> PointResult | None:
        """What the point gave; None where it is not finished. Raises InputError for a damaged file,
        or other settings."""
        if self.place is None or not (path := self._path(point)).exists():
            return None
        outcome, config = decode(path)
        now = described(point)
        before = upgrade(config, now, part_names.defaults_of(point.config, "config."))
        if changed := differences(before, now):
            raise InputError(
                f"{printable(path)} was made when these settings meant another config"
                f" ({', '.join(changed)}): choose another folder with --out, or remove that file"
            )
        return outcome

    def write(self, point: Point, outcome: PointResult) -> None:
        if self.place is not None:
            table = encode(point, outcome)
            write_whole(
                self._path(point), lambda file: pq.write_table(table, file, compression="zstd")
            )

    def _path(self, point: Point) -> Path:
        assert self.place is not None
        return self.place / POINTS / f"{point.identity}.parquet"


@contextmanager
def opened(
    out: Path | None, record: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Iterator[Folder]:
    """The folder of a sweep for this process alone; `record` and `defaults` are those of
    `workspace.begin`.

    Raises InputError for one of another sweep, with every difference."""
    with workspace.opened(out, "sweep") if out is not None else nullcontext() as place:
        if place is not None:
            foreign = [each.name for each in place.iterdir() if not each.name.startswith(".")]
            if foreign and not (place / DESCRIPTION).exists():
                raise InputError(
                    f"{printable(place)} holds no sweep but {foreign[0]}: choose another folder"
                    " with --out"
                )
            made = f"{POINTS}/*.parquet"
            workspace.begin(place, DESCRIPTION, record, "a sweep", made, defaults)
            workspace.make(place / POINTS)
        yield Folder(place)


def described(point: Point) -> dict[str, Any]:
    """A point's whole config and node in plain values, by dotted name."""
    return dict(flat(part_names.describe({"node": point.node, "config": point.config})))


def encode(point: Point, outcome: PointResult) -> pa.Table:
    """A row an image: diagnostics, and each metric's statistics as a list, null where the image has
    no truth."""
    columns: dict[str, Any] = dict(outcome.diagnostics)
    shapes = {}
    for name, (statistics, rows) in outcome.measured.items():
        lists: list[Any] = [None] * len(outcome.diagnostics["status"])
        for row, values in zip(rows, np.asarray(statistics, np.float64).reshape(len(rows), -1)):
            lists[row] = values
        columns[name] = pa.array(lists, pa.list_(pa.float64()))
        shapes[name] = {"shape": statistics.shape[1:], "dtype": str(statistics.dtype)}
    told = {
        "settings": point.settings,
        "config": described(point),
        "metrics": shapes,
        "notes": dict(outcome.notes),
    }
    return pa.table(columns).replace_schema_metadata({KEY: json.dumps(told).encode()})


def decode(path: Path) -> tuple[PointResult, dict[str, Any]]:
    """A point's file: what it gave, and its config as `described`. Raises InputError for a damaged
    file."""
    try:
        table = pq.read_table(path, partitioning=None)
        told = json.loads(table.schema.metadata[KEY])
        measured = {}
        for name, kept in told["metrics"].items():
            lists = table[name].to_pylist()
            rows = np.asarray([row for row, values in enumerate(lists) if values is not None], int)
            statistics = np.asarray([lists[row] for row in rows], kept["dtype"]).reshape(
                len(rows), *kept["shape"]
            )
            measured[name] = Measured(statistics, rows)
        diagnostics = {
            name: table[name].to_numpy()
            for name in table.column_names
            if name not in told["metrics"]
        }
        return PointResult(diagnostics, measured, told["notes"]), told["config"]
    except DAMAGED as error:
        raise InputError(
            f"{printable(path)} is damaged: remove it to compute the point again"
        ) from error
