"""A run opened for reading.

Records are one table, arrays are read when they are indexed, and saliency maps are rendered from
mask vectors when they are asked for, rankings from mask vectors and evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Float32, Shaped

from mdm_jax import evidence, masks, renamed_settings
from mdm_jax.errors import InputError
from mdm_jax.images import gaussian_blur
from mdm_jax.runs import arrays, records
from mdm_jax.runs.chunks import Layout
from mdm_jax.runs.description import edited_parts, fingerprint
from mdm_jax.runs.description_copy import lost_description
from mdm_jax.runs.key_value_store import error_number
from mdm_jax.runs.records import Meta
from mdm_jax.runs.store import DESCRIPTION, Store, chunk_of_record, open_store, record_key
from mdm_jax.runs.stored_array import StoredArray
from mdm_jax.storage.stored_format import FORMAT

# Maps that are rendered at a time: one program for any number.
RENDER_BATCH = 16


def open_run(place: str | Path) -> Run:
    """The run in a folder or at gs://, s3://, memory:// or file://, finished or not.

    Raises InputError where there is none, one of a newer format, or one whose run.json was changed
    after it was written."""
    store = open_store(place)
    description = describe(store)
    if edited := edited_parts(description):
        raise InputError(
            f"{store.name}/{DESCRIPTION} is not as it was written ({', '.join(edited)}): the same"
            f" command again, or `mdm run verify {store.name}`, writes it anew"
        )
    return Run(store, description)


def describe(store: Store) -> dict[str, Any]:
    """What run.json says. Raises InputError where there is no run, or one of a newer format."""
    try:
        description = store.read_description()
    except InputError as error:
        raise InputError(f"{error}{_what_else(store)}") from error
    if description is None:
        if next(store.footers(), None):
            raise InputError(
                f"{store.name}/{DESCRIPTION} is gone: the same command again writes it anew"
                + _what_else(store)
            )
        raise InputError(f"{store.name} holds no run: give the folder that `mdm run` wrote")
    if description["format"] not in range(1, FORMAT + 1):
        raise InputError(
            f"{store.name} is a run of format {description['format']}, and this version reads"
            f" formats up to {FORMAT}: use the version of mdm_jax that wrote it"
        )
    return description


def _what_else(store: Store) -> str:
    """What can be done without the command, at the end of a sentence about run.json."""
    if lost_description(store):
        return f", and `mdm run verify {store.name}` puts its copy back"
    return (
        ", with the same settings, which stand nowhere else; its rows (Parquet) and maps (Zarr) can"
        " be read by other tools"
    )


def current_settings(description: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a description, by the names of today."""
    found = dict(description.get("settings") or {})
    for name in ("method", "node"):
        if name in found:
            found[name] = renamed_settings.value_name(name, found[name])
    if isinstance(found.get("config"), Mapping):
        found["config"] = renamed_settings.current(
            found["config"], str(found.get("method", ""))
        )
    return found


@dataclass(frozen=True)
class Run:
    """A run, for reading. Rows are images, or images and targets, in the order of the data; see
    `Layout`."""

    store: Store
    description: dict[str, Any]
    """run.json"""

    def __repr__(self) -> str:
        """In one line: the class names alone may be thousands."""
        method = self.settings.get("method", "an unknown method")
        return (
            f"Run({self.place!r}, {self.layout.rows} rows of {self.layout.items} images by"
            f" {method}, {len(self.classes)} classes)"
        )

    @property
    def place(self) -> str:
        """The folder or bucket."""
        return self.store.name

    @property
    def layout(self) -> Layout:
        """Rows and chunks."""
        return Layout(**self.description["layout"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the run was made with, settings and values by the names of today."""
        return current_settings(self.description)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the network's classes; empty where they are not known."""
        return tuple(self.description.get("classes") or ())

    def __len__(self) -> int:
        """Rows that are committed."""
        return len(self.records)

    @cached_property
    def records(self) -> pa.Table:
        """A row for each image and target that is committed, in order; read once.

        Raises InputError for a file that is damaged, in another's place, or of another run."""
        tables = [records.with_current_terms(table) for table, _ in self._chunks.values()]
        try:
            if not tables:
                return records.schema((), vector=False).empty_table()
            # Terms stand in the order of their names, which were others in an older version.
            names = tables[0].column_names
            for i, table in enumerate(tables):
                if set(table.column_names) == set(names):
                    tables[i] = table.select(names)
            return pa.concat_tables(tables)
        except pa.ArrowInvalid as error:
            raise InputError(
                f"the records of {self.place} are damaged, they differ in their columns:"
                f" {self._mend}"
            ) from error

    @cached_property
    def _chunks(self) -> dict[int, tuple[pa.Table, Meta]]:
        """What is committed: the records of each chunk as they were written, and what they say
        about themselves."""
        found, run, layout = {}, fingerprint(self.description), self.layout
        for key, data in self.store.read_records():
            chunk = chunk_of_record(key)
            try:
                table, meta = records.decode(data)
            except InputError as error:
                raise InputError(f"{self.place}/{key} is {error}: {self._mend}") from error
            fault: tuple[str, str] | None = ("stray", "is of no chunk of this run")
            if chunk < layout.chunks:
                fault = records.fault(table, meta, chunk, layout.rows_of(chunk), run)
            if fault is not None:
                raise InputError(f"{self.place}/{key} {fault[1]}: {self._mend}")
            found[chunk] = table, meta
        return found

    @cached_property
    def _names(self) -> list[str]:
        """The arrays in order, as they were committed."""
        names = list(self.store.specs())
        if any(list(meta.checksums) != names for _, meta in self._chunks.values()):
            raise InputError(
                f"{self.place}/zarr.json does not list the arrays that were committed:"
                f" {self._mend}"
            )
        return names

    @property
    def incomplete(self) -> str:
        """That some rows are not there, as a sentence; empty for a whole run."""
        missing = self.layout.chunks - len(self._chunks)
        if not missing:
            return ""
        first = next(each for each in count() if each not in self._chunks)
        return (
            f"{len(self)} of the {self.layout.rows} rows of {self.place} are there: the same"
            f" command again goes on, or `mdm run verify {self.place}` computes the"
            f" {missing} missing chunks, such as {record_key(first)}"
        )

    @cached_property
    def mask_vectors(self) -> tuple[StoredArray, ...]:
        """Mask vectors [rows, h, w] of each size, in order: `run.mask_vectors[0][5]` is an array.

        Rows without a result are NaN, as are those that were not committed when the records were
        read. Values are compared with the checksums in the records whenever they are read."""
        names = [name for name in self._names if name.startswith(f"{arrays.MASKS}/")]
        return tuple(self._array(name) for name in names)

    @cached_property
    def saliency_maps(self) -> StoredArray | None:
        """Saliency maps [rows, h, w] in float16; None where the run did not keep them."""
        return self._array_if_kept(arrays.SALIENCY)

    @cached_property
    def evidence(self) -> StoredArray | None:
        """Evidence [rows, h, w] in float16; None where the run did not keep it."""
        return self._array_if_kept(arrays.EVIDENCE)

    def saliency(self, row: int) -> Float32[np.ndarray, "h w"]:
        """The saliency map of a row, in [0, 1].

        It is the one that was kept, else drawn from the mask vectors. Raises InputError for a row
        that is not committed, has no result, or cannot be read."""
        record = self._record(row)
        (found,) = self.saliency_of([row])
        self._check_there(record, found, "saliency map")
        return found

    def saliency_of(self, rows: Sequence[int]) -> Float32[np.ndarray, "n h w"]:
        """The saliency maps of some rows, as `saliency` gives one; NaN where there is none."""
        if self.saliency_maps is not None:
            return self.saliency_maps[list(rows)].astype(np.float32)
        return self._draw(_rendered, [array[list(rows)] for array in self.mask_vectors])

    def ranking(self, row: int) -> Float32[np.ndarray, "h w"]:
        """The ranking of a row's pixels, in [0, 1], as `Explanation.ranking`.

        It is drawn from the mask vectors and the evidence, without the network. Raises InputError
        as `saliency`, and for a run that did not keep the evidence."""
        record = self._record(row)
        (found,) = self.ranking_of([row])
        self._check_there(record, found, "ranking")
        return found

    def ranking_of(self, rows: Sequence[int]) -> Float32[np.ndarray, "n h w"]:
        """The rankings of some rows, as `ranking` gives one; NaN where there is none."""
        if self.evidence is None:
            raise InputError(
                f"{self.place} did not keep the evidence, from which rankings are drawn: run it"
                " with the setting evidence"
            )
        vectors = [array[list(rows)] for array in self.mask_vectors]
        return self._draw(_ranked, [*vectors, self.evidence[list(rows)]])

    def _draw(
        self, draw: Callable[..., Array], parts: Sequence[np.ndarray]
    ) -> Float32[np.ndarray, "n h w"]:
        """Maps that `draw` makes of arrays with a row for each, some at a time."""
        shape, settings = tuple(self.settings["image"]), self.settings
        weights = settings.get("stack_weights")
        smoothing = (settings.get("config") or {}).get("smoothing")
        found = np.full((len(parts[0]), *shape), np.nan, np.float32)
        for start in range(0, len(found), RENDER_BATCH):
            part = [each[start : start + RENDER_BATCH] for each in parts]
            count = len(part[0])
            # Filled up, so that any number of rows takes the same compiled program.
            padding = [(0, RENDER_BATCH - count), (0, 0), (0, 0)]
            padded = [np.pad(each, padding) for each in part]
            found[start : start + count] = np.asarray(
                draw(padded, weights, smoothing, shape)
            )[:count]
        return found

    def _check_there(self, record: Mapping[str, Any], map_: np.ndarray, what: str) -> None:
        """Raises InputError for a row's map of NaN."""
        if np.isnan(map_).any():
            why = record["status"]
            if record["reason"]:
                why += f": {record['reason']}"
            raise InputError(f"row {record['row']} of {self.place} has no {what} ({why})")

    def _array_if_kept(self, name: str) -> StoredArray | None:
        return self._array(name) if name in self._names else None

    def _array(self, name: str) -> StoredArray:
        array = self.store.array(name)
        if not arrays.fits(array, self.store.specs()[name], self.layout):
            raise InputError(self.store.metadata_lost(f"{name}/zarr.json"))

        def checksums() -> dict[int, int | None]:
            chunks = self._chunks.items()
            return {chunk: meta.checksums.get(name) for chunk, (_, meta) in chunks}

        def damaged(chunk: int, error: Exception | None) -> InputError:
            # With a number it is the disk or the permissions: nothing is said to be damaged.
            if error is not None and error_number(error):
                return self.store.unreadable(error)
            key = arrays.chunk_key(name, array.ndim, chunk)
            return InputError(
                f"{self.place}/{key} does not hold what was committed: {self._mend}"
            )

        return StoredArray(array, self.layout, checksums, damaged)

    def _record(self, row: int) -> dict[str, Any]:
        column = self.records["row"].to_numpy()
        at = int(np.searchsorted(column, row))
        if at == len(column) or column[at] != row:
            known = f"it has rows 0 to {self.layout.rows - 1}"
            if row in range(self.layout.rows):
                known = f"of its {self.layout.rows} rows {len(column)} are there"
            raise InputError(f"row {row} is not in {self.place}: {known}")
        return self.records.slice(at, 1).to_pylist()[0]

    @property
    def _mend(self) -> str:
        return f"`mdm run verify {self.place}` finds what is damaged and computes it again"


@partial(jax.jit, static_argnums=3)
def _rendered(
    vectors: list[Float[Array, "n _h _w"]],
    weights: Any,
    smoothing: Any,
    shape: tuple[int, int],
) -> Float[Array, "n h w"]:
    """The stacked masks, as `mdm.finish` shows them."""

    def one(vectors: list[Float[Array, "_h _w"]]) -> Float[Array, "h w"]:
        rendered = jnp.stack([masks.render(vector, shape) for vector in vectors])
        mask = masks.stack(rendered, weights)
        if smoothing is not None:
            mask = gaussian_blur(mask[..., None], smoothing)[..., 0]
        return masks.normalize(mask)

    return jax.vmap(one)(vectors)


@partial(jax.jit, static_argnums=3)
def _ranked(
    vectors_and_evidence: list[Shaped[Array, "n _h _w"]],
    weights: Any,
    smoothing: Any,
    shape: tuple[int, int],
) -> Float[Array, "n h w"]:
    *vectors, gathered = vectors_and_evidence
    shown = _rendered(vectors, weights, smoothing, shape)
    return jax.vmap(evidence.ranking)(shown, gathered.astype(jnp.float32))
