"""CUB-200-2011 in its published layout, and cropping to boxes: truth goes with the pixels, and what
is wrong is named."""

import json
import pickle
import shutil

import numpy as np
import pytest
import synthetic_folders

from mdm_jax import InputError, config_files, load_model
from mdm_jax.data import Augment, open_source
from mdm_jax.data.class_mapping import class_numbers
from mdm_jax.data.cropped import crop_to_boxes, cropped
from mdm_jax.data.loader import LoaderConfig, eval_batches
from mdm_jax.data.network_input import prepare_example
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.data.source import (
    Example,
    HasFiles,
    MultiLabel,
    WrappedSource,
    checksum,
    read_image,
)
from mdm_jax.data.tfds import TfdsSource
from mdm_jax.images import fit, to_array
from mdm_jax.training.config import TrainConfig
from mdm_jax.training.loop import train
from mdm_jax.training.prototypes.record import read


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return synthetic_folders.cub(tmp_path_factory.mktemp("cub"))


@pytest.fixture
def own(published, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(published, tmp_path / "CUB_200_2011")


def bird(example):
    """Pixels that have a bird's color exactly."""
    pixels = np.round(example.image * 255).astype(int)
    return np.stack([(pixels == color).all(-1) for color in synthetic_folders.COLORS])


def test_the_published_layout(published):
    train, test = (open_source(f"cub:{published}", split) for split in ("train", "test"))
    assert (len(train), len(test), train.split) == (9, 3, "train")
    assert (
        train.class_names
        == test.class_names
        == ("Black footed Albatross", "Laysan Albatross", "Cardinal")
    )
    assert open_source(f"cub:{published}", "val").files == test.files
    assert len(open_source(f"cub:{published}", "all")) == 12
    assert train.part_names == synthetic_folders.PARTS
    for source in (train, test):
        for index in range(len(source)):
            example = source[index]
            shown = bird(example)[example.label]
            assert shown.any()
            ((x0, y0, x1, y1),) = example.boxes.astype(int)
            rows, columns = np.nonzero(shown)
            assert (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) == (
                y0,
                x0,
                y1,
                x1,
            )
            rows, columns = np.nonzero(
                example.mask
            )  # where more than half of the annotators agree
            assert (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) == (
                y0 + 2,
                x0 + 2,
                y1 - 2,
                x1 - 2,
            )
            number = int(example.id[-8:-4])
            seen = [(number + part) % 4 != 0 for part in (1, 2, 3)]
            assert np.isfinite(example.parts).all(axis=1).tolist() == seen
            expected = np.asarray(
                [[x0 + 2.5 * part, y0 + 4 * part] for part in (1, 2, 3)], np.float32
            )
            np.testing.assert_array_equal(example.parts[seen], expected[seen])
            assert example.labels is None


def test_a_folder_above_and_masks_beside_are_found(own):
    (own / "segmentations").rename(own.parent / "segmentations")
    source = open_source(f"cub:{own.parent}", "train")
    assert source[0].mask.any()
    shutil.rmtree(own.parent / "segmentations")
    shutil.rmtree(own / "parts")
    source = open_source(f"cub:{own}", "train")
    assert source[0].mask is None
    assert source[0].parts is None
    assert source.part_names == ()


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        (
            "images.txt",
            None,
            r"cannot read .*images.txt \(No such file or directory\): give the whole folder",
        ),
        ("classes.txt", "", "classes.txt is empty"),
        ("classes.txt", "1\n", "row 1 of .*classes.txt is not a new number and a name"),
        ("images.txt", "1 ../../secret.jpg\n", "leads out of the folder: ../../secret.jpg"),
        ("image_class_labels.txt", "1 9\n", "says nothing of image 2"),
        ("classes.txt", "2 a\n3 b\n", "has the class 1, not in classes.txt"),
        (
            "bounding_boxes.txt",
            "1 2 3 4\n",
            "row 1 of .*bounding_boxes.txt is not 5 numbers",
        ),
        (
            "bounding_boxes.txt",
            "1 2 x 3 4\n",
            "row 1 of .*bounding_boxes.txt is not 5 numbers",
        ),
        (
            "parts/part_locs.txt",
            "77 1 0 0 1\n",
            "has part 1 of image 77, which is not known",
        ),
        ("parts/parts.txt", None, "cannot read .*parts.txt"),
        (
            "train_test_split.txt",
            "\n".join(f"{n} 1" for n in range(1, 13)),
            "leaves no image for test",
        ),
    ],
)
def test_what_is_missing_or_malformed_is_named(own, file, change, sentence):
    (own / file).unlink() if change is None else (own / file).write_text(change)
    with pytest.raises(InputError, match=sentence):
        open_source(f"cub:{own}", "test")


def test_a_place_that_is_none(tmp_path):
    with pytest.raises(
        InputError, match="none is not a folder: give the folder CUB_200_2011"
    ):
        open_source(f"cub:{tmp_path / 'none'}", "train")
    with pytest.raises(
        InputError, match=r"unknown split of cub:.* 'tarin': did you mean 'train'"
    ):
        open_source(f"cub:{tmp_path}", "tarin")


def test_cropping_cuts_image_mask_box_and_parts_alike(published):
    whole, cut = (
        open_source(f"{kind}:{published}", "train") for kind in ("cub", "cropped:cub")
    )
    assert (cut.name, len(cut)) == (f"cropped:cub:{published}", len(whole))
    assert (cut.files, cut.labels, cut.part_names) == (
        whole.files,
        whole.labels,
        whole.part_names,
    )
    for index in range(len(whole)):
        before, after = whole[index], cut[index]
        ((x0, y0, x1, y1),) = before.boxes.astype(int)
        assert bird(after)[after.label].all()
        assert after.boxes.tolist() == [[0, 0, x1 - x0, y1 - y0]]
        np.testing.assert_array_equal(after.mask, before.mask[y0:y1, x0:x1])
        np.testing.assert_array_equal(after.parts + np.float32([x0, y0]), before.parts)
        np.testing.assert_array_equal(
            np.asarray(read_image(cut, index).image), np.round(after.image * 255)
        )


@pytest.mark.parametrize(
    ("mode", "crop"), [("center", 1.0), ("squash", 1.0), ("squash", 0.8)]
)
def test_truth_goes_into_the_frame_of_the_network(published, mode, crop):
    """A dot drawn at each part is where the frame says that the part is."""
    preprocessing = Preprocessing(
        3, (64, 64), crop, "nearest", (0.0,) * 3, (1.0,) * 3, mode
    )
    source = open_source(f"cropped:cub:{published}", "all")
    seen = 0
    for index in range(len(source)):
        example = source[index]
        for x, y in example.parts:
            if np.isnan(x):
                continue
            dot = np.zeros_like(example.image)
            dot[int(y), int(x)] = 1
            framed = prepare_example(
                example._replace(
                    image=dot, parts=np.float32([[int(x) + 0.5, int(y) + 0.5]])
                ),
                preprocessing,
            )
            rows, columns = np.nonzero(framed.image[..., 0])
            if not len(rows) or {0, 63} & {
                rows.min(),
                columns.min(),
                rows.max(),
                columns.max(),
            }:
                continue  # beyond the frame, or cut off by it
            np.testing.assert_allclose(
                framed.parts[0], [columns.mean() + 0.5, rows.mean() + 0.5], atol=0.6
            )
            seen += 1
        framed = prepare_example(example, preprocessing)
        if mode == "squash":
            assert framed.boxes.tolist() == [[0, 0, 64, 64]]
    assert seen > 15


def test_a_box_within_pixels_is_cut_outwards_and_parts_beyond_are_not_seen():
    image = np.random.default_rng(0).uniform(size=(30, 40, 3)).astype(np.float32)
    boxes = np.float32([[4.5, 3.2, 20, 12], [10, 6, 25.01, 29.5]])
    parts = np.float32([[4, 3], [25.9, 29.9], [26, 10], [np.nan, np.nan], [3.9, 10]])
    cut = crop_to_boxes(Example("it", image, 0, None, boxes, parts=parts))
    np.testing.assert_array_equal(cut.image, image[3:30, 4:26])
    np.testing.assert_allclose(cut.boxes, boxes - [4, 3, 4, 3])
    np.testing.assert_allclose(
        cut.parts, np.where([[1], [1], [0], [0], [0]], parts - [4, 3], np.nan), rtol=1e-6
    )


def test_records_as_tfds_prepares_the_birds_give_the_same_crops(published):
    """caltech_birds2011 has a box in shares of the image, the annotators' votes as mask, and
    numbers as classes."""
    folder, records = open_source(f"cub:{published}", "train"), []
    for index in range(len(folder)):
        image, file = read_image(folder, index).image, folder.files[index]
        x0, y0, x1, y1 = np.float32(
            folder.boxes[file][0] / ([image.width, image.height] * 2)
        )
        files = {
            "image": published / file,
            "segmentation_mask": published / folder.masks[file],
        }
        record = {name: path.read_bytes() for name, path in files.items()}
        records.append(
            record | {"label": folder.labels[index], "bbox": np.float32([y0, x0, y1, x1])}
        )
    birds = cropped(TfdsSource("tfds:caltech_birds2011", "train", records, ("0", "1", "2")))
    own = cropped(folder)
    assert class_numbers(birds.class_names, own.class_names).tolist() == [0, 1, 2]
    for index in range(len(own)):
        one, other = own[index], birds[index]
        assert one.label == other.label
        for name in ("image", "mask", "boxes"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("name", ["cub_protopnet.toml", "cub_xprotonet.toml"])
def test_the_configs_for_these_data_can_be_read(name):
    config = config_files.load(TrainConfig, synthetic_folders.CONFIGS / name)
    assert (config.data.crop_to_boxes, config.model.size, config.model.crop_mode) == (
        True,
        (224, 224),
        "squash",
    )
    assert config.augment == Augment(rotation=15.0, skew=0.2, shear=10.0, flip=True)


@pytest.mark.slow
def test_a_training_on_crops(published, tmp_path):
    """From the config to prototypes that say which crop they come from."""
    trained = train(
        synthetic_folders.tiny_training(
            "cub_protopnet.toml", f"cub:{published}", tmp_path / "run"
        )
    )
    assert trained.metrics[-1]["skipped"] == 0
    told = json.loads((tmp_path / "run" / "config.json").read_text())
    assert told["pretrained_cfg"]["crop_mode"] == "squash"
    assert load_model(weights=tmp_path / "run").preprocessing.crop_mode == "squash"
    record = read(tmp_path / "run")
    assert record.source == f"cropped:cub:{published}"
    crops = open_source(record.source, record.split)
    assert [crops.files[each.item] for each in record.pushed] == [
        each.id for each in record.pushed
    ]
    assert (
        [each.label for each in record.pushed]
        == [each.class_index for each in record.pushed]
        == [0, 1, 2]
    )


def test_what_cannot_be_cropped_is_said(published, tmp_path):
    image = np.zeros((30, 40, 3), np.float32)
    with pytest.raises(InputError, match="it has no box to crop to"):
        crop_to_boxes(Example("it", image, 0, None, None))
    with pytest.raises(
        InputError, match="the box of it is 7x9: an image needs at least 8 pixels"
    ):
        crop_to_boxes(Example("it", image, 0, None, np.float32([[0, 0, 7, 9]])))
    with pytest.raises(
        InputError,
        match=r"files:.* cannot be cropped: .* has no box, and every image needs one",
    ):
        open_source(f"cropped:files:{published / 'images'}", "train")
    for text, sentence in (
        ("cropped:", "write cropped:SOURCE"),
        ("cropped:birds:x", "unknown data source 'birds'"),
    ):
        with pytest.raises(InputError, match=sentence):
            open_source(text, "train")


def test_a_cropped_source_is_one_like_others(published):
    digits = open_source("cropped:digits", "test")
    assert isinstance(digits, WrappedSource)
    assert not isinstance(digits, HasFiles)
    birds = pickle.loads(pickle.dumps(open_source(f"cropped:cub:{published}", "test")))
    assert isinstance(birds, HasFiles)
    assert not isinstance(birds, MultiLabel)
    whole = open_source(f"cub:{published}", "test")
    assert (
        checksum(birds)
        != checksum(whole)
        != checksum(open_source(f"cub:{published}", "train"))
    )
    (batch,) = eval_batches(
        birds, LoaderConfig(batch=3), lambda image: to_array(fit(image, (16, 16)))
    )
    assert batch.valid.all()
    assert batch.labels.tolist() == list(birds.labels)
    assert np.ptp(batch.images, axis=(1, 2)).max() == 0  # nothing but the bird's color
