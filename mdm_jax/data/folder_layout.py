"""Which image of a folder is of which class and split, and what is left out. Opens no image.

`SPLIT/CLASS/...`, `CLASS/...`, or labels.csv, perhaps with `images/`."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mdm_jax import images
from mdm_jax.data import image_files, tables
from mdm_jax.data.source import split_kind
from mdm_jax.errors import InputError

LABELS = "labels.csv"
IMAGES, MASKS = "images", "masks"

# Folders of parts of a data set, which are no classes.
NO_CLASSES = {IMAGES, "image", "imgs", "jpegimages", "labels", "annotations", MASKS}

# Where nothing says which images are held out, one in so many is, by a hash of its path.
HELD_OUT_SHARE = 10
LAYOUTS = "give CLASS/*.jpg, train/CLASS/*.jpg and val/CLASS/*.jpg, or images/*.jpg with labels.csv"


class ListedFile(NamedTuple):
    """An image file, its class and its split."""

    file: str
    """path relative to the folder, with / between the parts"""
    label: str
    split: str


class Listing(NamedTuple):
    """The images of a folder."""

    items: list[ListedFile]
    """in the order of the paths"""
    left_out: list[str]
    """what is not read, and why"""


def list_folder(root: Path) -> Listing:
    """Every image with its class and split.

    Raises InputError for a folder without images, or in no known layout."""
    has_table = (root / LABELS).is_file()
    listing = _from_table(root) if has_table else _from_folders(root)
    if not listing.items:
        why = f" ({'; '.join(listing.left_out)})" if listing.left_out else ""
        raise InputError(
            f"{images.printable(root)} holds no images in a known layout{why}: {LAYOUTS}"
        )
    return Listing(sorted(listing.items), listing.left_out)


def _from_folders(root: Path) -> Listing:
    folders = _not_parts(image_files.subfolders(root))
    # A class may be called "test": only a folder of folders is a split.
    splits = [
        name for name in folders if split_kind(name) and image_files.subfolders(root / name)
    ]
    listing, others = Listing([], []), []
    for split in splits:
        others += _add_classes(root, split, listing)
    if not splits:
        others += _add_classes(root, None, listing)
    for name in sorted({*folders} - {*splits}) if splits else ():
        count = sum(is_image for _, is_image in image_files.walk(root, name))
        if count:
            known = ", ".join(splits)
            listing.left_out.append(f"{count} in {name}, beside the splits {known}")
    if others:
        kinds = image_files.describe_kinds(others)
        listing.left_out.append(f"{kinds}, of no format that is read")
    _check_classes(root, listing.items, bool(splits))
    return listing


def _add_classes(root: Path, split: str | None, listing: Listing) -> list[str]:
    """Add the images below CLASS/ or SPLIT/CLASS/; other files there."""
    above = "" if split is None else f"{split}/"
    place = root / above
    names = image_files.files_in(place)
    beside = sum(image_files.is_image(str(place / name)) for name in names)
    if beside:
        listing.left_out.append(f"{beside} in {above or './'}, beside folders of classes")
    others, empty = [], []
    for label in image_files.subfolders(place):
        if split is None and label == MASKS:
            continue
        found = list(image_files.walk(root, above + label))
        listed = [file for file, is_image in found if is_image]
        if not _not_parts([label]):
            if listed:
                listing.left_out.append(
                    f"{len(listed)} in {above + label}, which is no class"
                )
            continue
        others += [file for file, is_image in found if not is_image]
        for file in listed:
            listing.items.append(ListedFile(file, label, split or _split_by_hash(file)))
        if not listed:
            empty.append(above + label)
    if empty:
        listing.left_out.append(f"no image in {_shown(empty)}")
    return others


def _not_parts(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.casefold() not in NO_CLASSES]


def _check_classes(root: Path, items: Iterable[ListedFile], has_splits: bool) -> None:
    """Raises InputError where what would be classes is something else."""
    inside: dict[str, set[str]] = {}
    for file, label, split in items:
        folders = PurePosixPath(file).parts[1 + has_splits : -1]
        key = f"{split}/{label}" if has_splits else label
        inside.setdefault(key, set()).add(folders[0] if folders else "")
    if not inside:
        return
    if not has_splits and all(split_kind(name) for name in inside):
        raise _no_classes(root, inside, "are splits, and hold no folders of classes")
    holding = {name: within for name, within in inside.items() if "" not in within}
    of_splits = [name for name, within in holding.items() if all(map(split_kind, within))]
    if of_splits:
        within = sorted(holding[of_splits[0]])
        raise _no_classes(root, of_splits, f"hold splits ({_shown(within)})")
    first, *rest = inside.values()
    if (
        rest
        and len(first) > 1
        and len(holding) == len(inside)
        and all(each == first for each in rest)
    ):
        raise _no_classes(
            root, inside, f"all hold the same folders ({_shown(sorted(first))})"
        )


def _no_classes(root: Path, names: Iterable[str], why: str) -> InputError:
    return InputError(
        f"the folders {_shown(list(names))} of {images.printable(root)} {why}, so that they are no"
        f" classes: {LAYOUTS}"
    )


def _shown(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _from_table(root: Path) -> Listing:
    """The rows of labels.csv; a file is relative to images/ where there is such a folder."""
    items = list(_rows(root))
    below = IMAGES if (root / IMAGES).is_dir() else "."
    named = {item.file for item in items}
    found = [
        (file, is_image)
        for file, is_image in image_files.walk(root, below)
        if not file.startswith(f"{MASKS}/")
    ]
    left_out = []
    unnamed = [file for file, is_image in found if is_image and file not in named]
    if unnamed:
        left_out.append(f"{len(unnamed)} that {LABELS} does not name, {unnamed[0]} for one")
    others = [file for file, is_image in found if not is_image and file not in named]
    if others and below == IMAGES:
        left_out.append(f"{image_files.describe_kinds(others)}, of no format that is read")
    return Listing(items, left_out)


def _rows(root: Path) -> Iterator[ListedFile]:
    path = root / LABELS
    below = f"{IMAGES}/" if (root / IMAGES).is_dir() else ""
    seen: set[str] = set()
    for number, row in tables.rows(path, ("file", "label")):
        file = below + tables.posix(row["file"]).removeprefix(below)
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
