"""Which files of a folder are ours to overwrite or delete.

Before anything else a marker is written into the folder (`MARKER`): what lies there, and the
patterns of its files. Later calls overwrite and delete what a marker covers and nothing else; where
a file of such a name is there without it, the folder is refused. Folders that an earlier version
wrote have no marker and are known by what only it wrote, such as the settings of a benchmark."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.storage.atomic import (
    check_writable,
    make_folder,
    remove_partial_files,
    unwritable,
    write_text,
)
from mdm_jax.text_files import parse_json

MARKER = ".mdm_jax.json"
FORMAT = 1

# How a file with the options of a verb begins; see `options_file`.
OPTIONS_LINE = "# mdm {verb} --config of mdm_jax"

# Five digits in a pattern, as in the numbers of most of our files.
NUMBER = "[0-9]" * 5


class Kind(NamedTuple):
    """What a folder may hold, and the files that go with it."""

    name: str
    files: tuple[str, ...]
    """a pattern for every file that is written, as `Path.glob` takes it; narrow, as files of these
    names may be overwritten and deleted"""
    is_ours: Callable[[Path], bool]
    """whether an earlier version wrote the folder, by a file that nothing else writes"""
    alone: bool = False
    """whether any other file in a folder without a marker is refused"""


def check(folder: Path, kind: Kind) -> None:
    """Raise InputError for a folder that cannot be written, or in which files would be lost.

    Touches nothing."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{printable(folder)} is a file: choose a folder", setting="out")
    check_writable(folder)
    try:
        foreign = next(_foreign(folder, kind), None)
    except OSError as error:
        raise unwritable(folder, error) from error
    if foreign is not None:
        name = printable(foreign.relative_to(folder))
        raise InputError(
            f"{printable(folder)} holds other files, such as {name}, which are not of a"
            f" {kind.name}: choose a new folder, as nothing of yours is overwritten",
            setting="out",
        )


def claim(folder: Path, kind: Kind) -> None:
    """Make a folder one of this kind: from now on its files may be overwritten.

    Raises InputError as `check` does."""
    check(folder, kind)
    make_folder(folder)
    claimed = _claimed(folder)
    if claimed:
        remove_partial_files(folder)
    if claimed.get(kind.name) != list(kind.files):
        claimed[kind.name] = list(kind.files)
        content = {"format": FORMAT, "files": claimed}
        write_text(folder / MARKER, json.dumps(content, indent=2) + "\n")


def clear(folder: Path, patterns: Sequence[str]) -> None:
    """Remove the files of some patterns of a kind that is claimed, and folders left empty.

    Raises OSError where that cannot be."""
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        if path.is_file() or path.is_symlink():
            path.unlink()
        for above in path.parents:
            if above == folder:
                break
            with suppress(OSError):  # something lies there still
                above.rmdir()


def options_file(verb: str) -> str:
    """The name of the file with the options of a verb."""
    return f"mdm-{verb}.toml"


def has_settings(path: Path, names: Sequence[str]) -> bool:
    """Whether a file is JSON with these names at its top: a proof for `Kind.is_ours`."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and set(names) <= content.keys()


def begins_with(path: Path, text: str) -> bool:
    """Whether a text stands near the beginning of a file: a proof for `Kind.is_ours`."""
    with suppress(OSError), path.open("rb") as file:
        return text.encode() in file.read(2000)
    return False


def _foreign(folder: Path, kind: Kind) -> Iterator[Path]:
    """What stands where files of the kind would be written, and no marker covers."""
    if not folder.is_dir():
        return
    covered = _claimed(folder).get(kind.name)
    if covered is None and kind.is_ours(folder):
        return
    if covered is None and kind.alone:
        yield from (each for each in sorted(folder.iterdir()) if each.name[0] != ".")
    # A newer version may write more files than the one that wrote the marker.
    for pattern in kind.files:
        if pattern not in (covered or ()):
            for path in folder.glob(pattern):
                if not _is_empty_lock(path) and not is_options_file(path):
                    yield path


def _claimed(folder: Path) -> dict[str, Any]:
    """Kinds and their patterns, as the marker has them; none where there is no readable one."""
    try:
        files = parse_json((folder / MARKER).read_bytes())["files"]
        return {name: list(map(str, patterns)) for name, patterns in files.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _is_empty_lock(path: Path) -> bool:
    return path.name == ".lock" and path.is_file() and not path.stat().st_size


def is_options_file(path: Path) -> bool:
    """Whether a file holds options of a verb, as we wrote them."""
    # A second one is numbered.
    verb = re.sub(r"-\d+$", "", path.stem.removeprefix("mdm-"))
    if not path.name.startswith("mdm-") or not path.is_file():
        return False
    with suppress(OSError), path.open("rb") as file:
        return file.readline(200).startswith(OPTIONS_LINE.format(verb=verb).encode())
    return False
