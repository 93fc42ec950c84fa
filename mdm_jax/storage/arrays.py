"""Arrays in .npz files, and texts as file names."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.storage.atomic import unreadable, write_whole

# Arrays that share their leading axis, a row for each image; `ids` is one of them.
Columns = dict[str, np.ndarray]

# Characters of a text that are kept in a file name.
MAX_NAME = 80


def read_arrays(path: Path, names: tuple[str, ...] = ()) -> Columns:
    """The arrays of an .npz, or those of them that are named.

    Raises InputError for a file that is damaged or cannot be read."""
    with _open_arrays(path) as stored:
        wanted = [name for name in stored.files if not names or name in names]
        return {name: stored[name] for name in wanted}


def read_names(path: Path) -> tuple[str, ...]:
    """The names of the arrays of an .npz, which are not read themselves.

    Raises InputError as `read_arrays` does."""
    with _open_arrays(path) as stored:
        return tuple(stored.files)


@contextmanager
def _open_arrays(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            yield stored
    except OSError as error:
        # The disk or the permissions: removing the file would lose what it holds.
        raise unreadable(path, error) from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{printable(path)} is damaged ({error}): remove it to compute it again"
        ) from error


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as an .npz, whole or not at all."""
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))


def file_name(text: str) -> str:
    """A text as the name of a file that every system takes.

    Texts that would share a name are told apart by a checksum."""
    text = text.replace(":", "--")
    plain = re.sub(r"[^\w.=,@+-]+", "-", text)[:MAX_NAME].strip("-.")
    if plain == text:
        return plain
    return f"{plain}-{zlib.crc32(text.encode()):08x}"
