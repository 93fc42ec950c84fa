"""tfds data sets prepared and read for real, without TensorFlow and without a network."""

import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from test_sources import split_folder as split_folder  # a fixture

from mdm_jax import InputError
from mdm_jax.data import open_source
from mdm_jax.data.loader import LoaderConfig, eval_batches
from mdm_jax.data.source import UNKNOWN
from mdm_jax.data.tfds import TfdsSource

SCRIPT = Path(__file__).parents[2] / "experiments" / "examples" / "build_tfds.py"


@pytest.fixture
def prepared(split_folder, tmp_path_factory, monkeypatch):
    """The folder and the same as tfds:pets."""
    from mdm_jax.data.tfds_builder import build

    data_dir = tmp_path_factory.mktemp("tfds")
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert build(str(split_folder), "pets") == ({"train": 3, "val": 1}, ())
    return split_folder, data_dir


def outcome(source, index):
    """An example, or the sentence that refuses it."""
    try:
        return source[index]
    except InputError as error:
        return str(error)


def test_a_prepared_folder_reads_back_the_same(prepared):
    folder, _ = prepared
    for split in ("train", "val"):
        one, other = open_source(f"folder:{folder}", split), open_source("tfds:pets", split)
        other = pickle.loads(pickle.dumps(other))
        assert (len(one), one.class_names) == (len(other), other.class_names)
        for index in range(len(one)):
            a, b = outcome(one, index), outcome(other, index)
            if isinstance(a, str):
                assert a == b
                continue
            assert (a.id, a.label) == (b.id, b.label)
            for x, y in zip((a.image, a.mask, a.boxes), (b.image, b.mask, b.boxes)):
                assert (x is None) == (y is None)
                np.testing.assert_array_equal(x, y)
    assert isinstance(outcome(one, 0), str)  # the mask of another size
    assert "tensorflow" not in sys.modules


def test_splits_written_in_the_name(prepared):
    assert len(open_source("tfds:pets:train", "val")) == 3
    assert len(open_source("tfds:pets:train[:67%]", "val")) == 2
    assert len(open_source("tfds:pets:1.0.0:train+val", "val")) == 4
    assert len(open_source("tfds:pets:1.0.0", "test")) == 1  # val stands for test
    assert open_source("tfds:pets:train[1:]", "val")[0].id == "train/cat/deep/b.jpg"
    with pytest.raises(IndexError, match="items 0 to 2"):
        open_source("tfds:pets", "train")[3]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tfds:pets:tarin", "unknown split of tfds:pets 'tarin': did you mean 'train'"),
        ("tfds:pets:train[:x]", r"cannot read the split train\[:x\] of tfds:pets"),
        ("tfds:pets:train[:0%]", r"cannot read the split train\[:0%\] of tfds:pets"),
        ("tfds:pets:2.0.0", "tfds:pets:2.0.0 does not lie in .*check the version"),
        (
            "tfds:pest",
            "unknown tfds data set 'pest' in .*: there are pets; set TFDS_DATA_DIR",
        ),
        ("tfds:a b", "the data source 'tfds:a b' cannot be"),
        ("tfds:cifar10", r"on a machine with TensorFlow run tfds.builder\('cifar10'\)"),
        ("tfds:coco", "not prepared in"),
    ],
)
def test_bad_requests(prepared, text, sentence):
    with pytest.raises(InputError, match=sentence):
        open_source(text, "train")


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_other_formats_and_features_are_refused(prepared):
    _, data_dir = prepared
    features = data_dir / "pets" / "1.0.0" / "features.json"
    whole = features.read_text()
    rewrite(features, lambda content: content["featuresDict"]["features"].pop("label"))
    with pytest.raises(InputError, match="tfds:pets has no feature 'label', only "):
        open_source("tfds:pets", "train")
    features.write_text(whole)
    rewrite(
        features,
        lambda content: content["featuresDict"]["features"].update(
            label=content["featuresDict"]["features"]["file"]
        ),
    )
    with pytest.raises(InputError, match="are not an Image and a ClassLabel"):
        open_source("tfds:pets", "train")
    features.write_text("{")
    with pytest.raises(InputError, match=r"the files of tfds:pets in .* are damaged"):
        open_source("tfds:pets", "train")
    features.write_text(whole)
    rewrite(
        data_dir / "pets" / "1.0.0" / "dataset_info.json",
        lambda content: content.update(fileFormat="tfrecord"),
    )
    with pytest.raises(
        InputError, match="tfds:pets is prepared as tfrecord, which has no random access"
    ):
        open_source("tfds:pets", "train")


def test_damaged_records_are_named(prepared):
    _, data_dir = prepared
    (file,) = (data_dir / "pets" / "1.0.0").glob("*train*array_record*")
    whole = file.read_bytes()
    file.write_bytes(bytes(300) + whole[300:])
    source = open_source("tfds:pets", "train")
    assert "record 0 of tfds:pets (train) is damaged" in outcome(source, 0)
    assert source[1].id == "train/cat/deep/b.jpg"
    for content in (whole[: len(whole) // 2], None):  # cut off, missing
        file.write_bytes(content) if content else file.unlink()
        with pytest.raises(InputError, match=r"record 2 of tfds:pets \(train\) is damaged"):
            open_source("tfds:pets", "train")


def test_images_that_cannot_be_read_are_left_out(split_folder, tmp_path_factory):
    from mdm_jax.data.tfds_builder import build

    (split_folder / "train/cat/a.png").write_bytes(b"no image")
    built = build(str(split_folder), "pets", str(tmp_path_factory.mktemp("tfds")))
    assert built.items == {"train": 2, "val": 1}
    assert "cat/a.png is not an image" in built.left_out[0]


def test_an_item_without_label_is_kept_but_not_trained_on():
    file = io.BytesIO()
    PIL.Image.new("RGB", (16, 16)).save(file, "PNG")
    records = [{"image": file.getvalue(), "label": label} for label in (-1, 2, 0)]
    source = TfdsSource("tfds:pets", "test", records, ("cat", "dog"))
    assert source.read_image(0).label == UNKNOWN
    with pytest.raises(
        InputError,
        match="tfds:pets/test/000001 has the label 2, which is no class of tfds:pets",
    ):
        source.read_image(1)
    (batch,) = eval_batches(
        source, LoaderConfig(batch=3), lambda image: np.zeros((4, 4, 3), np.float32)
    )
    assert batch.valid.tolist() == [False, False, True]
    assert "tfds:pets/test/000000 has no label" in batch.skipped[0]


def test_every_split_at_once(split_folder, tmp_path_factory, monkeypatch):
    from mdm_jax.data.tfds_builder import build

    data_dir = tmp_path_factory.mktemp("tfds")
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    built = build(str(split_folder), "pets", str(data_dir))
    assert len(open_source("tfds:pets", "all")) == sum(built.items.values())


def test_classes_of_one_name_can_be_built(split_folder, tmp_path_factory, monkeypatch):
    from mdm_jax.data.tfds_builder import build

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("tfds")))
    (split_folder / "classes.json").write_text(json.dumps({"cat": "pet", "dog": "pet"}))
    build(str(split_folder), "pets")
    assert open_source("tfds:pets", "train").class_names == ("pet (cat)", "pet (dog)")


def test_a_build_that_fails_leaves_nothing(split_folder, tmp_path_factory):
    from mdm_jax.data.tfds_builder import build

    (split_folder / "val/dog/d.png").write_bytes(b"no image")
    place = tmp_path_factory.mktemp("tfds")
    with pytest.raises(
        InputError,
        match=r"a split of .* has no image that can be read \(.*val/dog/d.png is not an image",
    ):
        build(str(split_folder), "pets", str(place / "new"))
    assert not list(place.iterdir())


def test_build_refuses(prepared):
    from mdm_jax.data.tfds_builder import build

    folder, _ = prepared
    for arguments, sentence in [
        ((str(folder), "Pets"), "the name 'Pets' cannot be: use small letters"),
        ((str(folder / "none"), "cats"), "none is not a folder"),
        ((str(folder), "pets"), "tfds:pets exists already in"),
        ((str(folder), "cats", str(folder / "boxes.csv")), "cannot write"),
    ]:
        with pytest.raises(InputError, match=sentence):
            build(*arguments)


@pytest.mark.slow
def test_the_command(split_folder, tmp_path):
    command = [sys.executable, str(SCRIPT), "--folder", str(split_folder), "--name", "pets"]
    done = subprocess.run(
        [*command, "--data-dir", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "tfds:pets holds 3 items of train, 1 items of val; 0 images were left out"
        in done.stdout
    )
    again = subprocess.run(
        [*command, "--data-dir", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert again.returncode == 2
    assert "exists already" in again.stdout
