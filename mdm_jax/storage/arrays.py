"""Arrays in .npz files, and texts as file names."""

from __future__ import annotations

import lzma
import math
import os
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy

from mdm_jax.errors import InputError, first_line
from mdm_jax.images import printable
from mdm_jax.storage.atomic import unreadable, write_whole

# Arrays that share their leading axis, a row for each image; `ids` is one of them.
Columns = dict[str, np.ndarray]

# Characters of a text that are kept in a file name.
MAX_NAME = 80

# Bytes that a file may unpack to for each of its own, beyond the size where it does no harm.
MOST_UNPACKED, HARMLESS = 200, 1 << 30

# What numpy, zipfile and what they decompress with raise for a damaged file, beside ValueError.
DAMAGES = (
    EOFError,
    LookupError,
    RuntimeError,  # and NotImplementedError, for a way of packing that zipfile lacks
    SyntaxError,
    ArithmeticError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
)
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


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
        with open_numpy(path) as stored:
            if isinstance(stored, np.ndarray):
                raise ValueError("it is one array")
            yield stored
    except OSError as error:
        # The disk or the permissions: removing the file would lose what it holds.
        raise unreadable(path, error) from error
    except ValueError as error:
        raise InputError(
            f"{printable(path)} is damaged ({error}): remove it to compute it again"
        ) from error


@contextmanager
def open_numpy(path: Path) -> Iterator[Any]:
    """The array of an .npy or those of an .npz, as `np.load` gives them; from whomever.

    Raises OSError for a file that cannot be read, and ValueError for one that is damaged, holds
    Python objects, or says that it holds more than it does."""
    with path.open("rb") as file:
        try:
            _check_sizes(file)
            yield np.load(file, allow_pickle=False)
        except DAMAGES as error:
            raise ValueError(first_line(error)) from error


def _check_sizes(file: BufferedIOBase) -> None:
    """Raises ValueError, before anything is unpacked, for arrays that the file cannot hold."""
    size = os.fstat(file.fileno()).st_size
    is_archive = file.read(2) == b"PK"
    file.seek(0)
    if not is_archive:
        _check_array(file, size)
    else:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            packed = sum(each.compress_size for each in members)
            unpacked = sum(each.file_size for each in members)
            if packed > size or unpacked > max(HARMLESS, MOST_UNPACKED * size):
                raise ValueError(f"its {size} bytes would unpack to {unpacked}")
            for each in members:
                with archive.open(each) as member:
                    _check_array(cast(BufferedIOBase, member), each.file_size)
    file.seek(0)


def _check_array(file: BufferedIOBase, size: int) -> None:
    try:
        shape, _, dtype = HEADERS[npy.read_magic(file)](file)
    except (KeyError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("an array in it has no readable header") from error
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * max(dtype.itemsize, 1) > size:
        raise ValueError(f"it says that it holds {shape} of {dtype} in {size} bytes")


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
