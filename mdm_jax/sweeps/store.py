"""The folder of a sweep: sweep.json and a file for each point.

- sweep.json: what all points have in common
- points/IDENTITY.parquet: what a point gave, a row for each image

A point's file is written whole or not at all, so it says that the point is finished. It is found by
the point's settings as they were written; other points in the same folder only add files."""

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
from mdm_jax.storage import claims, part_names, workspace
from mdm_jax.storage.atomic import make_folder, write_whole
from mdm_jax.storage.differences import flat
from mdm_jax.storage.parquet import METADATA_KEY, READ_ERRORS
from mdm_jax.sweeps.point_result import PointResult
from mdm_jax.sweeps.points import Point
from mdm_jax.text_files import parse_json

DESCRIPTION, POINTS = "sweep.json", "points"
POINT_FILES = f"{POINTS}/*.parquet"

# With the tables, the figures and the winner of `mdm sweep`.
SWEEP = claims.Kind(
    "sweep",
    (
        *(DESCRIPTION, POINT_FILES, "table.md", "table.csv", "table.parquet"),
        *("pareto.png", "parallel.png", "heatmap.png", "winner.toml", ".lock"),
        claims.options_file("sweep"),
    ),
    lambda folder: claims.has_settings(
        folder / DESCRIPTION, ("network.weights", "images.ids")
    ),
    alone=True,
)


@dataclasses.dataclass(frozen=True)
class PointStore:
    """Where the points of a sweep are kept; None keeps nothing."""

    folder: Path | None

    def read(self, point: Point) -> PointResult | None:
        """What the point gave; None where it is not finished.

        Raises InputError for a damaged file, and for one of another config."""
        if self.folder is None or not (path := self._path(point)).exists():
            return None
        result, config = decode(path)
        # The same settings mean another config where a default or a preset has changed since.
        defaults = part_names.defaults_of(point.config, "config.")
        if changed := workspace.changed_settings(config, describe_point(point), defaults):
            raise InputError(
                f"{printable(path)} was made when these settings meant another config"
                f" ({', '.join(changed)}): choose another folder, or remove that file",
                setting="out",
            )
        return result

    def write(self, point: Point, result: PointResult) -> None:
        """Keep what the point gave."""
        if self.folder is None:
            return
        table = encode(point, result)
        path = self._path(point)
        write_whole(path, lambda file: pq.write_table(table, file, compression="zstd"))

    def _path(self, point: Point) -> Path:
        assert self.folder is not None
        return self.folder / POINTS / f"{point.identity}.parquet"


@contextmanager
def open_points(
    out: Path | None, common: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Iterator[PointStore]:
    """The folder of a sweep for this process alone.

    `common` holds the settings of all points, and `defaults` is that of
    `workspace.record_settings`. Raises InputError for a folder of another sweep, with every
    difference."""
    with (
        workspace.open_workspace(out, SWEEP) if out is not None else nullcontext() as folder
    ):
        if folder is not None:
            workspace.record_settings(
                folder, DESCRIPTION, common, "a sweep", POINT_FILES, defaults
            )
            make_folder(folder / POINTS)
        yield PointStore(folder)


def describe_point(point: Point) -> dict[str, Any]:
    """A point's whole config and node in plain values, by dotted name."""
    return dict(flat(part_names.describe({"node": point.node, "config": point.config})))


def encode(point: Point, result: PointResult) -> pa.Table:
    """A table with a row for each image: diagnostics, and the statistics of each metric as a list.

    The list is null where the image has no truth to measure against."""
    columns: dict[str, Any] = dict(result.diagnostics)
    shapes = {}
    for name, (statistics, rows) in result.measured.items():
        lists: list[Any] = [None] * len(result.diagnostics["status"])
        flattened = np.asarray(statistics, np.float64).reshape(len(rows), -1)
        for row, values in zip(rows, flattened):
            lists[row] = values
        columns[name] = pa.array(lists, pa.list_(pa.float64()))
        shapes[name] = {"shape": statistics.shape[1:], "dtype": str(statistics.dtype)}
    metadata = {
        "settings": point.settings,
        "config": describe_point(point),
        "metrics": shapes,
        "notes": dict(result.notes),
    }
    return pa.table(columns).replace_schema_metadata(
        {METADATA_KEY: json.dumps(metadata).encode()}
    )


def decode(path: Path) -> tuple[PointResult, dict[str, Any]]:
    """What a point's file says: its result, and its config as it was described then.

    Raises InputError for a damaged file."""
    try:
        table = pq.read_table(path, partitioning=None)
        metadata = parse_json(table.schema.metadata[METADATA_KEY])
        metrics = metadata["metrics"]
        measured = {name: _measured(table[name], kind) for name, kind in metrics.items()}
        diagnostics = {
            name: table[name].to_numpy()
            for name in table.column_names
            if name not in metrics
        }
        return PointResult(diagnostics, measured, metadata["notes"]), metadata["config"]
    except READ_ERRORS as error:
        raise InputError(
            f"{printable(path)} is damaged: remove it to compute the point again"
        ) from error


def _measured(column: pa.ChunkedArray, kind: Mapping[str, Any]) -> Measured:
    lists = column.to_pylist()
    rows = np.asarray([row for row, values in enumerate(lists) if values is not None], int)
    statistics = np.asarray([lists[row] for row in rows], kind["dtype"])
    return Measured(statistics.reshape(len(rows), *kind["shape"]), rows)
