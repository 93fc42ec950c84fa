"""The folder or bucket of a run: what lies where, what commits a chunk, what must agree when it
goes on.

- run.json: what the run is; `format`, `layout` and `settings` must agree when it goes on
- zarr.json, mask_vectors/HxW, saliency: Zarr arrays, in chunks that are those of the run (`arrays`)
- records/NNNNN.parquet: one for every chunk (`records`), and its commit marker: written aside after
  the chunk's arrays are complete, then renamed. A chunk without it does not count and is computed
  again
- log-I-of-N.txt: what happened, for people; locks/: who is at work (`locks`). Local folders only

A record carries a fingerprint of what must agree, so that a run.json that was lost is written anew
by the same command."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import tensorstore as ts

from mdm_jax.errors import InputError
from mdm_jax.runs import arrays, records
from mdm_jax.runs.arrays import Spec
from mdm_jax.runs.chunks import Layout
from mdm_jax.runs.key_value_store import FAILURES, error_number, located
from mdm_jax.runs.locks import Shared
from mdm_jax.storage.differences import flat
from mdm_jax.storage.stored_format import FORMAT
from mdm_jax.storage.workspace import changed_settings

DESCRIPTION = "run.json"
BINDING = ("format", "layout", "settings")
"""the parts of run.json that must agree when a run goes on"""
REMEDY = "choose another folder with --out, remove that one, or go back to the old settings"
PLACES = ("records/", f"{arrays.MASKS}/", f"{arrays.SALIENCY}/")
RECORD = re.compile(r"records/(\d{5,})\.parquet")
AHEAD = 32
"""record files that are read at once"""


class ChunkData(NamedTuple):
    """What is written of a chunk; every array has the table's rows."""

    chunk: int
    table: pa.Table
    arrays: Mapping[str, np.ndarray]
    """by name, as in `Spec`: "mask_vectors/8x8", "saliency" """


def open_store(place: str | Path) -> Store:
    """The store in a local folder, or at gs://, s3://, memory:// or file://; touches nothing.

    Raises InputError for another kind of URL and for a place that cannot be a folder.
    """
    return Store(*located(place))


def fingerprint(description: Mapping[str, Any]) -> str:
    """A checksum of the parts of a description that must agree."""
    parts = json.dumps({part: description.get(part) for part in BINDING}, sort_keys=True)
    return f"{zlib.crc32(parts.encode()):08x}"


def record_key(chunk: int) -> str:
    return f"records/{chunk:05d}.parquet"


@dataclass(frozen=True)
class Store(Shared):
    """A run's folder or bucket."""

    begun: str = field(default="", init=False, compare=False)
    """fingerprint of what `begin` began here"""

    @cached_property
    def _writer(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="store")

    # What a run is

    def read_description(self) -> dict[str, Any] | None:
        """What run.json says, None where there is none. Raises InputError for a damaged one."""
        data = self.read(DESCRIPTION)
        if data is None:
            return None
        try:
            description = json.loads(data)
            Layout(**description["layout"])
            if not (
                isinstance(description["format"], int) and isinstance(description["settings"], dict)
            ):
                raise ValueError("no run.json of a run")
        except (ValueError, TypeError, KeyError):
            raise InputError(
                f"{self.name}/{DESCRIPTION} is damaged: the same command again writes it anew"
            ) from None
        return description

    def begin(
        self, description: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> None:
        """Write run.json, or see that it agrees; where no chunk is committed, nothing binds and
        another run's arrays go.

        `defaults` are what settings were before they existed, by dotted name. Raises InputError
        with every difference."""
        with self.alone():
            committed = self.agrees(description, defaults)
            if not committed and self._understood() and self.changes(description, defaults):
                for place in PLACES:
                    self.delete_all(place)
            written = self.write_description(description, defaults)
        object.__setattr__(self, "begun", fingerprint(written))

    def refuse_others(self) -> None:
        """Raises InputError where files are in a run's places that no run wrote, before anything
        touches them."""
        with suppress(InputError):
            if (
                next(self.footers(), None) is not None
                or self._understood() is not None
                or self.specs()
            ):
                return
        found = False
        with suppress(
            InputError
        ):  # what cannot be read cannot be written either, which is told then
            found = any(self.keys(place) for place in (DESCRIPTION, "zarr.json", *PLACES))
        if found:
            raise InputError(
                f"{self.name} holds other files, in a run's places: choose a new folder with --out"
            )

    def write_description(
        self, description: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write run.json and return what it says.

        Of one that agrees and has chunks, what binds stays as an older version wrote it, as does
        the list of versions, and the request where there is no newer one."""
        description, found = dict(description), self._understood()
        footer = next(self.footers(), None)
        if found and footer and not self.changes(description, defaults):
            if footer.run == fingerprint(found):
                description |= {part: found[part] for part in BINDING}
            # Taken out and put back, so that the file keeps its order of parts.
            description.pop("versions", None)
            for part in ("request", "versions"):
                if part in found and not (part == "request" and description.get(part)):
                    description[part] = found[part]
        self.ensure(DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())
        return description

    def agrees(
        self, description: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> bool:
        """Whether chunks are committed, and made with this description; False where none is. Writes
        nothing.

        Raises InputError with every difference.
        """
        footer = next(self.footers(), None)
        if footer is None or footer.run == fingerprint(description):
            return footer is not None
        if changed := self.changes(description, defaults):
            raise self.of_others(changed)
        # An older version, or one without some of the settings, wrote the same in other words.
        if footer.run != fingerprint(self._understood() or {}):
            raise InputError(
                f"{self.name} holds records of another run: `mdm run verify {self.name}` takes them"
                " back"
            )
        return True

    def changes(
        self, description: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> list[str]:
        """What must agree with run.json and does not."""
        found = self._understood()
        if found is None:
            return [f"its {DESCRIPTION} is gone or damaged"]
        before, now = (
            dict(flat({part: each.get(part) for part in BINDING if part != "format"}))
            for each in (found, description)
        )
        changed = changed_settings(before, now, defaults)
        if found["format"] > FORMAT:
            changed.append(f"format {found['format']} -> {FORMAT}")
        return changed

    def of_others(self, changed: list[str], remedy: str = REMEDY) -> InputError:
        """The sentence for a run that another description made."""
        return InputError(
            f"{self.name} holds a run made with other settings ({', '.join(changed)}): {remedy}"
        )

    def _understood(self) -> dict[str, Any] | None:
        with suppress(InputError):
            return self.read_description()
        return None

    def create(self, specs: Mapping[str, Spec], layout: Layout) -> None:
        """The arrays, as far as they are not there as they should be; several processes may do it
        at once."""
        with self.alone():
            for key, content in arrays.metadata(specs, layout).items():
                self.ensure(key, content)

    def specs(self) -> dict[str, Spec]:
        """The arrays of the run, in order. Raises InputError where the metadata are gone or
        damaged."""
        data = self.read("zarr.json")
        try:
            return arrays.listed(data or b"")
        except (ValueError, TypeError, KeyError):
            raise InputError(self._metadata_lost("zarr.json")) from None

    def array(self, name: str) -> ts.TensorStore:
        """An array, lazily read. Raises InputError where its metadata are gone or damaged."""
        try:
            return arrays.open_array(self.kv, name)
        except FAILURES as error:
            if re.match(
                "NOT_FOUND|DATA_LOSS|FAILED_PRECONDITION|INVALID_ARGUMENT", str(error)
            ) and not error_number(error):
                raise InputError(self._metadata_lost(f"{name}/zarr.json")) from error
            raise self.unreadable(error) from error

    def _metadata_lost(self, key: str) -> str:
        return (
            f"{self.name}/{key} is gone or damaged: nothing committed is lost, and the same command"
            " again puts it back"
        )

    # Chunks

    def committed(self) -> set[int]:
        """The chunks whose record file is in place and readable, and of this run."""
        return {footer.chunk for footer in self.footers() if self.begun in ("", footer.run)}

    def write(self, data: ChunkData) -> Future[None]:
        """Write a chunk in a thread: its arrays, and when they are complete its record, which
        commits it.

        Its `result()` raises InputError; nothing that was committed is lost then.
        """
        return self._writer.submit(self._write, data)

    def _write(self, data: ChunkData) -> None:
        rows = range(data.table["row"][0].as_py(), data.table["row"][-1].as_py() + 1)
        description = self.read_description()
        if description is None:
            raise InputError(
                f"{self.name}/{DESCRIPTION} was removed while the run was at work: start the same"
                " command again"
            )
        run = fingerprint(description)
        if self.begun not in ("", run):
            raise InputError(
                f"{self.name}/{DESCRIPTION} is another than when this run began: nothing committed"
                " is lost; see that no other run was begun there, then the same command goes on"
            )
        opened = {name: self.array(name) for name in data.arrays}
        stored = {
            name: arrays.canonical(values, opened[name].dtype.numpy_dtype)
            for name, values in data.arrays.items()
        }
        for name, values in stored.items():
            if values.shape != (len(rows), *opened[name].shape[1:]):
                raise ValueError(
                    f"{name} is {values.shape}, not {(len(rows), *opened[name].shape[1:])}"
                )
        for key in [
            record_key(data.chunk),
            *(arrays.chunk_key(name, array.ndim, data.chunk) for name, array in opened.items()),
        ]:
            self.delete(
                key
            )  # whatever is there, damaged or half written, must not become part of what is written now
        with self.writing():
            pending = [
                opened[name][rows.start : rows.stop].write(values).commit
                for name, values in stored.items()
            ]
            failed = [
                error for error in [each.exception() for each in pending] if error
            ]  # all have ended when one is raised
            if failed:
                raise failed[0]
        checksums = {name: arrays.checksum(values) for name, values in stored.items()}
        self._commit(data.chunk, records.encode(data.table, data.chunk, rows, checksums, run))

    def _commit(self, chunk: int, content: bytes) -> None:
        if self.folder is None:
            self.put(record_key(chunk), content)
            return
        aside = (  # readers of a folder of parquet files pass over names with a dot
            f"records/.{chunk:05d}.parquet"
        )
        self.put(aside, content)
        with self.writing():
            os.replace(self.folder / aside, self.folder / record_key(chunk))

    def remove(self, chunk: int) -> None:
        """Take a chunk back: first its record, then its part of the arrays."""
        self.delete(record_key(chunk))
        part = re.compile(rf"(?:{arrays.MASKS}/[^/]+|{arrays.SALIENCY})/c/{chunk}/.*")
        for key in (key for place in PLACES[1:] for key in self.keys(place)):
            if part.fullmatch(key):
                self.delete(key)

    def footers(self) -> Iterator[records.Meta]:
        """What the readable record files, each under its own number, say about themselves."""
        for key, data in self.read_records():
            with suppress(InputError):
                footer = records.footer(data)
                if record_key(footer.chunk) == key:
                    yield footer

    def read_records(self) -> Iterator[tuple[str, bytes]]:
        """The record files, in the order of their chunks, by key."""
        keys = sorted(
            filter(RECORD.fullmatch, self.keys("records/")), key=lambda key: (len(key), key)
        )
        for start in range(0, len(keys), AHEAD):
            some = keys[start : start + AHEAD]
            for key, pending in [(key, self.kv.read(key)) for key in some]:
                with self.reading():
                    result = pending.result()
                if result.state == "value":
                    yield key, result.value
