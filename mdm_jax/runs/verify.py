"""How far a run is, and whether everything that it committed is there and as it was written.

Every chunk is looked at on its own, an array at a time, so memory does not grow with the run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import tensorstore as ts

from mdm_jax.errors import InputError
from mdm_jax.runs import arrays, records
from mdm_jax.runs.arrays import Spec
from mdm_jax.runs.chunks import Layout
from mdm_jax.runs.description import edited_parts, fingerprint
from mdm_jax.runs.key_value_store import error_number
from mdm_jax.runs.locks import Share
from mdm_jax.runs.plan import RunPlan
from mdm_jax.runs.reader import describe
from mdm_jax.runs.store import DESCRIPTION, FOLDERS, OWN_FILES, Store, record_key

MOVED = "bring the old images and weights back, or say where they are now"
# Files of a chunk, and chunks of which nothing is there that are told one by one.
CHUNK_FILE = re.compile(r"(?:records|.+/c)/(\d+)(?:\.parquet$|/)")
MOST_NAMED = 1000

EDITED = "the same `mdm run` command writes run.json anew"


class RunStatus(NamedTuple):
    """How far a run is."""

    committed: int
    chunks: int
    rows: int
    """of all chunks; those committed are the sum of `statuses`"""
    statuses: dict[str, int]
    """committed rows by status"""
    bytes: int | None
    """of all files; None for a bucket"""
    running: list[Share]
    """shares (index, count) at which a process is at work"""
    format: int
    """in which the run is written; below `FORMAT` an older version began it"""


class Fault(NamedTuple):
    """Something that is not as it should be."""

    chunk: int | None
    """None for what concerns no chunk"""
    what: str
    """missing, duplicate, corrupt or stray"""
    key: str
    """the file, within the run"""
    sentence: str


def status(store: Store) -> RunStatus:
    """How far a run is. Raises InputError where there is none."""
    description = describe(store)
    layout = Layout(**description["layout"])
    run = fingerprint(description)
    statuses: Counter[str] = Counter()
    committed = 0
    for key, data in store.read_records():
        try:
            table, meta = records.decode(data, columns=["status"])
        except InputError:
            continue  # not committed; `check` says so
        # A record in another's place, or of another run, is none of this run's.
        is_own = record_key(meta.chunk) == key and meta.chunk in range(layout.chunks)
        rows = layout.rows_of(meta.chunk)
        if is_own and not records.misplaced(meta, meta.chunk, rows, run):
            committed += 1
            statuses.update(table["status"].to_pylist())
    return RunStatus(
        committed=committed,
        chunks=layout.chunks,
        rows=layout.rows,
        statuses=dict(statuses.most_common()),
        bytes=store.size(),
        running=store.running(),
        format=description["format"],
    )


def check(store: Store) -> list[Fault]:
    """Everything that is missing, duplicate, corrupt or stray.

    Values of arrays whose metadata are lost are not looked at: `repair`, or the same command again,
    puts them back. Raises InputError where there is no run."""
    description = describe(store)
    layout = Layout(**description["layout"])
    present = {key for folder in FOLDERS for key in store.keys(folder)}
    specs, faults = _check_metadata(store, layout)
    run = fingerprint(description)
    committed = next((each for each in store.footers() if each.run == run), None)
    if specs and committed and list(committed.checksums) != list(specs):
        sentence = "zarr.json does not list the arrays that were committed"
        faults.append(Fault(None, "corrupt", "zarr.json", sentence))
    if edited := edited_parts(description):
        sentence = f"{DESCRIPTION} is not as it was written ({', '.join(edited)})"
        faults.append(Fault(None, "corrupt", DESCRIPTION, sentence))
    lost = {fault.key for fault in faults}
    opened = {name: store.array(name) for name in specs if f"{name}/zarr.json" not in lost}
    chunks = _ChunkCheck(store, layout, run, opened, present)
    there = {chunk for chunk in _chunks_with_files(present) if chunk < layout.chunks}
    absent = (chunk for chunk in range(layout.chunks) if chunk not in there)
    named = [*there, *islice(absent, MOST_NAMED)]
    faults += [fault for fault in map(chunks.first_fault, sorted(named)) if fault]
    if more := layout.chunks - len(named):
        faults.append(
            Fault(None, "missing", "records/", f"{more} more chunks are not there")
        )
    return faults + _find_strays(present, specs, there)


def mend(store: Store, plan: RunPlan) -> None:
    """Put back what says what the run is, and take back the chunks that are faulty.

    The run computes them again. What is committed decides: a run.json that was changed by hand
    costs no chunk. Raises InputError where neither run.json nor any chunk is of this plan."""
    description = plan.description()
    changed = store.changes(description, plan.defaults)
    if changed and not store.fingerprints(description) & {
        footer.run for footer in store.footers()
    }:
        is_edited = bool(edited_parts(store.read_description() or description))
        raise store.other_settings(changed, EDITED if is_edited else MOVED)
    store.write_description(description, plan.defaults)
    store.create(plan.specs, plan.layout)
    repair(store, check(store))


def repair(store: Store, faults: list[Fault]) -> None:
    """Take back what is faulty, so that the run computes it again.

    Metadata of the arrays are put back, unless those that list the arrays are lost: `Store.create`
    does it then. A file that is none of a run's stays where it is."""
    layout = Layout(**describe(store)["layout"])
    lost = {fault.key for fault in faults if fault.key.endswith("zarr.json")}
    if lost and "zarr.json" not in lost:
        store.create(store.specs(), layout)
    for fault in faults:
        if fault.chunk is not None:
            store.remove(fault.chunk)
        elif fault.what == "stray" and OWN_FILES.fullmatch(fault.key):
            store.delete(fault.key)


def _check_metadata(store: Store, layout: Layout) -> tuple[dict[str, Spec], list[Fault]]:
    """The arrays of the run, none where what lists them is lost, and faults of their metadata."""
    try:
        specs = store.specs()
    except InputError as error:
        return {}, [Fault(None, "missing", "zarr.json", str(error))]
    faults = []
    for key, content in arrays.metadata(specs, layout).items():
        found = store.read(key)
        if found is None:
            faults.append(Fault(None, "missing", key, f"{key} is gone"))
        # Other tools may add to the metadata of the whole.
        elif found != content and key != "zarr.json":
            faults.append(Fault(None, "corrupt", key, f"{key} is not as it was written"))
    return specs, faults


@dataclass(frozen=True)
class _ChunkCheck:
    """What every chunk is compared with."""

    store: Store
    layout: Layout
    run: str
    """fingerprint of run.json"""
    opened: Mapping[str, ts.TensorStore]
    present: set[str]
    """keys of all files"""

    def first_fault(self, chunk: int) -> Fault | None:
        """The first thing that is wrong with a chunk."""
        key = record_key(chunk)
        data = self.store.read(key)
        if data is None:
            sentence = (
                f"chunk {chunk} is not there: it was not computed yet, or its record was"
            )
            return Fault(chunk, "missing", key, f"{sentence} removed")
        try:
            table, meta = records.decode(data)
        except InputError as error:
            return Fault(chunk, "corrupt", key, f"{key} is {error}")
        rows = self.layout.rows_of(chunk)
        if fault := records.fault(table, meta, chunk, rows, self.run):
            return Fault(chunk, fault[0], key, f"{key} {fault[1]}")
        for name, array in self.opened.items():
            fault_of_array = self._array_fault(chunk, name, array, meta.checksums.get(name))
            if fault_of_array is not None:
                return fault_of_array
        return None

    def _array_fault(
        self, chunk: int, name: str, array: ts.TensorStore, expected: int | None
    ) -> Fault | None:
        rows = self.layout.rows_of(chunk)
        key = arrays.chunk_key(name, array.ndim, chunk)
        try:
            values = np.asarray(array[rows.start : rows.stop].read().result())
        except (OSError, ValueError) as error:
            # With a number it is the disk or the permissions: nothing says that a file is damaged.
            if error_number(error):
                raise self.store.unreadable(error) from error
            return Fault(chunk, "corrupt", key, f"{key} is damaged")
        # By the values, as a chunk without any result has no file.
        if arrays.checksum(values) == expected:
            return None
        if key not in self.present:
            return Fault(chunk, "missing", key, f"{key} is gone")
        sentence = f"{key} holds other values than those that were committed"
        return Fault(chunk, "corrupt", key, sentence)


def _chunks_with_files(present: set[str]) -> set[int]:
    """The numbers of chunks of which a record, or a part of an array, is there."""
    return {int(found[1]) for found in map(CHUNK_FILE.match, present) if found}


def _find_strays(
    present: set[str], specs: Mapping[str, Spec], chunks: set[int]
) -> list[Fault]:
    """Files among the records, or in an array's folder, that are none of these chunks'."""
    expected = {f"{name}/zarr.json" for name in specs}
    for chunk in chunks:
        expected.add(record_key(chunk))
        for name, spec in specs.items():
            expected.add(arrays.chunk_key(name, 1 + len(spec.shape), chunk))
    folders = ("records/", *(f"{name}/" for name in specs))
    faults = []
    for key in sorted(present - expected):
        if key.startswith(folders):
            sentence = (
                f"{key} is no file of this run: move it away, as other tools would read it"
            )
            faults.append(Fault(None, "stray", key, f"{sentence} too"))
    return faults
