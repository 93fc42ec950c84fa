"""The maps of one method on one network, and their scores: .npz files in one folder.

- maps-00000.npz ...: maps and diagnostics, a row for each image, in the order in which they were
  made
- scores/METRIC.npz: the statistics of a metric, a row for each image

Rows are found by the image's id, so more images only add files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.storage.arrays import Columns, file_name, read_arrays, read_names, write_arrays
from mdm_jax.storage.atomic import make_folder

MAP_FILES = "maps-*.npz"


@dataclass(frozen=True)
class MapStore:
    """The maps and scores in a folder."""

    folder: Path

    def chunks(self) -> list[Path]:
        """The files of maps, in the order in which they were written."""
        return sorted(self.folder.glob(MAP_FILES))

    def add(self, columns: Columns) -> Path:
        """Write maps of images that have none yet, as one more file."""
        numbers = [int(path.stem.removeprefix("maps-")) for path in self.chunks()]
        path = self.folder / f"maps-{max(numbers, default=-1) + 1:05d}.npz"
        write_arrays(path, columns)
        return path

    def columns(self, *names: str) -> Columns:
        """Some columns of all maps; those that a file lacks are left out.

        Raises InputError for files that are damaged, or do not belong together."""
        parts = {path: read_arrays(path, names) for path in self.chunks()}
        remedy = "remove them to compute them again"
        found = {}
        for path, part in parts.items():
            if "ids" in names and "ids" not in part:
                raise InputError(f"{printable(path)} lacks ids: {remedy}")
        for name in names:
            columns = [part[name] for part in parts.values() if name in part]
            if len({column.shape[1:] for column in columns}) > 1 or not all(
                column.ndim for column in columns
            ):
                raise InputError(
                    f"{printable(self.folder)} holds {name} of several shapes: {remedy}"
                )
            if columns and len(columns) == len(parts):
                found[name] = np.concatenate(columns)
        return found

    def has(self, name: str) -> bool:
        """Whether there are maps, and every file of them has this column."""
        paths = self.chunks()
        return bool(paths) and all(name in read_names(path) for path in paths)

    def scores(self, metric: str) -> Columns:
        """Statistics of the images that were measured; empty where none were.

        `ids`, `counted`, `statistics` and `protocol`."""
        path = self._scores_path(metric)
        return read_arrays(path) if path.exists() else {}

    def write_scores(self, metric: str, columns: Columns) -> None:
        """Write the statistics of a metric, in the place of those before."""
        path = self._scores_path(metric)
        make_folder(path.parent)
        write_arrays(path, columns)

    def _scores_path(self, metric: str) -> Path:
        return self.folder / "scores" / f"{file_name(metric)}.npz"
