"""A run opened for reading: records as one table, arrays lazily, saliency maps rendered when they
are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import tensorstore as ts
from jaxtyping import Array, Float, Float32

from mdm_jax import masks, renamed_settings
from mdm_jax.errors import InputError
from mdm_jax.runs import arrays, records
from mdm_jax.runs.chunks import Layout
from mdm_jax.runs.store import DESCRIPTION, Store, open_store
from mdm_jax.storage.stored_format import FORMAT

RENDERED = 16
"""maps that are rendered at a time: one program for any number"""


def open_run(place: str | Path) -> Run:
    """The run in a folder or at gs://, s3://, memory:// or file://, finished or not.

    Raises InputError where there is none, or one of another format.
    """
    store = open_store(place)
    return Run(store, describe(store))


def describe(store: Store) -> dict[str, Any]:
    """What run.json says. Raises InputError where there is no run, or one of another format."""
    description = store.read_description()
    if description is None:
        if next(store.footers(), None):
            raise InputError(
                f"{store.name}/{DESCRIPTION} is gone: the same command again writes it anew"
            )
        raise InputError(f"{store.name} holds no run: give the folder that `mdm run --out` wrote")
    if description["format"] not in range(1, FORMAT + 1):
        raise InputError(
            f"{store.name} is a run of format {description['format']}, and this version reads"
            f" formats up to {FORMAT}: use the version of mdm_jax that wrote it"
        )
    return description


def current_settings(description: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a description, by the names of today."""
    found = dict(description.get("settings") or {})
    for name in ("method", "node"):
        if name in found:
            found[name] = renamed_settings.value_name(name, found[name])
    if isinstance(found.get("config"), Mapping):
        found["config"] = renamed_settings.current(found["config"], str(found.get("method", "")))
    return found


@dataclass(frozen=True)
class Run:
    """A run, for reading. Rows are images, or images and targets, in the order of the data; see
    `Layout`."""

    store: Store
    description: dict[str, Any]
    """run.json"""

    @property
    def place(self) -> str:
        return self.store.name

    @property
    def layout(self) -> Layout:
        return Layout(**self.description["layout"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the run was made with, settings and values by the names of today."""
        return current_settings(self.description)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.description.get("classes") or ())

    def __len__(self) -> int:
        """Rows that are committed."""
        return len(self.records)

    @cached_property
    def records(self) -> pa.Table:
        """A row for each image and target that is committed, in order; read once. Raises InputError
        for a damaged file."""
        tables = []
        for key, data in self.store.read_records():
            try:
                tables.append(records.with_current_terms(records.decode(data)[0]))
            except InputError as error:
                raise InputError(f"{self.place}/{key} is {error}: {self._mend}") from error
        try:
            if not tables:
                return records.schema((), vector=False).empty_table()
            # Terms stand in the order of their names, which were others in an older version.
            names = tables[0].column_names
            same = [
                each if set(each.column_names) != set(names) else each.select(names)
                for each in tables
            ]
            return pa.concat_tables(same)
        except pa.ArrowInvalid as error:
            raise InputError(
                f"the records of {self.place} are damaged, they differ in their columns:"
                f" {self._mend}"
            ) from error

    @cached_property
    def mask_vectors(self) -> tuple[ts.TensorStore, ...]:
        """Mask vectors [rows, h, w] of each size, in order, lazily read:
        `run.mask_vectors[0][5].read().result()`.

        Rows without a result are NaN, as are those that are not committed yet.
        """
        return tuple(
            self.store.array(name) for name in self.store.specs() if name != arrays.SALIENCY
        )

    @cached_property
    def saliency_maps(self) -> ts.TensorStore | None:
        """Saliency maps [rows, h, w] in float16, lazily read; None where the run did not keep
        them."""
        return self.store.array(arrays.SALIENCY) if arrays.SALIENCY in self.store.specs() else None

    def saliency(self, row: int) -> Float32[np.ndarray, "h w"]:
        """The saliency map of a row, in [0, 1]: the one that was kept, else rendered from the mask
        vectors.

        Raises InputError for a row that is not committed, has no result, or cannot be read.
        """
        record = self._record(row)
        (found,) = self.saliency_of([row])
        if np.isnan(found).any():
            why = (
                f"{record['status']}: {record['reason']}" if record["reason"] else record["status"]
            )
            raise InputError(f"row {row} of {self.place} has no saliency map ({why})")
        return found

    def saliency_of(self, rows: Sequence[int]) -> Float32[np.ndarray, "n h w"]:
        """The saliency maps of some rows, as `saliency` gives one; NaN where a row has no
        result."""
        kept = self.saliency_maps
        if kept is not None:
            return self._read(kept, rows).astype(np.float32)
        settings = self.settings
        shape, weights = tuple(settings["image"]), settings.get("stack_weights")
        vectors = [self._read(array, rows) for array in self.mask_vectors]
        found = np.full((len(rows), *shape), np.nan, np.float32)
        for start in range(0, len(rows), RENDERED):
            part = [each[start : start + RENDERED] for each in vectors]
            padded = [np.pad(each, [(0, RENDERED - len(each)), (0, 0), (0, 0)]) for each in part]
            found[start : start + RENDERED] = np.asarray(_rendered(padded, weights, shape))[
                : len(part[0])
            ]
        return found

    def _record(self, row: int) -> dict[str, Any]:
        column = self.records["row"].to_numpy()
        at = int(np.searchsorted(column, row))
        if at == len(column) or column[at] != row:
            known = (
                f"of its {self.layout.rows} rows {len(column)} are there"
                if row in range(self.layout.rows)
                else (f"it has rows 0 to {self.layout.rows - 1}")
            )
            raise InputError(f"row {row} is not in {self.place}: {known}")
        return self.records.slice(at, 1).to_pylist()[0]

    def _read(self, array: ts.TensorStore, rows: Sequence[int]) -> np.ndarray:
        try:
            return np.asarray(array[np.asarray(rows, np.int64)].read().result())
        except (OSError, ValueError) as error:
            named = f"row {rows[0]}" if len(rows) == 1 else f"rows {rows[0]} to {rows[-1]}"
            raise InputError(
                f"the arrays of {named} of {self.place} are damaged: {self._mend}"
            ) from error

    @property
    def _mend(self) -> str:
        return f"`mdm run verify {self.place}` finds what is damaged and computes it again"


@partial(jax.jit, static_argnums=2)
def _rendered(
    vectors: list[Float[Array, "n _h _w"]], weights: Any, shape: tuple[int, int]
) -> Float[Array, "n h w"]:
    def one(vectors: list[Float[Array, "_h _w"]]) -> Float[Array, "h w"]:
        rendered = jnp.stack([masks.render(vector, shape) for vector in vectors])
        return masks.normalize(masks.stack(rendered, weights))

    return jax.vmap(one)(vectors)
