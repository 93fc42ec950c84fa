"""NIH ChestX-ray14 in its published layout, and items with any number of classes from the folder to
a batch."""

import json
import pickle
import shutil

import numpy as np
import pytest
import synthetic_folders

from mdm_jax import InputError, load_model
from mdm_jax.cli.main import main
from mdm_jax.data import Augment, open_source
from mdm_jax.data.chestxray14 import FINDINGS
from mdm_jax.data.item_reader import read_items
from mdm_jax.data.loader import LoaderConfig, eval_batches, train_batches
from mdm_jax.data.source import UNKNOWN, HasFiles, MultiLabel, checksum, read_image
from mdm_jax.images import fit, to_array
from mdm_jax.training.loop import train
from mdm_jax.training.prototypes.record import read


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return synthetic_folders.chestxray14(tmp_path_factory.mktemp("nih"))


@pytest.fixture
def own(published, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(published, tmp_path / "nih")


def small(image):
    return to_array(fit(image, (8, 8)))


def findings(labels):
    return {FINDINGS[number] for number in np.flatnonzero(labels)}


def expected(file):
    return set(synthetic_folders.X_RAYS[file].split("|")) - {"No Finding"}


def test_the_published_layout(published):
    train, test = (
        open_source(f"chestxray14:{published}", split) for split in ("train", "test")
    )
    assert train.class_names == test.class_names == FINDINGS
    assert (*train.files, *test.files) == tuple(synthetic_folders.X_RAYS)
    assert isinstance(train, MultiLabel)
    assert isinstance(train, HasFiles)
    for source in (train, test):
        assert source.multi_hot.shape == (len(source), 14)
        for index, file in enumerate(source.files):
            example = source[index]
            assert example.id == file
            assert example.image.shape == (64, 64, 3)
            assert (
                findings(example.labels)
                == findings(read_image(source, index).labels)
                == expected(file)
            )
            sole = [FINDINGS.index(each) for each in expected(file)]
            assert (
                example.label
                == source.labels[index]
                == (sole[0] if len(sole) == 1 else UNKNOWN)
            )
    assert open_source(f"chestxray14:{published}", "val").files == test.files
    assert len(open_source(f"chestxray14:{published}", "all")) == 8


def test_boxes_are_of_published_pixels_and_of_one_finding_each_in_their_split(published):
    test, boxes = (
        open_source(f"chestxray14:{published}", split) for split in ("test", "boxes")
    )
    assert boxes.files == (
        "00000004_000.png#Infiltration",
        "00000005_000.png#Effusion",
        "00000005_000.png#Infiltration",
    )
    assert [FINDINGS[label] for label in boxes.labels] == [
        "Infiltration",
        "Effusion",
        "Infiltration",
    ]
    np.testing.assert_array_equal(
        boxes[0].boxes, np.float32([[16, 8.03, 48, 28.03]])
    )  # of 64 pixels, in hundredths
    assert boxes[1].boxes.tolist() == [[32, 32, 48, 40], [0, 32, 16, 40]]
    assert findings(boxes[1].labels) == {"Effusion", "Infiltration"}
    assert len(test[1].boxes) == 3
    assert test[2].boxes is None
    assert boxes[2].boxes[0].tolist() in test[1].boxes.tolist()


def test_batches_have_a_row_of_classes_for_each_image(published):
    train = pickle.loads(pickle.dumps(open_source(f"chestxray14:{published}", "train")))
    (batch,) = eval_batches(train, LoaderConfig(batch=6), small)
    assert (batch.labels.dtype, batch.labels.shape) == (np.float32, (6, 14))
    assert batch.valid.tolist() == [True] * 5 + [
        False
    ]  # an image without findings is an item like others
    np.testing.assert_array_equal(batch.labels[:5], train.multi_hot)
    batches = train_batches(train, LoaderConfig(batch=2, seed=1), small, Augment(crop=0.8))
    assert [next(batches).labels.shape for _ in range(3)] == [(2, 14)] * 3
    batches.close()
    (batch,) = eval_batches(
        open_source("digits", "test"), LoaderConfig(batch=2, limit=2), small
    )
    assert (batch.labels.dtype, batch.labels.shape) == (np.int32, (2,))


def test_a_batch_of_which_nothing_can_be_read_keeps_its_shape(own):
    for file in own.glob("images_*/images/*.png"):
        file.write_bytes(b"no image")
    (batch,) = eval_batches(
        open_source(f"chestxray14:{own}", "test"), LoaderConfig(batch=3), small
    )
    assert (batch.labels.dtype, batch.labels.shape, batch.valid.any()) == (
        np.float32,
        (3, 14),
        False,
    )
    assert "is not an image" in batch.skipped[0]


def test_items_are_read_ahead_with_their_only_finding_as_label(published):
    source = open_source(f"chestxray14:{published}", "train")
    read = list(read_items(source, [(item, item) for item in range(5)], small))
    assert [each.label for each in read] == [
        FINDINGS.index("Cardiomegaly"),
        -1,
        -1,
        FINDINGS.index("Hernia"),
        -1,
    ]
    assert all(each.image is not None for each in read)


def test_a_checksum_knows_every_finding(published, own):
    def of(folder):
        return checksum(open_source(f"chestxray14:{folder}", "train"))

    assert of(own) == of(published)
    table = own / "Data_Entry_2017.csv"
    table.write_text(
        table.read_text().replace("Cardiomegaly|Emphysema", "Cardiomegaly|Fibrosis")
    )
    assert of(own) != of(published)


def test_images_that_were_not_downloaded_are_left_out_with_a_warning(own):
    shutil.rmtree(own / "images_002")
    with pytest.warns(
        UserWarning, match="2 of the 5 items of train are not in .*: they are left out"
    ):
        assert len(open_source(f"chestxray14:{own}", "train")) == 3
    shutil.rmtree(own / "images_001")
    with pytest.raises(InputError, match="holds none of the 5 images of train"):
        open_source(f"chestxray14:{own}", "train")


def test_the_newer_table_and_one_folder_are_read_too(own):
    (own / "Data_Entry_2017.csv").rename(own / "Data_Entry_2017_v2020.csv")
    (own / "images").mkdir()
    for file in own.glob("images_*/images/*.png"):
        file.rename(own / "images" / file.name)
    (own / "BBox_List_2017.csv").unlink()
    assert open_source(f"chestxray14:{own}", "test")[0].boxes is None
    with pytest.raises(InputError, match="holds none of the 0 images of boxes"):
        open_source(f"chestxray14:{own}", "boxes")


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        (
            "Data_Entry_2017.csv",
            None,
            "lacks Data_Entry_2017.csv: give the folder as it is published",
        ),
        (
            "Data_Entry_2017.csv",
            ("Hernia", "Hernai"),
            r"unknown finding in row 5 of .* 'Hernai': did you mean 'Hernia'",
        ),
        (
            "Data_Entry_2017.csv",
            ("Finding Labels", "Labels"),
            "lacks the column Finding Labels",
        ),
        (
            "BBox_List_2017.csv",
            ("512.0", "x"),
            "row 2 of .*BBox_List_2017.csv has no four numbers for x, y, w, h",
        ),
        (
            "BBox_List_2017.csv",
            ("00000004", "00000009"),
            "00000009_000.png is listed in .* but not in its Data_Entry_2017.csv",
        ),
        (
            "test_list.txt",
            None,
            "test_list.txt is missing: it is published beside the images",
        ),
        ("test_list.txt", ("00000006", "00000009"), "00000009_000.png is listed in"),
    ],
)
def test_what_is_missing_or_malformed_is_named(own, file, change, sentence):
    (
        (own / file).unlink()
        if change is None
        else (own / file).write_text((own / file).read_text().replace(*change))
    )
    with pytest.raises(InputError, match=sentence):
        open_source(f"chestxray14:{own}", "test")


@pytest.fixture(scope="module")
def trained(published, tmp_path_factory):
    return train(tiny(published, tmp_path_factory.mktemp("chest") / "model"))


def tiny(published, folder):
    return synthetic_folders.tiny_training(
        "chestxray14_xprotonet.toml", f"chestxray14:{published}", folder
    )


@pytest.mark.slow
def test_a_training_from_before_there_were_such_settings_goes_on(published, trained):
    written = trained.run.settings.read_text()
    told = json.loads(written)
    del told["model"]["crop_mode"], told["data"]["crop_to_boxes"]
    trained.run.settings.write_text(json.dumps(told))
    assert train(tiny(published, trained.run.folder)).was_done
    told["model"]["crop_mode"] = "squash"
    trained.run.settings.write_text(json.dumps(told))
    with pytest.raises(
        InputError, match=r"other settings \(model.crop_mode .squash. -> .center.\)"
    ):
        train(tiny(published, trained.run.folder))
    trained.run.settings.write_text(written)


@pytest.mark.slow
def test_a_training_with_any_number_of_findings(published, trained):
    """From the config to logits of 14 findings and a mean AUC."""
    assert trained.metrics[-1]["skipped"] == 0
    assert 0 <= trained.metrics[-1]["eval_auc"] <= 1
    assert all(
        np.isfinite(value)
        for line in trained.metrics
        for value in line.values()
        if isinstance(value, float)
    )
    logits, out = load_model(weights=trained.run.folder)(
        np.zeros((1, 32, 32, 3), np.float32)
    )
    assert (logits.shape, out["similarities"].shape) == ((1, 14), (1, 14))
    record = read(trained.run.folder)
    train_images = open_source(record.source, record.split)
    for each in record.pushed:
        has = [
            file
            for file, row in zip(train_images.files, train_images.multi_hot)
            if row[each.class_index]
        ]
        assert (each.id in has) if has else (each.item is None)
        assert each.position is None  # of a pooled feature
    hernia, pneumonia = (
        record.pushed[FINDINGS.index(name)] for name in ("Hernia", "Pneumonia")
    )
    assert (hernia.id, hernia.label) == (
        "00000003_000.png",
        FINDINGS.index("Hernia"),
    )  # the one training image with it
    assert (pneumonia.item, pneumonia.distance) == (None, None)
    assert "no image of the class 'Pneumonia'" in pneumonia.reason


@pytest.mark.slow
def test_commands_take_such_images(published, trained, tmp_path, capsys):
    """A finding in its boxes is explained and scored; of an image with none or several it is said
    that it has no label."""

    def said(*arguments):
        assert main([str(argument) for argument in arguments]) == 0
        return "".join(capsys.readouterr())

    asked = (
        "--data",
        f"chestxray14:{published}",
        "--targets",
        "label",
        "--method",
        "gradient",
    )
    model = ("--weights", trained.run.folder)
    said("run", *asked, *model, "--split", "boxes", "--out", tmp_path / "boxes")
    scored = said(
        "evaluate",
        tmp_path / "boxes",
        "--metrics",
        "energy",
        "--json",
        "--out",
        tmp_path / "scores",
    )
    assert (
        json.loads(scored[scored.index("{") : scored.rindex("}") + 1])["rows"][0]["images"]
        == 3
    )
    assert "3 images" in said("report", tmp_path / "boxes", "--out", tmp_path / "page")
    told = said("run", *asked, *model, "--split", "train", "--out", tmp_path / "train")
    assert "2 of 5 explained" in told
    assert "00000003_001.png: it has no label, or more than one" in told


def test_a_place_that_is_none(tmp_path):
    with pytest.raises(
        InputError,
        match=r"none is not a folder: give the folder that holds Data_Entry_2017.csv",
    ):
        open_source(f"chestxray14:{tmp_path / 'none'}", "train")
    with pytest.raises(
        InputError, match=r"unknown split of chestxray14:.* 'tarin': did you mean 'train'"
    ):
        open_source(f"chestxray14:{tmp_path}", "tarin")
