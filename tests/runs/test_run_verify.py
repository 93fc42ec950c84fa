"""What is missing, duplicate, corrupt or stray in a run is found, taken back and computed again."""

from __future__ import annotations

import json
import resource
import shutil
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_run_store import (
    LAYOUT,
    chunk_data,
    content,
    description,
    one_sentence,
    started,
    whole_run,
)

from mdm_jax.errors import InputError
from mdm_jax.runs import arrays, records
from mdm_jax.runs.chunks import Layout
from mdm_jax.runs.description import fingerprint
from mdm_jax.runs.description_copy import lost_description, restore_description
from mdm_jax.runs.reader import open_run
from mdm_jax.runs.store import open_store, record_key
from mdm_jax.runs.verify import check, repair, status

ARRAY = "mask_vectors/3x4/c/1/0/0"
RECORD = "records/00001.parquet"


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def cut(path, left):
    path.write_bytes(path.read_bytes()[:left])


def of_chunk(source, target):
    return lambda run: shutil.copy(run / source, run / target)


def forged(rows, chunk=1, **meta):
    """A record file of chunk 1 with rows of these numbers; the checksums are right."""

    def write(run):
        schema = records.schema(["area"], vector=False)
        found = records.footer((run / RECORD).read_bytes())._replace(**meta)
        table = records.table([{"row": row} for row in rows], schema)
        (run / RECORD).write_bytes(
            records.encode(table, chunk, found.rows, found.checksums, found.run)
        )

    return write


def add(name):
    def write(run):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(b"a file")

    return write


FAULTS = {
    "array flipped in its middle": (lambda run: flip(run / ARRAY, 30), 1, "corrupt", ARRAY),
    "array flipped at its start": (lambda run: flip(run / ARRAY, 0), 1, "corrupt", ARRAY),
    "array flipped in its checksum": (
        lambda run: flip(run / ARRAY, -1),
        1,
        "corrupt",
        ARRAY,
    ),
    "array cut": (lambda run: cut(run / ARRAY, 20), 1, "corrupt", ARRAY),
    "array empty": (lambda run: cut(run / ARRAY, 0), 1, "corrupt", ARRAY),
    "array gone": (lambda run: (run / ARRAY).unlink(), 1, "missing", ARRAY),
    "array of another chunk": (
        of_chunk("mask_vectors/3x4/c/0/0/0", ARRAY),
        1,
        "corrupt",
        ARRAY,
    ),
    "saliency of another chunk": (
        of_chunk("saliency/c/0/0/0", "saliency/c/2/0/0"),
        2,
        "corrupt",
        "saliency/c/2/0/0",
    ),
    "record gone": (lambda run: (run / RECORD).unlink(), 1, "missing", RECORD),
    "record cut": (lambda run: cut(run / RECORD, -9), 1, "corrupt", RECORD),
    "record empty": (lambda run: cut(run / RECORD, 0), 1, "corrupt", RECORD),
    "record flipped": (lambda run: flip(run / RECORD, 30), 1, "corrupt", RECORD),
    "record of another chunk": (
        of_chunk("records/00000.parquet", RECORD),
        1,
        "duplicate",
        RECORD,
    ),
    "record of other settings": (forged(range(4, 8), run="other"), 1, "corrupt", RECORD),
    "rows twice": (forged([4, 5, 5, 7]), 1, "duplicate", RECORD),
    "rows of another chunk": (forged(range(4)), 1, "corrupt", RECORD),
    "rows that lack": (forged(range(4, 7)), 1, "corrupt", RECORD),
    "record beyond the last": (
        of_chunk(RECORD, "records/00004.parquet"),
        None,
        "stray",
        "records/00004.parquet",
    ),
    "file among the records": (
        add("records/notes.txt"),
        None,
        "stray",
        "records/notes.txt",
    ),
    "array chunk beyond": (add("saliency/c/3/0/0"), None, "stray", "saliency/c/3/0/0"),
    "file in an array": (
        add("mask_vectors/2x2/a/b"),
        None,
        "stray",
        "mask_vectors/2x2/a/b",
    ),
    "metadata gone": (
        lambda run: (run / "saliency/zarr.json").unlink(),
        None,
        "missing",
        "saliency/zarr.json",
    ),
    "metadata cut": (
        lambda run: cut(run / "saliency/zarr.json", 9),
        None,
        "corrupt",
        "saliency/zarr.json",
    ),
    "metadata flipped": (
        lambda run: flip(run / "saliency/zarr.json", 80),
        None,
        "corrupt",
        "saliency/zarr.json",
    ),
    "group gone": (
        lambda run: (run / "mask_vectors/zarr.json").unlink(),
        None,
        "missing",
        "mask_vectors/zarr.json",
    ),
    "whole gone": (lambda run: (run / "zarr.json").unlink(), None, "missing", "zarr.json"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_mended(tmp_path, name):
    harm, chunk, what, key = FAULTS[name]
    store = whole_run(tmp_path / "a")
    whole_run(tmp_path / "b")
    assert check(store) == []
    harm(tmp_path / "a")
    faults = check(store)
    assert [(fault.chunk, fault.what, fault.key) for fault in faults] == [
        (chunk, what, key)
    ]
    assert "\n" not in faults[0].sentence
    repair(store, faults)
    if key == "zarr.json":
        assert "the same command again puts it back" in check(store)[0].sentence
        started(tmp_path / "a")
    lost = set(range(LAYOUT.chunks)) - store.committed()
    assert lost == ({chunk} if chunk is not None else set())
    for missing in lost:
        store.write(chunk_data(missing)).result()
    theirs = [key] if name.startswith("file") else []  # left where it is
    assert [fault.key for fault in check(store)] == theirs
    for key in theirs:
        (tmp_path / "a" / key).unlink()
    assert content(tmp_path / "a") == content(tmp_path / "b")


def swap(one, other):
    def write(run):
        first, second = (run / one).read_bytes(), (run / other).read_bytes()
        (run / one).write_bytes(second)
        (run / other).write_bytes(first)

    return write


def edit(name, **changed):
    """A JSON file with other values at the end of dotted paths."""

    def write(run):
        content = json.loads((run / name).read_text())
        for path, value in changed.items():
            *above, last = path.split("__")
            inner = content
            for key in above:
                inner = inner[key]
            inner[last] = value
        (run / name).write_text(json.dumps(content))

    return write


def reorder(run):
    """The list of arrays in another order: each would be drawn with another's weight."""
    content = json.loads((run / "zarr.json").read_text())
    listed = content["attributes"]["arrays"]
    content["attributes"]["arrays"] = dict(reversed(listed.items()))
    (run / "zarr.json").write_text(json.dumps(content))


HARM = {name: harm for name, (harm, *_) in FAULTS.items()} | {
    "records swapped": swap("records/00000.parquet", RECORD),
    "arrays swapped": swap("mask_vectors/3x4/c/0/0/0", ARRAY),
    "weights edited": edit("run.json", settings__stack_weights=[3.0, 1.0]),
    "layout edited": edit("run.json", layout__items=24),
    "arrays reordered": reorder,
}
HARMLESS = (
    "file among the records",
    "array chunk beyond",
    "file in an array",
    "group gone",
)


def everything(place):
    """All that a reader of a run gets."""
    run = open_run(place)
    vectors = [array[...] for array in run.mask_vectors]
    maps = run.saliency_of(range(len(run)))
    return run.records.to_pylist(), *vectors, maps


@pytest.mark.parametrize("name", HARM)
def test_no_fault_is_read_over(tmp_path, name):
    """A reader gets what was committed, or a sentence with the command that mends it."""
    whole_run(tmp_path)
    before = everything(tmp_path)
    HARM[name](tmp_path)
    if name in HARMLESS:
        np.testing.assert_equal(everything(tmp_path), before)
    elif name == "record gone":
        run = open_run(tmp_path)
        assert "6 of the 10 rows of" in run.incomplete
        assert f"such as {RECORD}" in run.incomplete
        assert np.isnan(run.mask_vectors[1][4:8]).all()
        assert len(run.records) == 6
    else:
        with pytest.raises(
            InputError, match=r"`mdm run verify|the same command again"
        ) as error:
            everything(tmp_path)
        one_sentence(error)


def test_bytes_that_are_no_text_are_no_traceback(tmp_path):
    """One bit of the schema says that ids are bytes, which JSON, and so a checksum, cannot hold."""
    store = whole_run(tmp_path)
    path = tmp_path / RECORD
    table, meta = records.decode(path.read_bytes())
    ids = table.column_names.index("id")
    changed = table.set_column(ids, "id", table["id"].cast("binary"))
    meta_text = pq.read_metadata(path).metadata[b"mdm_jax"]
    pq.write_table(changed.replace_schema_metadata({b"mdm_jax": meta_text}), path)
    assert meta.chunk == 1
    (fault,) = check(store)
    assert fault.sentence == f"{RECORD} is no readable record file (id is of another type)"
    assert status(store).committed == 2
    with pytest.raises(InputError, match=r"00001\.parquet is no .*`mdm run verify"):
        len(open_run(tmp_path))


@pytest.mark.parametrize("change", ["name", "axes", "size", "type", "format"])
def test_a_list_of_arrays_of_a_stranger(tmp_path, change):
    store = whole_run(tmp_path)
    content = json.loads((tmp_path / "zarr.json").read_text())
    listed = content["attributes"]["arrays"]
    entry = listed["mask_vectors/2x2"]
    if change == "name":
        listed["../other/mask_vectors"] = listed.pop("mask_vectors/2x2")
    else:
        values = {"axes": [2], "size": [-2, 2], "type": ["2", 2], "format": "object"}
        entry["dtype" if change == "format" else "shape"] = values[change]
    (tmp_path / "zarr.json").write_text(json.dumps(content))
    assert check(store)[0].key == "zarr.json"
    with pytest.raises(InputError, match=r"zarr\.json is gone or damaged") as error:
        everything(tmp_path)
    one_sentence(error)


def test_metadata_that_are_of_another_array_are_told(tmp_path):
    whole_run(tmp_path)
    edit("mask_vectors/3x4/zarr.json", shape=[10, 4, 3])(tmp_path)
    with pytest.raises(InputError, match=r"3x4/zarr\.json is gone or damaged") as error:
        everything(tmp_path)
    one_sentence(error)


def test_billions_of_chunks_that_are_not_there_take_no_time(tmp_path):
    start = time.perf_counter()
    store = started(tmp_path, Layout(items=10**11, targets=1, chunk=1))
    faults = check(store)
    assert len(faults) == 1001
    assert {fault.what for fault in faults} == {"missing"}
    assert faults[-1].sentence == f"{10**11 - 1000} more chunks are not there"
    repair(store, faults[:3])
    assert status(store).chunks == 10**11
    run = open_run(tmp_path)
    assert len(run) == 0
    assert "0 of the 100000000000 rows" in run.incomplete
    assert time.perf_counter() - start < 10


COPY = "run.json.copy"


def test_the_copy_takes_the_place_of_a_lost_description(tmp_path):
    store = whole_run(tmp_path)
    whole = (tmp_path / "run.json").read_bytes()
    assert (tmp_path / COPY).read_bytes() == whole
    assert lost_description(store) is None
    for harm, what in (
        (lambda run: (run / "run.json").unlink(), "missing"),
        (lambda run: cut(run / "run.json", 50), "corrupt"),
        (edit("run.json", settings__stack_weights=[3.0, 1.0]), "corrupt"),
        (edit("run.json", layout__chunk=0), "corrupt"),
        (lambda run: (run / "run.json").write_text("[" * 100_000), "corrupt"),
    ):
        harm(tmp_path)
        assert lost_description(store)[0] == what
        restore_description(store)
        assert (tmp_path / "run.json").read_bytes() == whole
    (tmp_path / "run.json").unlink()
    with pytest.raises(
        InputError, match=r"is gone: .*`mdm run verify .*puts its copy back"
    ):
        open_run(tmp_path)


def test_a_copy_that_does_not_fit_stays_where_it_is(tmp_path):
    store = whole_run(tmp_path / "a")
    whole_run(tmp_path / "b", steps=4)
    for harm in (
        lambda run: shutil.copy(tmp_path / "b" / COPY, run / COPY),
        lambda run: cut(run / COPY, 50),
        lambda run: (run / COPY).unlink(),
    ):
        harm(tmp_path / "a")
        assert lost_description(store) is None  # run.json is in order
        text = (tmp_path / "a/run.json").read_text()
        (tmp_path / "a/run.json").unlink()
        restore_description(store)
        with pytest.raises(
            InputError, match=r"is gone: the same command .*can be read by other"
        ):
            open_run(tmp_path / "a")
        (tmp_path / "a/run.json").write_text(text)


def test_rows_of_another_run_are_not_counted(tmp_path):
    store = whole_run(tmp_path / "a")
    whole_run(tmp_path / "b", steps=4)
    for number in (1, 7):
        shutil.copy(tmp_path / "b" / RECORD, tmp_path / "a" / record_key(number))
    counted = status(store)
    assert (counted.committed, sum(counted.statuses.values())) == (2, 6)
    with pytest.raises(
        InputError, match=r"00001\.parquet was made with other settings than"
    ):
        len(open_run(tmp_path / "a"))


def test_every_fault_at_once_is_found(tmp_path):
    store = whole_run(tmp_path)
    flip(tmp_path / "mask_vectors/2x2/c/0/0/0", 30)
    of_chunk("records/00000.parquet", "records/00002.parquet")(tmp_path)
    (tmp_path / RECORD).unlink()
    of_chunk("records/00002.parquet", "records/00009.parquet")(tmp_path)
    found = [(fault.chunk, fault.what) for fault in check(store)]
    assert found == [(0, "corrupt"), (1, "missing"), (2, "duplicate"), (None, "stray")]


def test_a_chunk_without_any_result_has_no_files_and_no_fault(tmp_path):
    store = started(tmp_path)
    data = chunk_data(0)
    store.write(
        data._replace(
            arrays={
                name: np.full_like(values, np.nan) for name, values in data.arrays.items()
            }
        )
    ).result()
    assert not (tmp_path / "saliency/c/0/0/0").exists()
    assert [(fault.chunk, fault.what) for fault in check(store)] == [
        (1, "missing"),
        (2, "missing"),
    ]


@pytest.mark.slow
def test_a_flip_anywhere_in_a_record_that_changes_it_is_found(tmp_path):
    """Every bit that matters: what is not found reads back as the same table."""
    store = whole_run(tmp_path, [0, 1, 2])
    path = tmp_path / RECORD
    whole = path.read_bytes()
    expected = records.decode(whole)
    for at in range(0, len(whole), 23):
        flip(path, at)
        faults = [fault for fault in check(store) if fault.chunk == 1]
        if not faults:
            assert records.decode(path.read_bytes()) == expected
        path.write_bytes(whole)


def test_files_of_a_person_beside_the_run_are_no_faults(tmp_path):
    store = whole_run(tmp_path)
    for name in ("notes.txt", "report/index.html", "mask_vectors/mean/c/0"):
        add(name)(tmp_path)
    assert check(store) == []


def test_status_says_how_far_a_run_is(tmp_path):
    store = whole_run(tmp_path, [0, 1])
    with store.locked((1, 2)):
        found = status(store)
    assert (found.committed, found.chunks) == (2, 3)
    assert (found.rows, found.statuses) == (10, {"CONVERGED": 7, "UNREADABLE": 1})
    assert found.running == [(1, 2)]
    assert found.bytes == sum(map(len, content(tmp_path).values()))
    cut(tmp_path / RECORD, 9)
    assert (status(store).committed, status(store).running) == (1, [])


@pytest.mark.parametrize("question", [status, check, lambda store: repair(store, [])])
def test_no_run_to_look_at(tmp_path, question):
    with pytest.raises(InputError, match="holds no run") as error:
        question(open_store(tmp_path))
    one_sentence(error)


@pytest.mark.parametrize("key", [ARRAY, RECORD])
def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path, key):
    store = whole_run(tmp_path)
    (tmp_path / key).unlink()
    (tmp_path / key).symlink_to(tmp_path / key)  # the system's error, for any user
    with pytest.raises(
        InputError,
        match=r"cannot be read \(.*symbolic links\): check the permissions and the disk",
    ):
        check(store)


def test_a_column_of_another_name_is_told_to_a_reader(tmp_path):
    whole_run(tmp_path)
    path = tmp_path / RECORD
    path.write_bytes(path.read_bytes().replace(b"kept_area", b"kept_aria"))
    with pytest.raises(
        InputError,
        match=r"00001.parquet is no readable .*kept_area does not.*`mdm run verify",
    ) as error:
        len(open_run(tmp_path))
    one_sentence(error)


@pytest.mark.slow
def test_checking_needs_the_memory_of_a_chunk(tmp_path):
    """60 chunks of 8 MiB each, which compress to nothing on the disk, in less than 100 MiB."""
    layout = Layout(items=60, targets=1, chunk=1)
    name, spec = "saliency", arrays.Spec((2048, 2048), "float16")
    store = open_store(tmp_path)
    store.begin(
        plain := description() | {"layout": {"items": 60, "targets": 1, "chunk": 1}}
    )
    store.create({name: spec}, layout)
    zeros = np.zeros((1, *spec.shape), np.float16)
    store.array(name)[:1].write(zeros).result()
    one = (tmp_path / name / "c/0/0/0").read_bytes()
    schema = records.schema([], vector=False)
    for chunk in range(layout.chunks):
        table, rows = records.table([{"row": chunk}], schema), layout.rows_of(chunk)
        add(arrays.chunk_key(name, 3, chunk))(tmp_path)
        (tmp_path / arrays.chunk_key(name, 3, chunk)).write_bytes(one)
        record = records.encode(
            table, chunk, rows, {name: arrays.checksum(zeros)}, fingerprint(plain)
        )
        add(record_key(chunk))(tmp_path)
        (tmp_path / record_key(chunk)).write_bytes(record)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert check(store) == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
    assert len(open_run(tmp_path)) == 60
