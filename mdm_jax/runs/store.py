"""The folder or bucket of a run: its files, what commits a chunk, and what must agree to go on.

- run.json: what the run is; `format`, `layout` and `settings` must agree when it goes on;
  run.json.copy is the same, should it be lost
- zarr.json, mask_vectors/HxW, saliency, evidence: Zarr arrays, in the chunks of the run (`arrays`)
- records/NNNNN.parquet: one for every chunk (`records`), and its commit marker: written aside after
  the chunk's arrays, then renamed. A chunk without it is computed again
- log-I-of-N.txt: what happened, for people; locks/: who is at work (`locks`). Local folders only

A record carries a fingerprint of what must agree: the same command restores a lost run.json."""

from __future__ import annotations

import json
import os
import re
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
from mdm_jax.runs.description import (
    carry_over,
    check_types,
    differences_of,
    fingerprint,
    other_names,
    with_request_checksum,
    without_names,
)
from mdm_jax.runs.key_value_store import FAILURES, error_number, parse_location
from mdm_jax.runs.locks import SharedFolder
from mdm_jax.text_files import parse_json

DESCRIPTION, COPY = "run.json", "run.json.copy"

REMEDY = "choose another folder, remove that one, or go back to the old settings"
FOLDERS = ("records/", f"{arrays.MASKS}/", f"{arrays.SALIENCY}/", f"{arrays.EVIDENCE}/")

# How TensorStore begins its errors about missing or damaged metadata.
METADATA_ERRORS = re.compile("NOT_FOUND|DATA_LOSS|FAILED_PRECONDITION|INVALID_ARGUMENT")
RECORD = re.compile(r"records/(\d{5,})\.parquet")

# What a run writes into its folders: only files of these names are removed there.
ARRAY_FILE = r"(mask_vectors/([^/]+/)?|saliency/|evidence/)(zarr\.json|c(/\d+)+)"
OWN_FILES = re.compile(rf"{RECORD.pattern}|{ARRAY_FILE}")

# Record files that are read at once.
READ_AHEAD = 32


class ChunkData(NamedTuple):
    """What is written of a chunk; every array has the table's rows."""

    chunk: int
    table: pa.Table
    arrays: Mapping[str, np.ndarray]
    """by name, as in `Spec`: "mask_vectors/8x8", "saliency" """


def open_store(place: str | Path) -> Store:
    """The store in a local folder, or at gs://, s3://, memory:// or file://; touches nothing.

    Raises InputError for another kind of URL and for a place that cannot be a folder."""
    return Store(*parse_location(place))


def record_key(chunk: int) -> str:
    """Where the record file of a chunk lies."""
    return f"records/{chunk:05d}.parquet"


def chunk_of_record(key: str) -> int:
    """The chunk in whose place a record file lies."""
    return int(key.removeprefix("records/").removesuffix(".parquet"))


@dataclass
class Store(SharedFolder):
    """A run's folder or bucket."""

    own_fingerprint: str = field(default="", init=False, compare=False)
    """of the run that `begin` began or went on with; empty before"""

    @cached_property
    def _writer(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="store")

    # What a run is

    def read_description(self, key: str = DESCRIPTION) -> dict[str, Any] | None:
        """What run.json, or its copy, says; None where there is none.

        Raises InputError for a damaged one."""
        data = self.read(key)
        if data is None:
            return None
        try:
            description = parse_json(data)
        except ValueError:
            raise InputError(
                f"{self.name}/{key} is damaged: the same command again writes it anew"
            ) from None
        check_types(description, f"{self.name}/{key}")
        return description

    def begin(
        self, description: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> None:
        """Write run.json, or see that it agrees.

        Where no chunk is committed, nothing binds, and another run's arrays are removed. `defaults`
        are what settings were before they existed, by dotted name. Raises InputError with every
        difference."""
        with self.exclusive():
            committed = self.agrees(description, defaults)
            if (
                not committed
                and self._try_description()
                and self.changes(description, defaults)
            ):
                for key in [key for place in FOLDERS for key in self.keys(place)]:
                    if OWN_FILES.fullmatch(key):
                        self.delete(key)
            written = self.write_description(description, defaults)
        self.own_fingerprint = fingerprint(written)

    def refuse_others(self) -> None:
        """Raise InputError where files are in a run's folders that no run wrote.

        Call it before anything touches them."""
        with suppress(InputError):
            has_records = next(self.footers(), None) is not None
            if has_records or self._try_description() is not None or self.specs():
                return
        occupied = False
        # What cannot be read cannot be written either, and that is told then.
        with suppress(InputError):
            occupied = any(self.keys(key) for key in (DESCRIPTION, "zarr.json", *FOLDERS))
        if self.folder is not None:
            # Opening a lock empties its file; ours are empty.
            locks = self.folder.glob("locks/*")
            occupied |= any(path.is_file() and path.stat().st_size for path in locks)
        if occupied:
            raise InputError(
                f"{self.name} holds other files, in a run's places: choose a new folder",
                setting="out",
            )

    def write_description(
        self, description: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write run.json and return what it says.

        Of one that agrees and has chunks, what binds stays as an older version wrote it, as does
        the list of versions, and the request where there is no newer one."""
        found, footer = self._try_description(), next(self.footers(), None)
        written = dict(description)
        if found and footer and not self.changes(description, defaults):
            written = carry_over(description, found, footer.run)
        elif footer and footer.run in self.fingerprints(description) - {
            fingerprint(description)
        }:
            written = without_names(description)
        written = with_request_checksum(written, found)
        for key in (DESCRIPTION, COPY):
            self.ensure(key, (json.dumps(written, indent=2) + "\n").encode())
        return written

    def agrees(
        self, description: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> bool:
        """Whether chunks are committed, and made with this description; False where none is.

        Writes nothing. Raises InputError with every difference."""
        footer = next(self.footers(), None)
        if footer is None or footer.run in self.fingerprints(description):
            return footer is not None
        if changed := self.changes(description, defaults):
            raise self.other_settings(changed)
        # An older version, or one without some of the settings, wrote the same in other words.
        if footer.run != fingerprint(self._try_description() or {}):
            raise InputError(
                f"{self.name} holds records of another run: `mdm run verify {self.name}` takes them"
                " back"
            )
        return True

    def changes(
        self, description: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> list[str]:
        """What must agree with run.json and does not."""
        found = self._try_description()
        if found is None:
            return [f"its {DESCRIPTION} is gone or damaged"]
        return differences_of(found, description, defaults or {})

    def fingerprints(self, description: Mapping[str, Any]) -> set[str]:
        """The fingerprints by which records belong to a description."""
        accepted = {fingerprint(description)}
        # Older versions bound no names of classes: those that are written down decide.
        if not other_names(self._try_description() or {}, description):
            accepted.add(fingerprint(without_names(description)))
        return accepted

    def other_settings(self, changed: list[str], remedy: str = REMEDY) -> InputError:
        """The error for a run that another description made."""
        return InputError(
            f"{self.name} holds a run made with other settings ({', '.join(changed)}): {remedy}",
            setting="out",
        )

    def _try_description(self) -> dict[str, Any] | None:
        with suppress(InputError):
            return self.read_description()
        return None

    def create(self, specs: Mapping[str, Spec], layout: Layout) -> None:
        """Write the metadata of the arrays where they are not as they should be.

        Several processes may do it at once."""
        with self.exclusive():
            for key, content in arrays.metadata(specs, layout).items():
                self.ensure(key, content)

    def specs(self) -> dict[str, Spec]:
        """The arrays of the run, in order.

        Raises InputError where the metadata are gone or damaged."""
        data = self.read("zarr.json")
        try:
            return arrays.read_specs(data or b"")
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(self.metadata_lost("zarr.json")) from None

    def array(self, name: str) -> ts.TensorStore:
        """An array, lazily read. Raises InputError where its metadata are gone or damaged."""
        try:
            return arrays.open_array(self.kv, name)
        except FAILURES as error:
            # With a number it is the system that failed, and nothing says that a file is damaged.
            if METADATA_ERRORS.match(str(error)) and not error_number(error):
                raise InputError(self.metadata_lost(f"{name}/zarr.json")) from error
            raise self.unreadable(error) from error

    def metadata_lost(self, key: str) -> str:
        """The sentence for metadata of arrays that are not there, or not as they were written."""
        return (
            f"{self.name}/{key} is gone or damaged: nothing committed is lost, and the same command"
            " again puts it back"
        )

    # Chunks

    def committed(self) -> set[int]:
        """The chunks whose record file is in place and readable, and of this run."""
        chunks = set()
        for footer in self.footers():
            if self.own_fingerprint in ("", footer.run):
                chunks.add(footer.chunk)
        return chunks

    def write(self, data: ChunkData) -> Future[None]:
        """Write a chunk in a thread: its arrays, then its record, which commits it.

        The future's `result()` raises InputError; nothing that was committed is lost then."""
        return self._writer.submit(self._write, data)

    def _write(self, data: ChunkData) -> None:
        run = self._current_fingerprint()
        first, last = data.table["row"][0].as_py(), data.table["row"][-1].as_py()
        rows = range(first, last + 1)
        opened = {name: self.array(name) for name in data.arrays}
        stored = {}
        for name, values in data.arrays.items():
            shape = (len(rows), *opened[name].shape[1:])
            if values.shape != shape:
                raise ValueError(f"{name} is {values.shape}, not {shape}")
            stored[name] = arrays.canonical(values, opened[name].dtype.numpy_dtype)
        # Whatever is there, damaged or half written, must not become part of what is written now.
        self.delete(record_key(data.chunk))
        for name, array in opened.items():
            self.delete(arrays.chunk_key(name, array.ndim, data.chunk))
        with self.writing():
            pending = [
                opened[name][rows.start : rows.stop].write(values).commit
                for name, values in stored.items()
            ]
            # Every write has ended before the first failure is raised.
            failures = [error for error in [each.exception() for each in pending] if error]
            if failures:
                raise failures[0]
        checksums = {name: arrays.checksum(values) for name, values in stored.items()}
        self._commit(
            data.chunk, records.encode(data.table, data.chunk, rows, checksums, run)
        )

    def _current_fingerprint(self) -> str:
        """The fingerprint of run.json. Raises InputError where it is not this run's any more."""
        description = self.read_description()
        if description is None:
            raise InputError(
                f"{self.name}/{DESCRIPTION} was removed while the run was at work: start the same"
                " command again"
            )
        run = fingerprint(description)
        if self.own_fingerprint not in ("", run):
            raise InputError(
                f"{self.name}/{DESCRIPTION} is another than when this run began: nothing committed"
                " is lost; see that no other run was begun there, then the same command goes on"
            )
        return run

    def _commit(self, chunk: int, content: bytes) -> None:
        if self.folder is None:  # a bucket's objects are written whole
            self.put(record_key(chunk), content)
            return
        # Readers of a folder of parquet files pass over names with a dot.
        aside = f"records/.{chunk:05d}.parquet"
        self.put(aside, content)
        with self.writing():
            os.replace(self.folder / aside, self.folder / record_key(chunk))

    def remove(self, chunk: int) -> None:
        """Take a chunk back: first its record, then its part of the arrays."""
        self.delete(record_key(chunk))
        part = re.compile(rf"[^/]+/(?:[^/]+/)?c/{chunk}/.*")
        for folder in FOLDERS[1:]:
            for key in self.keys(folder):
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
        keys = [key for key in self.keys("records/") if RECORD.fullmatch(key)]
        # Chunk 100000 has one digit more than others, and comes after them.
        keys.sort(key=lambda key: (len(key), key))
        for start in range(0, len(keys), READ_AHEAD):
            part = keys[start : start + READ_AHEAD]
            reads = [(key, self.kv.read(key)) for key in part]
            for key, pending in reads:
                with self.reading():
                    result = pending.result()
                if result.state == "value":
                    yield key, result.value
