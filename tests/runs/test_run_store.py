"""The folder of a run: what commits a chunk, who may write, and every way in which a place
fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr

from mdm_jax import masks
from mdm_jax.errors import InputError
from mdm_jax.runs import arrays, records
from mdm_jax.runs.chunks import Layout
from mdm_jax.runs.description import with_names
from mdm_jax.runs.reader import open_run
from mdm_jax.runs.store import ChunkData, open_store, record_key
from mdm_jax.runs.verify import check, repair
from mdm_jax.storage.stored_format import FORMAT

LAYOUT = Layout(items=10, targets=1, chunk=4)
SIZES = ((2, 2), (3, 4))
IMAGE = (8, 10)
UNREADABLE = 5
"""the row without a result"""


def description(**settings):
    settings = {
        "steps": 3,
        "image": list(IMAGE),
        "stack_weights": [1.0, 3.0],
        "method": {"name": "mdm"},
    } | settings
    return {
        "format": FORMAT,
        "layout": asdict(LAYOUT),
        "settings": settings,
        "classes": ["cat", "dog"],
        "request": None,
    }


def chunk_data(chunk, layout=LAYOUT, saliency=True):
    """What a chunk holds: random, the same at every call."""
    rows = layout.rows_of(chunk)
    specs = arrays.specs(SIZES, IMAGE if saliency else None)
    values = {}
    for name, spec in specs.items():
        values[name] = np.stack(
            [np.random.default_rng(row).uniform(size=spec.shape) for row in rows]
        ).astype(spec.dtype)
        values[name][[row == UNREADABLE for row in rows]] = np.nan
    table = records.table(
        [record(row) for row in rows], records.schema(["area"], vector=False)
    )
    return ChunkData(chunk, table, values)


def record(row):
    if row == UNREADABLE:
        return {
            "row": row,
            "item": row,
            "id": "b.png",
            "rank": 0,
            "status": "UNREADABLE",
            "reason": "b.png is damaged",
        }
    area = {"kept_area": 0.25, "term_area": np.float32(row)}
    place = {"row": row, "item": row, "id": f"{row}.png", "rank": 0}
    return place | area | {"status": "CONVERGED", "reason": ""}


def started(place, layout=LAYOUT, saliency=True, **settings):
    store = open_store(place)
    store.begin(description(**settings) | {"layout": asdict(layout)})
    store.create(arrays.specs(SIZES, IMAGE if saliency else None), layout)
    return store


def whole_run(place, chunks=range(LAYOUT.chunks), **how):
    """A run with these chunks committed."""
    store = started(place, **how)
    for chunk in chunks:
        store.write(
            chunk_data(chunk, how.get("layout", LAYOUT), how.get("saliency", True))
        ).result()
    return store


def content(folder):
    """Every file that two runs must share, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and "locks" not in path.parts
    }


@contextmanager
def small_disk(folder, size):
    """A file system of so many KiB at `folder`; skips where none may be mounted."""
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}k", "small", folder],
        capture_output=True,
    ).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert "tensorstore" not in text.lower()
    assert "os_error_code" not in text
    return text


def test_a_run_is_read_back(tmp_path):
    whole_run(tmp_path)
    run = open_run(tmp_path)
    assert (len(run), run.layout, run.classes) == (10, LAYOUT, ("cat", "dog"))
    assert run.records["row"].to_pylist() == list(range(10))
    assert run.records["id"][3].as_py() == "3.png"
    assert run.records["kept_area"][UNREADABLE].as_py() is None
    assert [array.shape for array in run.mask_vectors] == [(10, 2, 2), (10, 3, 4)]
    expected = chunk_data(1).arrays["mask_vectors/3x4"][2]
    np.testing.assert_array_equal(run.mask_vectors[1][6], expected)
    np.testing.assert_array_equal(
        run.saliency(9), chunk_data(2).arrays["saliency"][1].astype(np.float32)
    )


def test_saliency_is_rendered_from_the_mask_vectors(tmp_path):
    whole_run(tmp_path, saliency=False)
    run = open_run(tmp_path)
    vectors = [
        chunk_data(1).arrays[name][3] for name in ("mask_vectors/2x2", "mask_vectors/3x4")
    ]
    rendered = jnp.stack([masks.render(jnp.asarray(vector), IMAGE) for vector in vectors])
    expected = masks.normalize(masks.stack(rendered, [1.0, 3.0]))
    assert run.saliency_maps is None
    np.testing.assert_allclose(run.saliency(7), expected, atol=1e-6)
    np.testing.assert_array_equal(run.saliency_of([3, 7])[1], run.saliency(7))
    assert run.saliency(7).dtype == np.float32


@pytest.mark.parametrize("saliency", [True, False])
def test_rows_without_a_map_say_why(tmp_path, saliency):
    whole_run(tmp_path, [0, 1], saliency=saliency)
    run = open_run(tmp_path)
    assert len(run) == 8
    with pytest.raises(
        InputError, match=r"row 5 .* has no saliency map \(UNREADABLE: b.png is damaged\)"
    ):
        run.saliency(5)
    with pytest.raises(InputError, match=r"row 9 is not in .*: of its 10 rows 8 are there"):
        run.saliency(9)
    with pytest.raises(InputError, match=r"row 10 is not in .*: it has rows 0 to 9"):
        run.saliency(10)


def test_other_tools_read_the_folder(tmp_path):
    whole_run(tmp_path, [0, 2, 1])
    (tmp_path / "records" / ".00002.parquet").write_bytes(b"half")
    (tmp_path / "mask_vectors" / "2x2" / "c" / "0" / "0" / "0.__lock").write_bytes(b"half")
    group = zarr.open_group(tmp_path, mode="r")
    array = group["mask_vectors/2x2"]
    assert (array.shape, array.dtype, array.chunks) == ((10, 2, 2), np.float32, (4, 2, 2))
    np.testing.assert_array_equal(array[4:8], chunk_data(1).arrays["mask_vectors/2x2"])
    assert group["saliency"].dtype == np.float16
    assert list(group.attrs["arrays"]) == [
        "mask_vectors/2x2",
        "mask_vectors/3x4",
        "saliency",
    ]
    frame = pd.read_parquet(tmp_path / "records")
    assert frame["row"].tolist() == list(range(10))
    assert frame["reason"][UNREADABLE] == "b.png is damaged"


def test_two_runs_are_equal_byte_by_byte(tmp_path):
    whole_run(tmp_path / "a")
    whole_run(tmp_path / "b", [2, 0, 1])
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert set(content(tmp_path / "a")) == {
        "run.json.copy",
        *("run.json", "zarr.json", "mask_vectors/zarr.json", "saliency/zarr.json"),
        *("mask_vectors/2x2/zarr.json", "mask_vectors/3x4/zarr.json"),
        *(
            f"mask_vectors/{size}/c/{chunk}/0/0"
            for size in ("2x2", "3x4")
            for chunk in range(3)
        ),
        *(f"saliency/c/{chunk}/0/0" for chunk in range(3)),
        *(f"records/0000{chunk}.parquet" for chunk in range(3)),
    }


def test_every_nan_is_stored_alike():
    strange = np.array([0x7FC00001, 0xFFC00000, 0x3F800000], np.uint32).view(np.float32)
    plain = np.array([np.nan, np.nan, 1.0], np.float32)
    assert arrays.canonical(strange, "float32").tobytes() == plain.tobytes()
    assert arrays.checksum(arrays.canonical(strange, "float32")) == arrays.checksum(plain)


def test_sizes_alike_have_names_of_their_own():
    assert list(arrays.specs(((7, 7), (7, 9), (7, 7)), None)) == [
        "mask_vectors/7x7", "mask_vectors/7x9", "mask_vectors/7x7-2"]  # fmt: skip


def test_records_keep_what_they_are_given():
    schema = records.schema(["area"], vector=True)
    rows = [
        {
            "row": 7,
            "id": "caf\udce9.png",
            "activation": np.arange(2, dtype=np.float32),
            "label": np.int32(3),
        }
    ]
    table, meta = records.decode(
        records.encode(records.table(rows, schema), 1, range(7, 8), {"saliency": 5}, "run")
    )
    assert meta == records.Meta(
        1, range(7, 8), {"saliency": 5}, "run", records.checksum(table)
    )
    assert table.schema == schema
    found = table.to_pylist()[0]
    assert (found["row"], found["label"], found["activation"], found["id"]) == (
        7,
        3,
        [0.0, 1.0],
        "caf\\udce9.png",
    )
    assert found["term_area"] is None
    with pytest.raises(ValueError, match=r"no such columns: .*'stpes'"):
        records.table([{"stpes": 1}], schema)


# What commits a chunk


def test_the_record_comes_last(tmp_path, monkeypatch):
    store = whole_run(tmp_path, [0])
    seen = []
    encode = records.encode

    def looking(*arguments):
        array = store.array("mask_vectors/3x4")
        seen.append(np.asarray(array[4:8].read().result()))
        return encode(*arguments)

    monkeypatch.setattr(records, "encode", looking)
    store.write(chunk_data(1)).result()
    np.testing.assert_array_equal(
        seen[0], chunk_data(1).arrays["mask_vectors/3x4"]
    )  # complete before the record was made
    assert store.committed() == {0, 1}


def test_a_chunk_whose_arrays_fail_is_not_committed(tmp_path):
    store = whole_run(tmp_path, [0])
    (tmp_path / "mask_vectors/3x4/c/1/0/0/in_the_way").mkdir(parents=True)
    with pytest.raises(InputError, match="nothing committed is lost") as error:
        store.write(chunk_data(1)).result()
    one_sentence(error)
    assert store.committed() == {0}


def test_wrong_shapes_are_refused(tmp_path):
    store = started(tmp_path)
    data = chunk_data(0)
    with pytest.raises(
        ValueError, match=r"mask_vectors/2x2 is \(1, 2, 2\), not \(4, 2, 2\)"
    ):
        store.write(
            data._replace(arrays=data.arrays | {"mask_vectors/2x2": np.zeros((1, 2, 2))})
        ).result()
    assert store.committed() == set()


def test_damaged_or_misplaced_records_do_not_count(tmp_path):
    store = whole_run(tmp_path)
    folder = tmp_path / "records"
    (folder / "00000.parquet").write_bytes((folder / "00000.parquet").read_bytes()[:-9])
    (folder / "00007.parquet").write_bytes((folder / "00001.parquet").read_bytes())
    pq.write_table(
        pq.read_table(folder / "00002.parquet").replace_schema_metadata(None),
        folder / "00002.parquet",
    )
    assert store.committed() == {1}
    with pytest.raises(
        InputError,
        match=r"records/00000.parquet is no readable record file .*mdm run verify",
    ) as error:
        len(open_run(tmp_path))
    one_sentence(error)


def test_a_chunk_taken_back_can_be_written_again(tmp_path):
    store = whole_run(tmp_path / "a")
    whole_run(tmp_path / "b")
    store.remove(1)
    assert store.committed() == {0, 2}
    assert not list((tmp_path / "a").rglob("c/1/0/0"))
    store.remove(1)  # once more does no harm
    store.write(chunk_data(1)).result()
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_damaged_chunk_of_an_array_is_written_over(tmp_path, chunk):
    store = whole_run(tmp_path / "a")
    whole_run(tmp_path / "b")
    for name in ("mask_vectors/2x2", "saliency"):
        (tmp_path / "a" / name / "c" / str(chunk) / "0" / "0").write_bytes(b"damaged")
    store.write(chunk_data(chunk)).result()
    assert content(tmp_path / "a") == content(tmp_path / "b")


# What must agree


def test_a_run_goes_on_with_the_same_description(tmp_path):
    store = whole_run(tmp_path, [0])
    before = content(tmp_path)
    store.begin(description() | {"versions": {"jax": "another"}})
    store.create(arrays.specs(SIZES, IMAGE), LAYOUT)
    assert content(tmp_path) == before


def test_another_description_is_refused_with_every_difference(tmp_path):
    store = whole_run(tmp_path, [0])
    before = content(tmp_path)
    other = description(steps=4, method={"name": "rise", "masks": 9}) | {
        "layout": asdict(LAYOUT) | {"items": 12}
    }
    with pytest.raises(InputError) as error:
        store.begin(other)
    text = one_sentence(error)
    for difference in (
        "layout.items 10 -> 12",
        "settings.steps 3 -> 4",
        'settings.method.name "mdm" -> "rise"',
    ):
        assert difference in text
    assert "settings.method.masks none -> 9" in text
    with pytest.raises(InputError, match=r"settings.steps 3 -> 4"):
        store.agrees(other)
    assert store.agrees(description())
    assert content(tmp_path) == before


def test_where_nothing_is_committed_nothing_binds(tmp_path):
    store = started(tmp_path / "a", layout=Layout(30, 1, 2))
    store.write(chunk_data(0, Layout(30, 1, 2))).result()
    (tmp_path / "a" / "records" / "00000.parquet").write_bytes(
        b""
    )  # arrays of a chunk that does not count
    assert not store.agrees(description())
    whole_run(tmp_path / "a")
    whole_run(tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_stranger_s_files_are_left_alone(tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "mine.txt").write_text("mine")
    (tmp_path / "run.json").write_text('{"theirs": 1}')
    started(tmp_path)
    assert (tmp_path / "records" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("damage", [None, b"", b'{"format": 1, "lay', b"[]", b"\xff"])
def test_a_lost_description_is_written_anew(tmp_path, damage):
    store = whole_run(tmp_path, [0])
    before = content(tmp_path)
    if damage is None:
        (tmp_path / "run.json").unlink()
    else:
        (tmp_path / "run.json").write_bytes(damage)
    with pytest.raises(
        InputError,
        match=r"run.json is (gone|damaged): the same command again writes it anew",
    ) as error:
        open_run(tmp_path)
    one_sentence(error)
    with pytest.raises(InputError, match=r"run.json .*the same command again") as error:
        store.write(chunk_data(1)).result()
    one_sentence(error)
    with pytest.raises(
        InputError, match=r"other settings \(its run.json is gone or damaged\)"
    ) as error:
        store.begin(description(steps=4))
    one_sentence(error)
    store.begin(description())
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "name",
    [
        "zarr.json",
        "mask_vectors/zarr.json",
        "mask_vectors/3x4/zarr.json",
        "saliency/zarr.json",
    ],
)
@pytest.mark.parametrize("damage", [None, b"", b'{"zarr_form', b"{}"])
def test_lost_metadata_are_put_back(tmp_path, name, damage):
    store = whole_run(tmp_path, [0])
    before = content(tmp_path)
    if damage is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(damage)
    if name != "mask_vectors/zarr.json":  # nothing of ours needs it
        with pytest.raises(
            InputError,
            match=f"{name} is gone or damaged: nothing committed is lost, and the same",
        ) as error:
            _ = open_run(tmp_path).mask_vectors, open_run(tmp_path).saliency_maps
        one_sentence(error)
    if name.count("/") == 2:
        with pytest.raises(InputError, match=f"{name} is gone or damaged"):
            store.write(chunk_data(1)).result()
    started(tmp_path)
    assert content(tmp_path) == before
    assert open_run(tmp_path).saliency(2).shape == IMAGE


def test_damaged_arrays_are_named_to_a_reader(tmp_path):
    whole_run(tmp_path)
    (tmp_path / "saliency/c/1/0/0").write_bytes(b"damaged")
    run = open_run(tmp_path)
    with pytest.raises(
        InputError,
        match=r"saliency/c/1/0/0 does not hold what was committed: `mdm run verify",
    ) as error:
        run.saliency(6)
    one_sentence(error)
    assert run.saliency(0).shape == IMAGE


def test_a_description_changed_by_hand_is_put_right(tmp_path):
    store = whole_run(tmp_path, [0])
    before = content(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(description(steps=9)))
    store.begin(description())
    assert content(tmp_path) == before


def test_a_record_of_another_run_is_refused(tmp_path):
    store = whole_run(tmp_path / "a", [1])
    whole_run(tmp_path / "b", [0], steps=4)
    (tmp_path / "a" / record_key(0)).write_bytes(
        (tmp_path / "b" / record_key(0)).read_bytes()
    )
    with pytest.raises(InputError, match=r"holds records of another run: `mdm run verify"):
        store.begin(description())
    repair(store, check(store))
    store.begin(description())
    assert store.committed() == {1}


# Places that fail


def test_a_full_disk_loses_nothing(tmp_path):
    whole_run(tmp_path / "whole")
    with small_disk(tmp_path / "small", 256) as disk:
        store = whole_run(disk / "run", [0])
        ballast = disk / "ballast"
        for pages in range(12):  # room for none, one, more of the files of a chunk
            ballast.write_bytes(b"")
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            ballast.write_bytes(bytes(free - 4096 * pages))
            failure = store.write(chunk_data(1)).exception()
            if failure is None:
                break
            assert isinstance(failure, InputError)
            assert "No space left on device" in str(failure)
            assert str(failure).endswith(
                "nothing committed is lost; free some space, then the same command goes on"
            )
            assert store.committed() == {0}
        assert failure is None
        assert pages > 2
        ballast.write_bytes(b"")
        ballast.write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize))
        with pytest.raises(InputError, match="No space left on device"):
            started(disk / "another")
        ballast.unlink()
        with store.locked((0, 1)):
            store.remove_partial_files()
            store.write(chunk_data(2)).result()
        assert check(store) == []
        assert content(disk / "run") == content(tmp_path / "whole")


def test_a_folder_turned_read_only(tmp_path):
    with small_disk(tmp_path / "small", 256) as disk:
        store = whole_run(disk / "run", [0, 1])
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for attempt in (
            lambda: store.write(chunk_data(2)).result(),
            lambda: started(disk / "run"),
            lambda: started(disk / "new"),
            lambda: store.locked((0, 1)).__enter__(),
            lambda: store.remove(0),
            lambda: store.remove_partial_files(),
        ):
            with pytest.raises(
                InputError, match=r"Read-only file system.*make it writable"
            ) as error:
                attempt()
            one_sentence(error)
        store.log((0, 1))("is left out")
        assert store.running() == []
        assert store.committed() == {0, 1}
        assert len(open_run(disk / "run")) == 8  # a reader needs no more
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        store.write(chunk_data(2)).result()
        assert check(store) == []


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="needs root, to become another user",
)
def test_a_folder_of_another_user(tmp_path):
    store = whole_run(tmp_path / "run", [0])
    os.seteuid(65534)
    try:
        with pytest.raises(
            InputError,
            match=r"run cannot be read \(Permission denied\): check the permissions",
        ) as error:
            open_run(tmp_path / "run")
        one_sentence(error)
        with pytest.raises(InputError, match="Permission denied") as error:
            store.write(chunk_data(1)).result()
        one_sentence(error)
        with pytest.raises(InputError, match="Permission denied") as error:
            started(tmp_path / "run")
        one_sentence(error)
    finally:
        os.seteuid(0)
    assert store.committed() == {0}


def test_a_folder_removed_behind_its_back(tmp_path):
    store = whole_run(tmp_path / "run", [0])
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(
        InputError,
        match=r"run.json was removed while the run was at work: start the same command again",
    ):
        store.write(chunk_data(1)).result()
    assert not (tmp_path / "run" / "records").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "run")
    store.write(chunk_data(1)).result()
    assert store.committed() == {0, 1}


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("{tmp}/file", "is a file: give a folder for the run"),
        ("{tmp}/file/run", r"cannot (write|hold).*Not a directory"),
        ("ftp://host/run", "is no place for a run: give a folder, or a URL with gs://"),
        ("https://host/run", "is no place for a run: give a folder, or a URL with gs://"),
        ("gs://x", "cannot hold a run .*Invalid GCS bucket name"),
        ("s3://x/run", "cannot hold a run .*Invalid S3 bucket name"),
        ("{tmp}/caf\udce9", "has a name that is no UTF-8 text"),
        ("{tmp}/\0", "cannot hold a run"),
        ("/proc/run", "cannot write to /proc/run .*No such file or directory"),
    ],
)
def test_places_that_cannot_be(tmp_path, place, sentence):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(InputError, match=sentence) as error:
        started(place.format(tmp=tmp_path))
    one_sentence(error)


def test_no_run_there(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            InputError, match="holds no run: give the folder that `mdm run` wrote"
        ):
            open_run(place)
    assert not (tmp_path / "nowhere").exists()
    whole_run(tmp_path, [0])
    (tmp_path / "run.json").write_text(json.dumps(description() | {"format": 99}))
    with pytest.raises(
        InputError, match="is a run of format 99, and this version reads formats up to 2"
    ):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (
            "gs://bucket-name/a/run",
            {"driver": "gcs", "bucket": "bucket-name", "path": "a/run/"},
        ),
        (
            Path("gs://bucket-name/run/"),
            {"driver": "gcs", "bucket": "bucket-name", "path": "run/"},
        ),
        ("s3://bucket-name/run", {"driver": "s3", "bucket": "bucket-name", "path": "run/"}),
        ("s3://bucket-name", {"driver": "s3", "bucket": "bucket-name", "path": ""}),
        ("memory://run", {"driver": "memory", "path": "run/"}),
        ("file:///a%20b/run", {"driver": "file", "path": "/a b/run/"}),
        ("/a b%20/ü", {"driver": "file", "path": "/a b%20/ü/"}),
    ],
)
def test_urls_are_taken_to_their_drivers(place, expected):
    store = open_store(place)  # a bucket is not spoken to before it is used
    assert dict(store.spec) == expected
    assert (store.folder is None) == (expected["driver"] != "file")


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_runs_at_urls(tmp_path, kind):
    place = (
        f"memory://{tmp_path.name}/run"
        if kind == "memory"
        else f"file://{tmp_path}/a%20run"
    )
    store = whole_run(place, [0, 2])
    with store.locked((0, 1)):
        store.remove_partial_files()
        store.log((0, 1))("a line")
    assert open_store(place).committed() == {0, 2}
    with pytest.raises(InputError, match=r"settings.steps 3 -> 4"):
        open_store(place).begin(description(steps=4))
    store.remove(2)
    store.write(chunk_data(1)).result()
    run = open_run(place)
    assert len(run) == 8
    np.testing.assert_array_equal(
        run.mask_vectors[0][4:8], chunk_data(1).arrays["mask_vectors/2x2"]
    )
    assert [fault.what for fault in check(store)] == ["missing"]
    assert (store.size() is None) == (kind == "memory")
    assert (tmp_path / "a run" / "log-0-of-1.txt").exists() == (kind == "file")


# Who is at work

BESIDE = """
import sys
from mdm_jax.runs.store import open_store
from mdm_jax.storage.stored_format import FORMAT
with open_store(sys.argv[1]).locked((0, 1)):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path):
    store = whole_run(tmp_path, [0])
    half = tmp_path / "records" / ".00001.parquet"
    half.write_bytes(b"half")
    with subprocess.Popen(
        [sys.executable, "-c", BESIDE, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        try:
            assert other.stdout.readline() == "in\n"
            for share in ((0, 1), (0, 2), (1, 2)):
                with (
                    pytest.raises(
                        InputError, match=r"another run is at work in .*: wait for it, or"
                    ),
                    store.locked(share),
                ):
                    pass
            assert store.running() == [(0, 1)]
            for path in tmp_path.rglob("*"):  # clocks do not matter
                os.utime(path, (0, 0))
            assert store.running() == [(0, 1)]
        finally:
            other.kill()
    assert store.running() == []
    with store.locked((0, 2)):
        assert store.running() == [(0, 2)]
        with (
            pytest.raises(InputError, match="another run is at work"),
            open_store(tmp_path).locked((0, 2)),
        ):
            pass
        with open_store(tmp_path).locked((1, 2)):
            store.remove_partial_files()
            assert half.exists()  # it could be the other's
        store.remove_partial_files()
        assert not half.exists()
    assert store.running() == []


def test_leftovers_of_a_killed_writer_do_no_harm(tmp_path):
    store = whole_run(tmp_path / "a", [0])
    leftovers = [
        *("run.json.__lock", "records/.00001.parquet", "records/.00002.parquet.__lock"),
        *(
            "mask_vectors/2x2/c/1/0/0.__lock",
            "mask_vectors/2x2/c/2/0/0.__lock",
            "saliency/c/1/0/0.__lock",
        ),
    ]
    for name in leftovers:
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_bytes(
            b"half a file, longer than any that is written" * 1000
        )
        os.utime(tmp_path / "a" / name, (2**32, 2**32))
    assert store.committed() == {0}
    assert [fault.what for fault in check(store)] == ["missing", "missing"]
    store.write(chunk_data(1)).result()
    with store.locked((0, 1)):
        store.remove_partial_files()
        store.write(chunk_data(2)).result()
    whole_run(tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


SHARE = """
import sys
sys.path.insert(0, sys.argv[2])
from test_run_store import LAYOUT, chunk_data, open_store, started
share = int(sys.argv[3]), 2
with open_store(sys.argv[1]).locked(share):
    print("ready", flush=True)
    sys.stdin.readline()
    store = started(sys.argv[1])
    store.remove_partial_files()
    for chunk in range(share[0], LAYOUT.chunks, 2):
        store.write(chunk_data(chunk)).result()
"""


@pytest.mark.slow
def test_two_processes_share_a_run(tmp_path):
    command = [sys.executable, "-c", SHARE, tmp_path / "a", Path(__file__).parent]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(index)], **pipes) for index in (0, 1)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # both begin at once
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    whole_run(tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_many_may_begin_at_once(tmp_path, kind):
    place = tmp_path / "a" if kind == "folder" else f"memory://{tmp_path.name}"
    barrier, failures = threading.Barrier(6), []

    def begin():
        try:
            barrier.wait()
            started(place)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    started(tmp_path / "b")
    expected = content(tmp_path / "b")
    assert {key: open_store(place).read(key) for key in expected} == expected


def test_the_log_holds_times(tmp_path):
    store = started(tmp_path)
    store.log((0, 2))("chunk 0 written")
    store.log((0, 2))("caf\udce9.png is damaged")
    lines = (tmp_path / "log-0-of-2.txt").read_text().splitlines()
    assert [line[20:] for line in lines] == ["chunk 0 written", "caf?.png is damaged"]
    assert store.size() == sum(map(len, content(tmp_path).values()))


def test_record_files_have_their_number():
    assert record_key(7) == "records/00007.parquet"
    assert record_key(123456) == "records/123456.parquet"


@pytest.mark.parametrize(
    "key",
    [
        *(
            0,
            6,
            -1,
            np.int64(3),
            slice(2, 7),
            slice(None),
            slice(-3, None),
            slice(8, 2, -2),
        ),
        *(slice(4, 4), [1, 3, 3], [-1, 0], np.arange(10) % 2 == 0, np.asarray([5, 2])),
        *(
            ...,
            (2, 1),
            (slice(1, 3), 0),
            (slice(None), slice(0, 2), 1),
            (..., 0),
            ([1, 2], 0, 1),
        ),
    ],
)
def test_a_stored_array_is_indexed_as_numpy_does(tmp_path, key):
    whole_run(tmp_path)
    array = open_run(tmp_path).mask_vectors[1]
    everything = np.concatenate(
        [chunk_data(chunk).arrays["mask_vectors/3x4"] for chunk in range(LAYOUT.chunks)]
    )
    assert type(array[key]) in (np.ndarray, np.float32)
    np.testing.assert_array_equal(array[key], everything[key])
    np.testing.assert_array_equal(np.asarray(array), everything)
    assert (array.shape, array.ndim, array.dtype, len(array)) == (
        (10, 3, 4),
        3,
        np.float32,
        10,
    )


@pytest.mark.parametrize("key", [10, -11, [3, 10]])
def test_rows_that_a_stored_array_does_not_have(tmp_path, key):
    whole_run(tmp_path)
    with pytest.raises(IndexError):
        _ = open_run(tmp_path).mask_vectors[0][key]


# Names of classes

NAMED = {"classes": ["cat", "dog"], "data_classes": ["dog", "cat"]}


def named(place, chunks=(0,), **names):
    """A run whose settings bind the names of classes, with some chunks."""
    store = open_store(place)
    told = with_names(description() | NAMED | names)
    store.begin(told)
    store.create(arrays.specs(SIZES, IMAGE), LAYOUT)
    for chunk in chunks:
        store.write(chunk_data(chunk)).result()
    return store, told


@pytest.mark.parametrize("part", NAMED)
@pytest.mark.parametrize("names", [["cow", "dog"], ["cat"], ["cat", "dog", "cow"]])
def test_a_run_goes_on_with_the_same_names_alone(tmp_path, part, names):
    store, told = named(tmp_path)
    with pytest.raises(InputError, match=rf"other settings \({part} \d "):
        store.begin(with_names(told | {part: names}))
    # Lists that were edited to fit are no proof.
    path = tmp_path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: names}))
    with pytest.raises(InputError, match=rf"other settings \(settings.names.{part} "):
        store.begin(with_names(told | {part: names}))
    assert named(tmp_path, chunks=())[0].committed() == {0}
    assert open_run(tmp_path).description[part] == NAMED[part]


def test_names_in_an_older_run_bind_as_they_are_written_down(tmp_path):
    store = whole_run(tmp_path, [0])
    told = with_names(description() | {"data_classes": ["dog", "cat"]})
    before = content(tmp_path)
    with pytest.raises(InputError, match=r'other settings \(classes 0 "cat" -> "dog"'):
        store.begin(with_names(told | {"classes": ["dog", "cat"]}))
    assert content(tmp_path) == before
    store.begin(told)
    (tmp_path / "run.json").unlink()
    store.begin(told)
    assert open_run(tmp_path).records["row"].to_pylist() == [0, 1, 2, 3]


@pytest.mark.parametrize("part", ["classes", "data_classes", "request"])
def test_an_edited_description_is_found_and_put_right(tmp_path, part):
    request = {"data": "digits", "limit": 3}
    store, told = named(tmp_path, chunks=range(LAYOUT.chunks), request=request)
    before = content(tmp_path)
    written = json.loads((tmp_path / "run.json").read_text())
    value = {"data": "digits", "limit": 4} if part == "request" else ["dog", "cow"]
    (tmp_path / "run.json").write_text(json.dumps(written | {part: value}))
    with pytest.raises(InputError, match=rf"run.json is not as it was written \({part}\)"):
        open_run(tmp_path)
    (fault,) = check(store)
    assert (fault.what, fault.key) == ("corrupt", "run.json")
    # Without a request of its own, a program does not make an edited one right.
    store.begin(told | {"request": None})
    assert bool(check(store)) == (part == "request")
    store.begin(told)
    assert (check(store), content(tmp_path)) == ([], before)
