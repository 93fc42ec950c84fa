"""Folders as people bring them: names of splits, parts that are no classes, what is left out."""

import PIL.Image
import pytest

from mdm_jax import InputError
from mdm_jax.data import open_source
from mdm_jax.data.source import find_split, split_kind


def fill(root, *files):
    """Files of that name; those with an image's suffix, or none, are images."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in {".txt", ".heic", ".npy"}:
            path.write_text("no image")
        else:
            PIL.Image.new("RGB", (16, 16)).save(path, "PNG")
    return root


def opened(root, split="all"):
    return open_source(f"folder:{root}", split)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[(name, "train") for name in ("Train", "TRAINING", "training_set", "train2017")],
        *[
            (name, "val")
            for name in ("Valid", "validation", "val2017", "dev", "val_images")
        ],
        *[(name, "test") for name in ("Testing", "test_set", "Test1", "test-data")],
        *[(name, None) for name in ("trian", "trains", "cat", "2017", "", "data", "vale")],
    ],
)
def test_splits_are_known_however_they_are_written(name, kind):
    assert split_kind(name) == kind


def test_splits_of_other_names_are_no_classes(tmp_path):
    fill(tmp_path, "Training/cat/a.png", "Training/dog/b.png", "Testing/cat/c.png")
    assert opened(tmp_path, "train").files == ("Training/cat/a.png", "Training/dog/b.png")
    for asked in ("test", "val", "Testing"):
        assert opened(tmp_path, asked).files == ("Testing/cat/c.png",)
    assert opened(tmp_path).class_names == ("cat", "dog")
    assert find_split("test", ["TEST", "val"], "x") == "TEST"
    assert find_split("val", ["Testing", "train"], "x") == "Testing"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (["images/train/a.png", "images/val/b.png", "labels/train/a.txt"], "no class"),
        (["images/a.png", "labels/a.png"], "1 in images, which is no class; 1 in labels"),
        (
            ["train/images/a.png", "val/images/b.png"],
            "1 in train/images, which is no class",
        ),
        (["Train/a.png", "Test/b.png"], "Test, Train .* are splits, and hold no folders"),
        (
            ["set/train/cat/a.png", "set/test/cat/b.png"],
            r"set .* hold splits \(test, train\)",
        ),
        (
            ["a/cat/1.png", "a/dog/2.png", "b/cat/3.png", "b/dog/4.png"],
            r"a, b .* all hold the same folders \(cat, dog\), so that they are no classes: give",
        ),
    ],
)
def test_what_would_become_classes_by_mistake_is_refused(tmp_path, files, sentence):
    with pytest.raises(InputError, match=sentence):
        opened(fill(tmp_path, *files))


@pytest.mark.parametrize(
    ("files", "classes"),
    [
        (["cat/images/1.png", "dog/images/2.png"], ("cat", "dog")),
        (["cat/left/1.png", "cat/2.png", "dog/left/3.png"], ("cat", "dog")),
        (["cat/left/1.png", "dog/right/2.png"], ("cat", "dog")),
        (["test/1.png", "exam/2.png"], ("exam", "test")),
    ],
)
def test_classes_with_folders_of_their_own_stay_classes(tmp_path, files, classes):
    assert opened(fill(tmp_path, *files)).class_names == classes


def test_images_of_every_suffix_are_read(tmp_path):
    names = [
        f"photo{i}{end}" for i, end in enumerate((".jfif", ".jpe", ".JP2", ".avif", ""))
    ]
    fill(tmp_path, *(f"cat/{name}" for name in names))
    assert opened(tmp_path).files == tuple(f"cat/{name}" for name in names)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            ["cat/b.heic", "cat/c.heic", "cat/d.txt"],
            "2 .heic, 1 .txt, of no format that is read",
        ),
        (["b.png"], "1 in ./, beside folders of classes"),
        (["empty/.keep"], "no image in empty"),
        (["masks/cat/b.png"], "1 masks of no image, masks/cat/b.png for one"),
        (["masks/cat/a.npy"], "1 .npy in masks, which are no images"),
        (["images/a.png"], "1 in images, which is no class"),
    ],
)
def test_what_is_left_out_is_told(tmp_path, files, told):
    fill(tmp_path, "cat/a.png", *files)
    with pytest.warns(UserWarning, match="holds what is not read: ") as warned:
        source = opened(tmp_path)
    assert source.files == ("cat/a.png",)
    assert [str(each.message).partition("read: ")[2] for each in warned] == [told]


def test_folders_beside_splits_are_told(tmp_path):
    fill(tmp_path, "train/cat/a.png", "val/cat/b.png", "trian/cat/c.png", "dog/d.png")
    fill(tmp_path, "train/e.png", "README.txt")
    told = "1 in train/, .*; 1 in dog, beside the splits train, val; 1 in trian, beside"
    with pytest.warns(UserWarning, match=told):
        assert len(opened(tmp_path)) == 2


def test_images_that_the_table_does_not_name_are_told(tmp_path):
    fill(tmp_path, "images/a.png", "images/b.png", "masks/a.png")
    (tmp_path / "labels.csv").write_text("file,label,split\na.png,cat,Training\n")
    with pytest.warns(
        UserWarning, match=r"1 that labels.csv does not name, images/b.png for"
    ):
        assert opened(tmp_path, "train").files == ("images/a.png",)


def test_files_that_are_no_images_are_told(tmp_path):
    fill(tmp_path, "a.png", "b.heic")
    with pytest.warns(UserWarning, match=r"not read: 1 .heic, of no format that is read"):
        assert len(open_source(f"files:{tmp_path}", "all")) == 1


@pytest.mark.parametrize("mask", ["a.png", "a.jpg.png", "a.jpg", "a.tif"])
def test_masks_are_found_by_the_names_that_tools_give(tmp_path, mask):
    fill(tmp_path, "cat/a.jpg", f"masks/cat/{mask}")
    assert opened(tmp_path).masks == {"cat/a.jpg": f"masks/cat/{mask}"}


def test_boxes_of_no_image_are_told_and_refused_where_all_are(tmp_path):
    fill(tmp_path, "cat/a.png", "dog/b.png")
    head = "file,x_min,y_min,x_max,y_max\n"
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(head + "cat/a.png,1,2,5,6\na.png,1,2,3,4\nCat/A.png,1,2,3,4\n")
    with pytest.warns(UserWarning, match=r"2 rows of boxes.csv of no image, a.png for one"):
        assert opened(tmp_path).boxes["cat/a.png"].tolist() == [[1, 2, 5, 6]]
    boxes.write_text(head + "a.png,1,2,5,6\n")
    with pytest.raises(InputError, match=r"none of the 1 rows .* give paths as cat/a.png"):
        opened(tmp_path)
    boxes.write_text(head + "cat/a.png,0.1,0.2,0.5,1\ndog/b.png,0,0,1,1\n")
    with pytest.raises(InputError, match=r"as shares of their images: give pixels"):
        opened(tmp_path)
