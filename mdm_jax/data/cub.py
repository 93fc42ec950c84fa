"""CUB-200-2011, the birds of Wah et al. (2011), in the folder as it is published: boxes, parts and,
beside it, masks.

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
from mdm_jax.data.source import ALL, find_split
from mdm_jax.errors import InputError

SPLITS = ("test", "train")
"""by the number in train_test_split.txt"""
COMPLETE = "give the whole folder CUB_200_2011 as it is published"


def open_cub(path: str, split: str) -> Folder:
    """The images of one split, or all. Raises InputError for a folder that is missing, incomplete
    or malformed.

    A mask marks what more than half of the annotators took for the bird. A part that is not seen is
    NaN."""
    root = Path(path).expanduser()
    root = (
        root / "CUB_200_2011"
        if not (root / "images.txt").exists() and (root / "CUB_200_2011").is_dir()
        else root
    )
    if not root.is_dir():
        raise InputError(
            f"{path} is not a folder: give the folder CUB_200_2011 that holds images.txt, as"
            " cub:PATH"
        )
    used = split if split == ALL else find_split(split, SPLITS, f"cub:{path}")
    try:
        files = {
            number: _relative(name, root) for number, name in _names(root / "images.txt").items()
        }
        classes = _names(root / "classes.txt")
        labels = _of_images(root / "image_class_labels.txt", files, 1)[:, 0]
        splits = _of_images(root / "train_test_split.txt", files, 1)[:, 0]
        boxes = _of_images(root / "bounding_boxes.txt", files, 4)
        part_names, parts = _parts(root / "parts", files)
    except OSError as error:
        raise InputError(
            f"cannot read {images.printable(error.filename or root)} ({error.strerror}): {COMPLETE}"
        ) from error
    positions = {number: position for position, number in enumerate(classes)}
    if unknown := set(labels.tolist()) - set(positions):
        raise InputError(
            f"{images.printable(root / 'image_class_labels.txt')} has the class {min(unknown):g},"
            " not in classes.txt"
        )
    kept = [row for row, is_train in enumerate(splits) if used in (ALL, SPLITS[int(is_train == 1)])]
    if not kept:
        raise InputError(
            f"{images.printable(root / 'train_test_split.txt')} leaves no image for {used}:"
            f" {COMPLETE}"
        )
    every = list(files.values())
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return Folder(
        name=f"cub:{path}",
        root=root,
        split=used,
        files=tuple(every[row] for row in kept),
        labels=tuple(positions[int(labels[row])] for row in kept),
        class_names=_for_people(list(classes.values())),
        boxes={every[row]: corners[row : row + 1] for row in kept},
        masks=_masks(root, [every[row] for row in kept]),
        parts={every[row]: parts[row] for row in kept} if part_names else {},
        part_names=part_names,
    )


def _names(path: Path) -> dict[int, str]:
    """Lines of a number and a name."""
    found: dict[int, str] = {}
    for row, line in _lines(path):
        number, _, name = line.partition(" ")
        if not number.isdecimal() or not name.strip() or int(number) in found:
            raise InputError(
                f"row {row} of {images.printable(path)} is not a new number and a name: {COMPLETE}"
            )
        found[int(number)] = name.strip()
    if not found:
        raise InputError(f"{images.printable(path)} is empty: {COMPLETE}")
    return found


def _numbers(path: Path, columns: int) -> Float64[np.ndarray, "rows columns"]:
    """Lines of so many numbers."""
    rows = []
    for row, line in _lines(path):
        try:
            values = [float(value) for value in line.split()]
        except ValueError:
            values = []
        if len(values) != columns or not math.isfinite(sum(values)):
            raise InputError(
                f"row {row} of {images.printable(path)} is not {columns} numbers: {COMPLETE}"
            )
        rows.append(values)
    return np.asarray(rows, np.float64).reshape(-1, columns)


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{images.printable(path)} is not UTF-8 text: {COMPLETE}") from error
    return [(row, line.strip()) for row, line in enumerate(text.splitlines(), 1) if line.strip()]


def _of_images(
    path: Path, files: Mapping[int, str], columns: int
) -> Float64[np.ndarray, "images columns"]:
    """What a table says of each image, in the order of `files`."""
    table = _numbers(path, columns + 1)
    rows = {int(number): row for row, number in enumerate(table[:, 0])}
    if lacking := [number for number in files if number not in rows]:
        raise InputError(f"{images.printable(path)} says nothing of image {lacking[0]}: {COMPLETE}")
    return table[[rows[number] for number in files], 1:]


def _parts(
    folder: Path, files: Mapping[int, str]
) -> tuple[tuple[str, ...], Float32[np.ndarray, "images parts 2"]]:
    """Names of the parts and where each lies in each image; none where the folder is not there."""
    names = _names(folder / "parts.txt") if folder.is_dir() else {}
    places = np.full((len(files), len(names), 2), np.nan, np.float32)
    if names:
        rows = {number: row for row, number in enumerate(files)}
        columns = {number: column for column, number in enumerate(names)}
        for image, part, x, y, visible in _numbers(folder / "part_locs.txt", 5):
            if image not in rows or part not in columns:
                raise InputError(
                    f"{images.printable(folder / 'part_locs.txt')} has part {part:g} of image"
                    f" {image:g}, which is not known: {COMPLETE}"
                )
            if visible:
                places[rows[image], columns[part]] = x, y
    return tuple(names.values()), places


def _masks(root: Path, files: Sequence[str]) -> dict[str, str]:
    """The mask of each file that has one, relative to the folder."""
    place = next(
        (place for place in ("segmentations", "../segmentations") if (root / place).is_dir()), None
    )
    if place is None:
        return {}
    own = {
        file: str(PurePosixPath(place, *PurePosixPath(file).parts[1:]).with_suffix(".png"))
        for file in files
    }
    return {file: mask for file, mask in own.items() if (root / mask).is_file()}


def _relative(name: str, root: Path) -> str:
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts:
        raise InputError(
            f"{images.printable(root / 'images.txt')} leads out of the folder:"
            f" {images.printable(name)}"
        )
    return f"images/{place}"


def _for_people(names: Sequence[str]) -> tuple[str, ...]:
    """`001.Black_footed_Albatross` as `Black footed Albatross`, unless two would be the same."""
    plain = [images.printable(re.sub(r"^\d+\.", "", name).replace("_", " ")) for name in names]
    return tuple(plain) if len(set(plain)) == len(plain) else tuple(map(images.printable, names))
