"""Ids are keys: another for every name, as stored; what is shown is for people alone."""

import os

import numpy as np
import PIL.Image
from hypothesis import given
from hypothesis import strategies as st

from mdm_jax.data import open_source
from mdm_jax.data.item_reader import read_items
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.evaluation.saved_maps import SavedMaps, match_images
from mdm_jax.runs import records
from mdm_jax.text_files import file_id, printable

NAMES = (
    b"a\tb",
    b"a?b",
    b"a\nb",
    b"a\xffb",
    b"a\xfeb",
    b"a\\udcffb",
    b"a\\\\udcffb",
    b"a\\b",
)


def names(alphabet="a\\udc?\udcff\udc80\t"):
    return st.text(alphabet, max_size=12)


@given(names(), names())
def test_two_names_never_have_one_id(one, other):
    assert (file_id(one) == file_id(other)) == (one == other)
    file_id(one).encode()


def test_odd_names_keep_apart_from_listing_to_evaluation(tmp_path):
    files = []
    for number, name in enumerate(NAMES):
        (tmp_path / "photos" / "cat").mkdir(parents=True, exist_ok=True)
        file = tmp_path / "photos" / "cat" / (os.fsdecode(name) + ".png")
        PIL.Image.new("RGB", (16, 16), (number * 20, 0, 0)).save(file, "PNG")
        files.append(file)
    source = open_source(f"folder:{tmp_path / 'photos'}", "all")
    ids = tuple(source.read_image(i).id for i in range(len(source)))
    assert len(set(ids)) == len(NAMES)
    # What a run stores are these ids, of images that were read as of those that were not.
    pairs = [(i, i) for i in range(len(source))]
    assert tuple(read.id for read in read_items(source, pairs, None)) == ids
    table = records.table(
        [{"id": id, "row": row} for row, id in enumerate(ids)],
        records.schema((), vector=False),
    )
    stored, _ = records.decode(records.encode(table, 0, range(len(ids)), {}))
    stored_ids = tuple(stored["id"].to_pylist())
    assert stored_ids == ids
    for file in files:
        file.write_bytes(b"")
    assert tuple(read.id for read in read_items(source, pairs, None)) == ids
    for number, file in enumerate(files):
        PIL.Image.new("RGB", (16, 16), (number * 20, 0, 0)).save(file, "PNG")
    preprocessing = Preprocessing(3, (16, 16), 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)
    maps = SavedMaps(np.zeros((len(ids), 16, 16)), None, None, stored_ids[::-1])
    found, skipped = match_images(maps, source, preprocessing, None, tmp_path)
    assert (tuple(each.id for each in found), skipped) == (ids[::-1], [])


def test_runs_of_before_know_files_by_their_printed_names(tmp_path):
    (tmp_path / "cat").mkdir()
    for name in ("a\tb.png", "other.png"):
        PIL.Image.new("RGB", (16, 16)).save(tmp_path / "cat" / name, "PNG")
    source = open_source(f"folder:{tmp_path}", "all")
    maps = SavedMaps(np.zeros((1, 16, 16)), None, None, (printable("cat/a\tb.png"),))
    preprocessing = Preprocessing(3, (16, 16), 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)
    found, _ = match_images(maps, source, preprocessing, None, tmp_path)
    assert [each.id for each in found] == ["cat/a\tb.png"]
