"""What lies in a folder of images: which files, of which class and split, with which boxes and
masks. Opens no image."""

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

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
SPLITS = ("train", *HELD_OUT)
"""folders of these names are splits, of other names classes"""
HELD_OUT_SHARE = 10
"""where nothing says which images are held out, one in so many is, by a hash of its path"""
CORNERS = ("x_min", "y_min", "x_max", "y_max")


class Item(NamedTuple):
    """A file (its path relative to the folder, with / between the parts), its class and its
    split."""

    file: str
    label: str
    split: str


def listed(root: Path) -> list[Item]:
    """Every image with its class and split, in the order of the paths. Raises InputError for a
    folder without images."""
    if (root / "labels.csv").is_file():
        items = list(_from_table(root))
    else:
        folders = [name for name in _subfolders(root) if name != "masks"]
        splits = [name for name in folders if name in SPLITS and _subfolders(root / name)]
        items = (
            [item for split in splits for item in _classes(root, split)]
            if splits
            else list(_classes(root, None))
        )
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
    """Names for people by class, from classes.json where there is one. Raises InputError for a
    malformed file."""
    path = root / "classes.json"
    if not path.is_file():
        return {}
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{images.printable(path)} is not readable JSON ({error})") from error
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise InputError(
            f'{images.printable(path)} must give each class a name, as {{"n02279972": "monarch"}}'
        )
    return names


def boxes(root: Path, files: Sequence[str]) -> dict[str, np.ndarray]:
    """Boxes [k, 4] in pixels by file, from boxes.csv where there is one. Raises InputError for a
    malformed row."""
    path = root / "boxes.csv"
    if not path.is_file():
        return {}
    wanted = {_beside(file): file for file in files} | {file: file for file in files}
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
        if (file := wanted.get(_posix(row["file"]))) is not None:
            found.setdefault(file, []).append(corners)
    return {file: np.asarray(corners) for file, corners in found.items()}


def masks(root: Path, files: Sequence[str]) -> dict[str, str]:
    """The mask of each file that has one: masks/, then the file's own path, as PNG."""
    there = set(_files(root, "masks")) if (root / "masks").is_dir() else set()
    candidates = (
        (file, f"masks/{PurePosixPath(_beside(file)).with_suffix('.png')}") for file in files
    )
    return {file: mask for file, mask in candidates if mask in there}


def _beside(file: str) -> str:
    """A file of images/ as labels.csv, boxes.csv and masks/ name it."""
    return file.removeprefix("images/")


def _posix(file: str) -> str:
    return file.strip().replace("\\", "/").removeprefix("./")


def _classes(root: Path, split: str | None) -> Iterator[Item]:
    """Images below CLASS/ or SPLIT/CLASS/."""
    above = [] if split is None else [split]
    for label in _subfolders(root.joinpath(*above)):
        if split is not None or label != "masks":
            for file in _files(root, "/".join([*above, label])):
                yield Item(file, label, split or _by_hash(file))


def _from_table(root: Path) -> Iterator[Item]:
    """The rows of labels.csv; a file is relative to images/ where there is such a folder."""
    path, below = root / "labels.csv", "images/" if (root / "images").is_dir() else ""
    seen: set[str] = set()
    for number, row in rows(path, ("file", "label")):
        file, label = below + _posix(row["file"]).removeprefix(below), row["label"].strip()
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
        yield Item(file, label, (row.get("split") or "").strip() or _by_hash(file))


def _by_hash(file: str) -> str:
    """A split that depends on the file's path alone, so that it stays when other files come and
    go."""
    return "val" if zlib.crc32(os.fsencode(file)) % HELD_OUT_SHARE == 0 else "train"


def rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table with their line numbers. Raises InputError when a column is missing or it is
    no text."""
    try:
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
        return sorted(
            entry.name for entry in entries if _is_folder(entry) and not entry.name.startswith(".")
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder to look into: not a link to itself or to one that it lies in, which
    has no end."""
    try:
        if not entry.is_dir():
            return False
    except OSError:
        return False
    return not entry.is_symlink() or not Path(entry.path).parent.resolve().is_relative_to(
        Path(entry.path).resolve()
    )


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
