"""CUB-200-2011, the birds of Wah et al. (2011), in the folder as it is published.

`images/` with images.txt, classes.txt, image_class_labels.txt, train_test_split.txt and
bounding_boxes.txt; parts/parts.txt and parts/part_locs.txt where they are; `segmentations/`, a
download of its own, in the folder or beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32, Float64

from mdm_jax import images
from mdm_jax.data.folder import Folder
from mdm_jax.data.object_values import MOST_ANNOTATORS
from mdm_jax.data.source import ALL, find_split
from mdm_jax.errors import InputError
from mdm_jax.text_files import read_text

# By the number in train_test_split.txt.
SPLITS = ("test", "train")
COMPLETE = "give the whole folder CUB_200_2011 as it is published"


def open_cub(path: str, split: str) -> Folder:
    """The images of one split, or all, with boxes, parts and masks.

    A mask marks what more than half of the annotators took for the bird. A hidden part is NaN.
    Raises InputError for a folder that is missing, incomplete or malformed."""
    root = Path(path).expanduser()
    inner = root / "CUB_200_2011"
    if not (root / "images.txt").exists() and inner.is_dir():
        root = inner
    if not root.is_dir():
        raise InputError(
            f"{path} is not a folder: give the folder CUB_200_2011 that holds images.txt, as"
            " cub:PATH"
        )
    used = split if split == ALL else find_split(split, SPLITS, f"cub:{path}")
    try:
        files = {}
        for number, name in _names(root / "images.txt").items():
            files[number] = _relative(name, root)
        classes = _names(root / "classes.txt")
        labels = _image_table(root / "image_class_labels.txt", files, 1)[:, 0]
        splits = _image_table(root / "train_test_split.txt", files, 1)[:, 0]
        boxes = _image_table(root / "bounding_boxes.txt", files, 4)
        part_names, parts = _parts(root / "parts", files)
    except OSError as error:
        raise InputError(
            f"cannot read {images.printable(error.filename or root)} ({error.strerror}): {COMPLETE}"
        ) from error
    positions = {number: position for position, number in enumerate(classes)}
    unknown = set(labels.tolist()) - set(positions)
    if unknown:
        raise InputError(
            f"{images.printable(root / 'image_class_labels.txt')} has the class {min(unknown):g},"
            " not in classes.txt"
        )
    split_names = [SPLITS[int(is_train == 1)] for is_train in splits]
    rows = [row for row, name in enumerate(split_names) if used in (ALL, name)]
    if not rows:
        raise InputError(
            f"{images.printable(root / 'train_test_split.txt')} leaves no image for {used}:"
            f" {COMPLETE}"
        )
    all_files = list(files.values())
    used_files = [all_files[row] for row in rows]
    # Published as x, y, width and height.
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return Folder(
        name=f"cub:{path}",
        root=root,
        split=used,
        files=tuple(used_files),
        labels=tuple(positions[int(labels[row])] for row in rows),
        class_names=_readable(list(classes.values())),
        boxes={all_files[row]: corners[row : row + 1] for row in rows},
        masks=_masks(root, used_files),
        parts={all_files[row]: parts[row] for row in rows} if part_names else {},
        part_names=part_names,
        object_values=MOST_ANNOTATORS,
    )


def _names(path: Path) -> dict[int, str]:
    """Lines of a number and a name."""
    names: dict[int, str] = {}
    for row, line in _lines(path):
        number, _, name = line.partition(" ")
        if not number.isdecimal() or not name.strip() or int(number) in names:
            raise InputError(
                f"row {row} of {images.printable(path)} is not a new number and a name: {COMPLETE}"
            )
        names[int(number)] = name.strip()
    if not names:
        raise InputError(f"{images.printable(path)} is empty: {COMPLETE}")
    return names


def _numbers(path: Path, columns: int) -> Float64[np.ndarray, "rows columns"]:
    """Lines of so many numbers."""
    rows = []
    for row, line in _lines(path):
        try:
            values = [float(value) for value in line.split()]
        except ValueError:
            values = []
        # A sum is finite only where every number is.
        if len(values) != columns or not math.isfinite(sum(values)):
            raise InputError(
                f"row {row} of {images.printable(path)} is not {columns} numbers: {COMPLETE}"
            )
        rows.append(values)
    return np.asarray(rows, np.float64).reshape(-1, columns)


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = read_text(path)
    except ValueError as error:
        raise InputError(
            f"{images.printable(path)} is not UTF-8 text: {COMPLETE}"
        ) from error
    numbered = enumerate(text.splitlines(), start=1)
    return [(row, line.strip()) for row, line in numbered if line.strip()]


def _image_table(
    path: Path, files: Mapping[int, str], columns: int
) -> Float64[np.ndarray, "images columns"]:
    """What a table says of each image, in the order of `files`."""
    table = _numbers(path, columns + 1)
    rows = {int(number): row for row, number in enumerate(table[:, 0])}
    lacking = [number for number in files if number not in rows]
    if lacking:
        raise InputError(
            f"{images.printable(path)} says nothing of image {lacking[0]}: {COMPLETE}"
        )
    return table[[rows[number] for number in files], 1:]


def _parts(
    folder: Path, files: Mapping[int, str]
) -> tuple[tuple[str, ...], Float32[np.ndarray, "images parts 2"]]:
    """Names of the parts and where each lies in each image; none where the folder is missing."""
    if not folder.is_dir():
        return (), np.zeros((len(files), 0, 2), np.float32)
    names = _names(folder / "parts.txt")
    places = np.full((len(files), len(names), 2), np.nan, np.float32)
    rows = {number: row for row, number in enumerate(files)}
    columns = {number: column for column, number in enumerate(names)}
    table = folder / "part_locs.txt"
    for image, part, x, y, is_visible in _numbers(table, 5):
        if image not in rows or part not in columns:
            raise InputError(
                f"{images.printable(table)} has part {part:g} of image {image:g}, which is not"
                f" known: {COMPLETE}"
            )
        if is_visible:
            places[rows[image], columns[part]] = x, y
    return tuple(names.values()), places


def _masks(root: Path, files: Sequence[str]) -> dict[str, str]:
    """The mask of each file that has one, relative to the folder."""
    for place in ("segmentations", "../segmentations"):
        if (root / place).is_dir():
            break
    else:
        return {}
    masks = {}
    for file in files:
        _, *inner = PurePosixPath(file).parts  # without images/
        mask = str(PurePosixPath(place, *inner).with_suffix(".png"))
        if (root / mask).is_file():
            masks[file] = mask
    return masks


def _relative(name: str, root: Path) -> str:
    # A table is another author's file: it must not lead to the rest of the disk.
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts:
        raise InputError(
            f"{images.printable(root / 'images.txt')} leads out of the folder:"
            f" {images.printable(name)}"
        )
    return f"images/{place}"


def _readable(names: Sequence[str]) -> tuple[str, ...]:
    """`001.Black_footed_Albatross` as `Black footed Albatross`, unless two would be the same."""
    plain = []
    for name in names:
        without_number = re.sub(r"^\d+\.", "", name)
        plain.append(without_number.replace("_", " "))
    if len(set(plain)) < len(plain):
        return tuple(names)
    return tuple(plain)
