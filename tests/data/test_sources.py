"""Sources of images as people keep them: folders in three layouts, tfds data sets; and what is said
when they are wrong."""

import csv
import inspect
import json
import pkgutil
import shutil
import struct
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_jax import InputError, images
from mdm_jax.data import open_source
from mdm_jax.data.annotations import clip_boxes, mask_from_image
from mdm_jax.data.open_source import KINDS
from mdm_jax.data.source import UNKNOWN, checksum, find_split, read_image

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the shared data is not beside the repository"
)


def draw(path, seed=0, size=(20, 16), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    PIL.Image.fromarray(pixels).convert(mode).save(path)


def table(path, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def draw_mask(path, box, size=(20, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), np.uint8)
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = 255
    PIL.Image.fromarray(pixels).save(path)


@pytest.fixture
def split_folder(tmp_path):
    """Two classes in train, one of them in val; boxes, a mask and names."""
    for number, file in enumerate(
        ["train/cat/a.png", "train/cat/deep/b.jpg", "train/dog/c.PNG", "val/dog/d.png"]
    ):
        draw(tmp_path / file, number)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "cat" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "train" / ".cache").mkdir()
    table(
        tmp_path / "boxes.csv",
        ["file", "x_min", "y_min", "x_max", "y_max"],
        ["train/cat/a.png", "1", "2", "11", "12"],
        ["train/cat/a.png", "-5", "0", "3.456", "99"],
        ["train/dog/c.PNG", "5", "5", "5", "9"],
        ["elsewhere.png", "0", "0", "1", "1"],
    )
    draw_mask(tmp_path / "masks" / "train" / "cat" / "a.png", (2, 3, 6, 8))
    draw_mask(tmp_path / "masks" / "val" / "dog" / "d.png", (0, 0, 4, 4), size=(9, 9))
    (tmp_path / "classes.json").write_text(json.dumps({"cat": "house cat"}))
    return tmp_path


def test_layout_with_splits(split_folder):
    train, val = (
        open_source(f"folder:{split_folder}", split) for split in ("train", "val")
    )
    assert train.name == f"folder:{split_folder}"
    assert train.class_names == val.class_names == ("house cat", "dog")
    assert [train[i].id for i in range(2)] == ["train/cat/a.png", "train/cat/deep/b.jpg"]
    assert (len(train), len(val)) == (3, 1)
    assert (train.labels, val.labels) == ((0, 0, 1), (1,))
    first = train[0]
    assert first.image.dtype == np.float32
    np.testing.assert_array_equal(
        first.image, images.to_array(images.read(split_folder / "train/cat/a.png"))
    )
    np.testing.assert_array_equal(
        first.boxes, np.asarray([[1, 2, 11, 12], [0, 0, 3.46, 16]], np.float32)
    )
    assert np.argwhere(first.mask).min(0).tolist() == [3, 2]
    assert first.mask.sum() == 4 * 5
    assert train[1].mask is None
    assert train[1].boxes is None


def test_damaged_truth_and_images_are_named(split_folder):
    train, val = (
        open_source(f"folder:{split_folder}", split) for split in ("train", "val")
    )
    with pytest.raises(
        InputError,
        match=r"a box of train/dog/c.PNG is empty within the image of 20x16: .* 5, 5, 5, 9",
    ):
        train[2]
    with pytest.raises(
        InputError, match=r"the mask of val/dog/d.png is 9x9 for an image of 20x16"
    ):
        val[0]
    assert read_image(train, 2).label == 1  # training does not need the truth
    (split_folder / "train/cat/a.png").write_bytes(b"not an image at all")
    for read in (lambda: train[0], lambda: read_image(train, 0)):
        with pytest.raises(
            InputError, match=r"cat/a.png is not an image in a known format"
        ):
            read()
    for index in (3, -1):
        with pytest.raises(IndexError, match="items 0 to 2"):
            train[index]


@pytest.mark.parametrize("tag", [0x11A, 0x100], ids=["TypeError", "struct.error"])
def test_an_image_with_damaged_exif_is_read(tmp_path, tag):
    # Orientation 6, and text where Pillow wants a number when it writes the other tags again.
    entries = sorted(
        [struct.pack(">HHIHH", 0x112, 3, 1, 6, 0), struct.pack(">HHII", tag, 2, 6, 38)]
    )
    exif = (
        b"Exif\0\0MM\0*\0\0\0\x08"
        + struct.pack(">H", 2)
        + b"".join(entries)
        + bytes(4)
        + b"hello\0"
    )
    (tmp_path / "a").mkdir()
    PIL.Image.new("RGB", (20, 16), "red").save(tmp_path / "a" / "1.jpg", exif=exif)
    with (
        PIL.Image.open(tmp_path / "a" / "1.jpg") as opened,
        pytest.raises((TypeError, struct.error)),
    ):
        PIL.ImageOps.exif_transpose(opened)
    assert (
        read_image(open_source(f"folder:{tmp_path}", "train"), 0).image.getpixel((5, 5))[0]
        > 200
    )


def test_classes_of_one_name_are_told_apart(split_folder):
    (split_folder / "classes.json").write_text(json.dumps({"cat": "pet", "dog": "pet"}))
    assert open_source(f"folder:{split_folder}", "train").class_names == (
        "pet (cat)",
        "pet (dog)",
    )


def test_links_without_end_are_passed_over(split_folder, tmp_path):
    files = open_source(f"folder:{split_folder}", "train").files
    for link, to in (
        ("train/cat/itself", "itself"),
        ("train/cat/deep/up", "../.."),
        ("train/round", "round"),
    ):
        (split_folder / link).symlink_to(to)
    assert open_source(f"folder:{split_folder}", "train").files == files
    (split_folder / "elsewhere").mkdir()
    draw(split_folder / "elsewhere" / "e.png")
    (split_folder / "train/cat/more").symlink_to("../../elsewhere")
    assert open_source(f"folder:{split_folder}", "train").files == tuple(
        sorted([*files, "train/cat/more/e.png"])
    )


def test_a_checksum_is_of_files_and_labels_alone(split_folder, tmp_path_factory):
    def of(folder):
        return checksum(
            *(open_source(f"folder:{folder}", split) for split in ("train", "val"))
        )

    moved = tmp_path_factory.mktemp("moved") / "pets"
    shutil.copytree(split_folder, moved)
    before = of(split_folder)
    assert of(moved) == before
    (moved / "val/dog/d.png").rename(moved / "val/dog/e.png")
    renamed = of(moved)
    (moved / "train/cat/a.png").rename(moved / "train/dog/a.png")
    assert len({before, renamed, of(moved)}) == 3
    digits = [open_source("digits", split) for split in ("train", "test")]
    assert checksum(*digits) == checksum(*digits) != checksum(*digits[::-1])


@pytest.mark.parametrize("held_out", ["val", "validation", "valid", "test"])
def test_the_split_that_is_held_out_goes_by_many_names(tmp_path, held_out):
    draw(tmp_path / "train" / "a" / "1.png")
    draw(tmp_path / held_out / "a" / "2.png")
    for asked in ("val", "test", "validation"):
        assert open_source(f"folder:{tmp_path}", asked).split == held_out


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_an_opener(kind):
    opener = pkgutil.resolve_name(KINDS[kind].opener)
    assert list(inspect.signature(opener).parameters)[1:] == ["split"]
    assert KINDS[kind].usage.startswith(kind)


def test_a_kind_that_needs_an_extra_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.delitem(sys.modules, "mdm_jax.data.tfds", raising=False)
    with pytest.raises(InputError, match=r"tfds.* needs .*pip install 'mdm_jax\[data\]'"):
        open_source("tfds:mnist", "test")


def test_a_split_of_that_name_comes_first():
    assert find_split("test", ["val", "test"], "x") == "test"
    assert find_split("val", ["train", "test", "validation"], "x") == "validation"
    with pytest.raises(InputError, match=r"unknown split of x 'train': choose from test"):
        find_split("train", ["test"], "x")
    with pytest.raises(InputError, match=r"did you mean 'train'"):
        find_split("trian", ["train", "val"], "x")


def test_layout_without_splits_holds_a_tenth_out_for_good(tmp_path):
    for number in range(300):
        path = tmp_path / f"class{number % 3}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.touch()  # listing opens none
    (tmp_path / "masks").mkdir()

    def ids(split):
        return set(open_source(f"folder:{tmp_path}", split).files)

    train, val = ids("train"), ids("val")
    assert len(train | val) == 300
    assert not train & val
    assert 15 < len(val) < 50
    assert open_source(f"folder:{tmp_path}", "val").class_names == (
        "class0",
        "class1",
        "class2",
    )
    (tmp_path / "class0" / "another.png").touch()
    assert ids("val") - val <= {"class0/another.png"}
    assert val <= ids("val")


def test_layout_with_a_table(tmp_path):
    for number, name in enumerate(["a.png", "b.png", "sub/c.png"]):
        draw(tmp_path / "images" / name, number)
    table(
        tmp_path / "labels.csv",
        ["file", "label", "split", "remark"],
        ["b.png", "good", "test", ""],
        ["images/a.png", "bad", "train", "scratched"],
        ["sub/c.png", "good", "train", ""],
        ["gone.png", "good", "train", ""],
    )
    table(
        tmp_path / "boxes.csv",
        ["file", "x_min", "y_min", "x_max", "y_max"],
        ["a.png", 0, 0, 2, 2],
        ["images/a.png", 1, 1, 4, 4],
    )
    draw_mask(tmp_path / "masks" / "a.png", (0, 0, 1, 1))
    draw_mask(tmp_path / "masks" / "sub" / "c.png", (0, 0, 0, 0))
    train, test = (open_source(f"folder:{tmp_path}", split) for split in ("train", "val"))
    assert train.class_names == test.class_names == ("bad", "good")
    assert (train.files, test.files) == (
        ("images/a.png", "images/gone.png", "images/sub/c.png"),
        ("images/b.png",),
    )
    assert train.labels == (0, 1, 1)
    assert train[0].boxes.tolist() == [[0, 0, 2, 2], [1, 1, 4, 4]]
    assert train[0].mask.sum() == 1
    assert train[2].mask.sum() == 0  # a mask that marks nothing says that nothing is there
    with pytest.raises(InputError, match=r"gone.png does not exist"):
        train[1]
    (tmp_path / "boxes.csv").unlink()
    table(
        tmp_path / "labels.csv", ["file", "label"], *([f"{n}.png", "x"] for n in range(100))
    )
    split = [len(open_source(f"folder:{tmp_path}", split)) for split in ("train", "val")]
    assert sum(split) == 100
    assert 1 <= split[1] <= 30


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [["file", "class"]],
            "lacks the column label: its first line must hold file,label",
        ),
        ([["file", "label"], ["a.png", ""]], "row 2 .* lacks its file or its label"),
        (
            [["file", "label"], ["a.png", "x"], ["images/a.png", "y"]],
            "row 3 .* names images/a.png a second time",
        ),
        ([["file", "label"], ["../a.png", "x"]], "row 2 .* leads out of the folder"),
        ([["file", "label"]], "holds no images in a known layout"),
    ],
)
def test_malformed_labels(tmp_path, rows, sentence):
    (tmp_path / "images").mkdir()
    table(tmp_path / "labels.csv", *rows)
    with pytest.raises(InputError, match=sentence):
        open_source(f"folder:{tmp_path}", "train")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("boxes.csv", b"file,x_min,y_min,x_max\n", "lacks the column y_max"),
        (
            "boxes.csv",
            b"file,x_min,y_min,x_max,y_max\na,1,2,3\n",
            "row 2 .* has no four numbers",
        ),
        (
            "boxes.csv",
            b"file,x_min,y_min,x_max,y_max\na,1,2,3,nan\n",
            "row 2 .* has no four numbers",
        ),
        ("boxes.csv", b"\xff\xfe\x00", "not a table of comma-separated UTF-8 text"),
        ("classes.json", b"{", "classes.json is not readable JSON"),
        ("classes.json", b"[1]", "must give each class a name"),
    ],
)
def test_malformed_files_beside_the_images(split_folder, name, content, sentence):
    (split_folder / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        open_source(f"folder:{split_folder}", "train")


def test_bad_names(tmp_path):
    (tmp_path / "empty").mkdir()
    draw(tmp_path / "one" / "a" / "1.png")
    for text, sentence in [
        ("digit", "unknown data source 'digit': did you mean 'digits'"),
        ("digits:test", "the data source 'digits:test' cannot be: write digits"),
        ("folder", "cannot be: write folder:PATH"),
        ("tfds:", "cannot be: write tfds:NAME"),
        (f"folder:{tmp_path / 'none'}", "none is not a folder"),
        (f"folder:{tmp_path / 'empty'}", "holds no images in a known layout"),
    ]:
        with pytest.raises(InputError, match=sentence):
            open_source(text, "train")
    with pytest.raises(
        InputError, match=r"unknown split of digits 'tarin': did you mean 'train'"
    ):
        open_source("digits", "tarin")
    assert open_source("digits", "val")[0].id == "digits/test/00000"
    with pytest.raises(InputError, match=r"unknown split of folder:.* 'middle'"):
        open_source(f"folder:{tmp_path / 'one'}", "middle")


def test_a_mask_of_zeros_and_ones_is_not_taken_for_an_empty_one():
    image, ones = PIL.Image.new("RGB", (20, 16)), PIL.Image.new("RGB", (20, 16), (1, 1, 1))
    assert mask_from_image(ones, image, "it").all()
    assert mask_from_image(PIL.Image.new("L", (20, 16), 128), image, "it").all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=4, max_size=4))
def test_boxes_lie_within_their_image_or_are_refused(corners):
    image = PIL.Image.new("RGB", (20, 16))
    try:
        ((x0, y0, x1, y1),) = clip_boxes(np.asarray([corners]), image, "it")
    except InputError:
        x0, y0, x1, y1 = np.clip(np.round(corners, 2), 0, [20, 16, 20, 16])
        assert x0 >= x1 or y0 >= y1
    else:
        assert 0 <= x0 < x1 <= 20
        assert 0 <= y0 < y1 <= 16


def test_listing_50000_files_is_quick(tmp_path):
    for folder in range(10):
        (tmp_path / f"class{folder}").mkdir()
        for number in range(1000):
            (tmp_path / f"class{folder}" / f"{number}.jpg").touch()
    start = time.perf_counter()
    assert len(open_source(f"folder:{tmp_path}", "train")) > 8000
    assert time.perf_counter() - start < 2  # 0.05 s here, for a fifth of 50,000


@needs_shared
def test_shared_folders():
    tiny = open_source(f"folder:{SHARED / 'tiny_imagenet20'}", "val")
    assert (len(tiny), len(tiny.class_names), tiny.class_names[0]) == (
        1000,
        20,
        "goldfish, Carassius auratus",
    )
    assert tiny[0].boxes.shape == (1, 4)
    tiles = open_source(f"folder:{SHARED / 'magnetic_tile'}", "train")
    assert (len(tiles), tiles.class_names) == (
        528,
        ("blowhole", "break", "crack", "fray", "free", "uneven"),
    )
    marked = [bool(tiles[i].mask.any()) for i in range(0, 528, 20)]
    free = [tiles.class_names[tiles.labels[i]] == "free" for i in range(0, 528, 20)]
    assert marked == [not each for each in free]


def test_every_item_of_a_folder(tmp_path):
    for name in ("train/cat/a.png", "val/dog/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        PIL.Image.new("RGB", (16, 16)).save(tmp_path / name)
    source = open_source(f"folder:{tmp_path}", "all")
    assert source.files == ("train/cat/a.png", "val/dog/b.png")
    assert source.labels == (0, 1)


def test_files_without_labels(tmp_path):
    for name in ("b.png", "below/a.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        PIL.Image.new("RGB", (16, 16), "red").save(tmp_path / name, "PNG")
    source = open_source(f"files:{tmp_path}", "test")
    assert [source[i].id for i in range(len(source))] == ["b.png", "below/a.jpg"]
    assert source.class_names == ()
    assert source[0].label == UNKNOWN
    assert source[1].image[0, 0].tolist() == [1, 0, 0]
    with pytest.raises(InputError, match="is not a folder"):
        open_source(f"files:{tmp_path / 'nowhere'}", "test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image files"):
        open_source(f"files:{tmp_path / 'empty'}", "test")
