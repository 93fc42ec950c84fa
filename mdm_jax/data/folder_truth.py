"""What a folder says of its images: boxes, masks and names of classes. Opens no image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from mdm_jax import images
from mdm_jax.data import image_files, tables
from mdm_jax.data.folder_layout import IMAGES, MASKS
from mdm_jax.errors import InputError
from mdm_jax.text_files import parse_json, read_text

CORNERS = ("x_min", "y_min", "x_max", "y_max")


def class_names(root: Path) -> dict[str, str]:
    """Names for people by class, from classes.json where there is one.

    Raises InputError for a malformed file."""
    path = root / "classes.json"
    if not path.is_file():
        return {}
    try:
        names = parse_json(read_text(path))
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


def boxes(root: Path, files: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Boxes [k, 4] in pixels by file, from boxes.csv where there is one, and what is left out.

    Raises InputError for a malformed row, for boxes that are shares of their images, and where none
    of them is of one of the files."""
    path = root / "boxes.csv"
    if not path.is_file():
        return {}, []
    # A table may name files with images/ before them or without.
    wanted = {_without_images(file): file for file in files}
    wanted |= {file: file for file in files}
    found: dict[str, list[list[float]]] = {}
    strange: list[str] = []
    largest = 0.0
    for number, row in tables.rows(path, ("file", *CORNERS)):
        try:
            corners = [float(row[name]) for name in CORNERS]
        except (TypeError, ValueError):
            corners = [np.nan]
        if not np.isfinite(corners).all():
            raise InputError(
                f"row {number} of {images.printable(path)} has no four numbers for"
                f" {', '.join(CORNERS)}"
            )
        largest = max(largest, *corners)
        file = wanted.get(tables.posix(row["file"]))
        if file is None:
            strange.append(row["file"])
        else:
            found.setdefault(file, []).append(corners)
    if (found or strange) and largest <= 1:
        raise InputError(
            f"all boxes in {images.printable(path)} lie within 0 and 1, as shares of their images:"
            " give pixels"
        )
    if not strange:
        return _as_arrays(found), []
    one = images.printable(strange[0])
    if not found:
        raise InputError(
            f"none of the {len(strange)} rows of {images.printable(path)} names an image of the"
            f" folder ({one} for one): give paths as {files[0]}"
        )
    return _as_arrays(found), [
        f"{len(strange)} rows of boxes.csv of no image, {one} for one"
    ]


def masks(root: Path, files: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The mask of each file that has one, and what is left out.

    In masks/ at the file's own path, with another suffix or one more."""
    if not (root / MASKS).is_dir():
        return {}, []
    # Listed once rather than asked for each file: on a network file system each question is slow.
    listed = sorted(image_files.walk(root, MASKS))
    others = [mask for mask, is_image in listed if not is_image]
    by_name: dict[str, str] = {}
    for mask, is_image in listed:
        if is_image:
            name = str(PurePosixPath(mask).relative_to(MASKS).with_suffix(""))
            if name not in by_name or mask.endswith(".png"):
                by_name[name] = mask
    found, used = {}, set()
    for file in files:
        name = _without_images(file)
        for candidate in (str(PurePosixPath(name).with_suffix("")), name):
            if candidate in by_name:
                found[file] = by_name[candidate]
                used.add(by_name[candidate])
                break
    left_out = []
    unused = [mask for mask, is_image in listed if is_image and mask not in used]
    if unused:
        left_out.append(f"{len(unused)} masks of no image, {unused[0]} for one")
    if others:
        left_out.append(
            f"{image_files.describe_kinds(others)} in {MASKS}, which are no images"
        )
    return found, left_out


def _as_arrays(found: dict[str, list[list[float]]]) -> dict[str, np.ndarray]:
    return {file: np.asarray(corners) for file, corners in found.items()}


def _without_images(file: str) -> str:
    """A file of images/ as labels.csv, boxes.csv and masks/ name it."""
    return file.removeprefix(f"{IMAGES}/")
