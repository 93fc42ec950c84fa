"""Image files below a folder, and what else lies there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import PIL.Image

# Of formats that Pillow reads; the others are told.
SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
    *(".jp2", ".j2k", ".jpf", ".jpx", ".avif", ".avifs"),
}

# What systems put beside files.
OF_SYSTEMS = {"thumbs.db", "desktop.ini"}

# Kinds of files that a sentence tells.
SHOWN = 5


def walk(root: Path, below: str) -> Iterator[tuple[str, bool]]:
    """Files in the folder `below` of `root` and in its subfolders, and whether each is an image.

    Hidden ones are left out."""
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in OF_SYSTEMS:
                continue
            place = f"{below}/{entry.name}".removeprefix("./")
            if is_folder(entry):
                yield from walk(root, place)
            else:
                yield place, is_image(entry.path)


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, hidden ones left out."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if is_folder(entry)]
    return sorted(name for name in names if not name.startswith("."))


def files_in(folder: Path) -> list[str]:
    """Names of the files in a folder, not below it, sorted, hidden ones left out."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not is_folder(entry)]
    return sorted(
        name
        for name in names
        if not name.startswith(".") and name.lower() not in OF_SYSTEMS
    )


def is_folder(entry: os.DirEntry[str]) -> bool:
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


def is_image(path: str) -> bool:
    """By its suffix; a file without one is asked for its first bytes."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix:
        return suffix in SUFFIXES
    try:
        with PIL.Image.open(path):
            return True
    except Exception:  # whatever the bytes of a file that is no image make Pillow do
        return False


def describe_kinds(files: Iterable[str]) -> str:
    """How many files of which suffix, the most frequent first."""
    suffixes = (os.path.splitext(file)[1].lower() for file in files)
    counted = Counter(suffix or "without suffix" for suffix in suffixes).most_common()
    kinds = [f"{count} {kind}" for kind, count in counted[:SHOWN]]
    more = sum(count for _, count in counted[SHOWN:])
    return ", ".join([*kinds, f"{more} of other kinds"] if more else kinds)
