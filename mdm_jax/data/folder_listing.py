"""What lies in a folder of images: files, their classes and splits, boxes and masks.

Opens no image."""

from __future__ import annotations

import csv
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from mdm_jax import images
from mdm_jax.data.source import HELD_OUT
from mdm_jax.errors import InputError

SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
}

# Folders of these names are splits, of other names classes.
SPLITS = ("train", *HELD_OUT)

# Where nothing says which images are held out, one in so many is, by a hash of its path.
HELD_OUT_SHARE = 10
CORNERS = ("x_min", "y_min", "x_max", "y_max")


class ListedFile(NamedTuple):
    """An image file, its class and its split."""

    file: str
    """path relative to the folder, with / between the parts"""
    label: str
    split: str


def list_items(root: Path) -> list[ListedFile]:
    """Every image with its class and split, in the order of the paths.

    Raises InputError for a folder without images."""
    items: list[ListedFile] = []
    if (root / "labels.csv").is_file():
        items += _from_table(root)
    else:
        # A class may be called "test": only a folder of folders is a split.
        folders = [name for name in _subfolders(root) if name != "masks"]
        splits = [name for name in folders if name in SPLITS and _subfolders(root / name)]
        places: list[str | None] = [*splits] or [None]
        for split in places:
            items += _classes(root, split)
    if not items:
        raise InputError(
            f"{images.printable(root)} holds no images in a known layout: give CLASS/*.jpg,"
            " train/CLASS/*.jpg and val/CLASS/*.jpg, or images/*.jpg with labels.csv"
        )
    return sorted(items)


def files(root: Path) -> tuple[str, ...]:
    """Every image below a folder, in the order of the paths."""
    return tuple(sorted(file.removeprefix("./") for file in _files(root, ".")))


def class_names(root: Path) -> dict[str, str]:
    """Names for people by class, from classes.json where there is one.

    Raises InputError for a malformed file."""
    path = root / "classes.json"
    if not path.is_file():
        return {}
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{images.printable(path)} is not readable JSON ({error})"
        ) from error
    if not isinstance(names, dict) or not all(
        isinstance(name, str) for name in names.values()
    ):
        raise InputError(
            f'{images.printable(path)} must give each class a name, as {{"n02279972": "monarch"}}'
        )
    return names


def boxes(root: Path, files: Sequence[str]) -> dict[str, np.ndarray]:
    """Boxes [k, 4] in pixels by file, from boxes.csv where there is one.

    Raises InputError for a malformed row."""
    path = root / "boxes.csv"
    if not path.is_file():
        return {}
    # A table may name files with images/ before them or without.
    wanted = {_without_images(file): file for file in files} | {
        file: file for file in files
    }
    found: dict[str, list[list[float]]] = {}
    for number, row in rows(path, ("file", *CORNERS)):
        try:
            corners = [float(row[name]) for name in CORNERS]
        except (TypeError, ValueError):
            corners = [np.nan]
        if not np.isfinite(corners).all():
            raise InputError(
                f"row {number} of {images.printable(path)} has no four numbers for"
                f" {', '.join(CORNERS)}"
            )
        file = wanted.get(_posix(row["file"]))
        if file is not None:  # of another split
            found.setdefault(file, []).append(corners)
    return {file: np.asarray(corners) for file, corners in found.items()}


def masks(root: Path, files: Sequence[str]) -> dict[str, str]:
    """The mask of each file that has one: masks/, then the file's own path, as PNG."""
    if not (root / "masks").is_dir():
        return {}
    # Listed once rather than asked for each file: on a network file system each question is slow.
    existing = set(_files(root, "masks"))
    found = {}
    for file in files:
        mask = f"masks/{PurePosixPath(_without_images(file)).with_suffix('.png')}"
        if mask in existing:
            found[file] = mask
    return found


def _without_images(file: str) -> str:
    """A file of images/ as labels.csv, boxes.csv and masks/ name it."""
    return file.removeprefix("images/")


def _posix(file: str) -> str:
    return file.strip().replace("\\", "/").removeprefix("./")


def _classes(root: Path, split: str | None) -> Iterator[ListedFile]:
    """Images below CLASS/ or SPLIT/CLASS/."""
    above = [] if split is None else [split]
    for label in _subfolders(root.joinpath(*above)):
        if split is not None or label != "masks":
            for file in _files(root, "/".join([*above, label])):
                yield ListedFile(file, label, split or _split_by_hash(file))


def _from_table(root: Path) -> Iterator[ListedFile]:
    """The rows of labels.csv; a file is relative to images/ where there is such a folder."""
    path = root / "labels.csv"
    below = "images/" if (root / "images").is_dir() else ""
    seen: set[str] = set()
    for number, row in rows(path, ("file", "label")):
        file = below + _posix(row["file"]).removeprefix(below)
        label = row["label"].strip()
        if file == below or not label:
            raise InputError(
                f"row {number} of {images.printable(path)} lacks its file or its label"
            )
        if file in seen:
            raise InputError(
                f"row {number} of {images.printable(path)} names {file} a second time: give each"
                " file one label"
            )
        if ".." in PurePosixPath(file).parts or PurePosixPath(file).is_absolute():
            raise InputError(
                f"row {number} of {images.printable(path)} leads out of the folder: {file}"
            )
        seen.add(file)
        split = (row.get("split") or "").strip()
        yield ListedFile(file, label, split or _split_by_hash(file))


def _split_by_hash(file: str) -> str:
    """A split that depends on the path alone, so that it stays when other files come and go."""
    is_held_out = zlib.crc32(os.fsencode(file)) % HELD_OUT_SHARE == 0
    return "val" if is_held_out else "train"


def rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table with their line numbers.

    Raises InputError when a column is missing or it is no text."""
    try:
        # utf-8-sig, because spreadsheets begin a file with a byte order mark.
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, restval="")
            missing = [name for name in columns if name not in (table.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{images.printable(path)} lacks the column {missing[0]}: its first line must"
                    f" hold {','.join(columns)}"
                )
            for row in table:
                yield table.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{images.printable(path)} is not a table of comma-separated UTF-8 text ({error})"
        ) from error


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _is_folder(entry)]
    return sorted(name for name in names if not name.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder to look into."""
    try:
        if not entry.is_dir():
            return False
    except OSError:
        return False
    if not entry.is_symlink():
        return True
    # A link to a folder that it lies in has no end.
    target = Path(entry.path).resolve()
    return not Path(entry.path).parent.resolve().is_relative_to(target)


def _files(root: Path, below: str) -> Iterator[str]:
    """Images in the folder `below` of `root` and in its subfolders, hidden ones left out."""
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                yield from _files(root, f"{below}/{entry.name}")
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                yield f"{below}/{entry.name}"
