"""How far a run is, and whether everything that it committed is there and as it was written.

Every chunk is looked at on its own, an array at a time, so memory does not grow with the run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorstore as ts

from mdm_jax.errors import InputError
from mdm_jax.runs import arrays, records
from mdm_jax.runs.arrays import Spec
from mdm_jax.runs.chunks import Layout
from mdm_jax.runs.key_value_store import error_number
from mdm_jax.runs.locks import Share
from mdm_jax.runs.plan import RunPlan
from mdm_jax.runs.reader import describe
from mdm_jax.runs.store import FOLDERS, Store, fingerprint, record_key

MOVED = "bring the old images and weights back, or give --data and --weights where they are now"


class Progress(NamedTuple):
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


def status(store: Store) -> Progress:
    """How far a run is. Raises InputError where there is none."""
    description = describe(store)
    layout = Layout(**description["layout"])
    statuses: Counter[str] = Counter()
    committed = 0
    for key, data in store.read_records():
        try:
            table, meta = records.decode(data, columns=["status"])
        except InputError:
            continue  # not committed; `check` says so
        if record_key(meta.chunk) == key:
            committed += 1
            statuses.update(table["status"].to_pylist())
    return Progress(
        committed,
        layout.chunks,
        layout.rows,
        dict(statuses.most_common()),
        store.size(),
        store.running(),
        description["format"],
    )


def check(store: Store) -> list[Fault]:
    """Everything that is missing, duplicate, corrupt or stray. Raises InputError where there is no
    run.

    Values of arrays whose metadata are lost are not looked at: `repair`, or the same command again,
    puts them back."""
    description = describe(store)
    layout, run = Layout(**description["layout"]), fingerprint(description)
    present = {key for place in FOLDERS for key in store.keys(place)}
    specs, faults = _metadata_faults(store, layout)
    lost = {fault.key for fault in faults}
    opened = {name: store.array(name) for name in specs if f"{name}/zarr.json" not in lost}
    for chunk in range(layout.chunks):
        fault = _chunk_fault(store, chunk, layout, run, opened, present)
        faults += [fault] if fault else []
    return faults + _strays(present, specs, layout)


def mend(store: Store, plan: RunPlan) -> None:
    """Put back what says what the run is, and take back the chunks that are faulty, so that the run
    computes them again.

    What is committed decides: a run.json that was changed by hand costs no chunk. Raises InputError
    where neither run.json nor any chunk was made by this plan."""
    description = plan.description()
    changed = store.changes(description, plan.defaults)
    if changed and fingerprint(description) not in {footer.run for footer in store.footers()}:
        raise store.other_settings(changed, MOVED)
    store.write_description(description, plan.defaults)
    store.create(plan.specs, plan.layout)
    repair(store, check(store))


def repair(store: Store, faults: list[Fault]) -> None:
    """Take back what is faulty, so that the run computes it again; a file that is none of a run's
    stays where it is.

    Metadata of the arrays are put back, unless those that list the arrays are lost: `Store.create`
    does it then."""
    layout = Layout(**describe(store)["layout"])
    lost = {fault.key for fault in faults if fault.key.endswith("zarr.json")}
    if lost and "zarr.json" not in lost:
        store.create(store.specs(), layout)
    for fault in faults:
        if fault.chunk is not None:
            store.remove(fault.chunk)
        elif fault.what == "stray" and re.fullmatch(r"records/\d+\.parquet|.*/c(/\d+)+", fault.key):
            store.delete(fault.key)


def _metadata_faults(store: Store, layout: Layout) -> tuple[dict[str, Spec], list[Fault]]:
    """The arrays of the run, none where what lists them is lost, and what is wrong with their
    metadata."""
    try:
        specs = store.specs()
    except InputError as error:
        return {}, [Fault(None, "missing", "zarr.json", str(error))]
    faults = []
    for key, content in arrays.metadata(specs, layout).items():
        found = store.read(key)
        if found is None:
            faults.append(Fault(None, "missing", key, f"{key} is gone"))
        elif found != content and key != "zarr.json":  # to which other tools may add
            faults.append(Fault(None, "corrupt", key, f"{key} is not as it was written"))
    return specs, faults


def _chunk_fault(
    store: Store,
    chunk: int,
    layout: Layout,
    run: str,
    opened: Mapping[str, ts.TensorStore],
    present: set[str],
) -> Fault | None:
    """The first thing that is wrong with a chunk."""
    key, rows = record_key(chunk), layout.rows_of(chunk)
    data = store.read(key)
    if data is None:
        return Fault(
            chunk,
            "missing",
            key,
            f"chunk {chunk} is not there: it was not computed yet, or its record was removed",
        )
    try:
        table, meta = records.decode(data)
    except InputError as error:
        return Fault(chunk, "corrupt", key, f"{key} is {error}")
    if meta.chunk != chunk or meta.rows != rows:
        return Fault(chunk, "duplicate", key, f"{key} holds the rows of chunk {meta.chunk}")
    if meta.run != run:
        return Fault(
            chunk, "corrupt", key, f"{key} was made with other settings than those in run.json"
        )
    if records.checksum(table) != meta.table:
        return Fault(
            chunk, "corrupt", key, f"{key} holds other values than those that were committed"
        )
    numbers = table["row"].to_pylist()
    if numbers != list(rows):
        twice = len(set(numbers)) < len(numbers)
        return Fault(
            chunk,
            "duplicate" if twice else "corrupt",
            key,
            f"{key} does not hold its rows, each once and in order",
        )
    for name, array in opened.items():
        wrong = _array_fault(store, name, array, chunk, rows, meta.checksums.get(name), present)
        if wrong:
            return wrong
    return None


def _array_fault(
    store: Store,
    name: str,
    array: ts.TensorStore,
    chunk: int,
    rows: range,
    expected: int | None,
    present: set[str],
) -> Fault | None:
    key = arrays.chunk_key(name, array.ndim, chunk)
    try:
        values = np.asarray(array[rows.start : rows.stop].read().result())
    except (OSError, ValueError) as error:
        if error_number(
            error
        ):  # the disk's fault, or the permissions'; nothing says that the file is damaged
            raise store.unreadable(error) from error
        return Fault(chunk, "corrupt", key, f"{key} is damaged")
    if arrays.checksum(values) == expected:  # a chunk without any result has no file
        return None
    if key not in present:
        return Fault(chunk, "missing", key, f"{key} is gone")
    return Fault(chunk, "corrupt", key, f"{key} holds other values than those that were committed")


def _strays(present: set[str], specs: Mapping[str, Spec], layout: Layout) -> list[Fault]:
    """Files among the records, or in an array's folder, that are none of this run's."""
    expected = {f"{name}/zarr.json" for name in specs}
    for chunk in range(layout.chunks):
        expected |= {
            record_key(chunk),
            *(arrays.chunk_key(name, 1 + len(spec.shape), chunk) for name, spec in specs.items()),
        }
    folders = ("records/", *(f"{name}/" for name in specs))
    return [
        Fault(
            None,
            "stray",
            key,
            f"{key} is no file of this run: move it away, as other tools would read it too",
        )
        for key in sorted(present - expected)
        if key.startswith(folders)
    ]
