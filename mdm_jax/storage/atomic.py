"""Files that are written whole or not at all, and sentences for places that fail."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from mdm_jax.errors import InputError
from mdm_jax.images import printable

# How the names of files begin that are being written; then come the machine and the process.
PARTIAL = ".writing-"

# In seconds.
A_DAY = 24 * 3600


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all: no reader ever sees half of it.

    `write` gets a temporary file beside `path`, which is renamed when it returns. Raises InputError
    for a place that cannot be written."""
    temporary = None
    try:
        # In the same folder: only within one file system is a rename atomic.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_partial_prefix())
        with os.fdopen(handle, "wb") as file:
            write(file)
        # mkstemp lets the owner alone read; others are let in as for any new file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(
                f"cannot write {path} ({error.strerror}): choose another place",
                setting="out",
            ) from error
        raise


def remove_partial_files(folder: Path) -> None:
    """Remove the files in a folder that processes left half written when they were killed.

    A process of another machine may be at work still: its files stay for a day."""
    names = re.compile(rf"{re.escape(PARTIAL)}(\w+)-(\d+)-\w{{8}}", re.ASCII)
    for path in list(folder.rglob(f"{PARTIAL}*")):
        named = names.fullmatch(path.name)
        if named is None:
            continue
        machine, process = named.groups()
        # what cannot be looked at or removed stays, and does no harm
        with suppress(OSError):
            if machine == _machine():
                is_left = not psutil.pid_exists(int(process))
            else:
                is_left = time.time() - path.stat().st_mtime > A_DAY
            if is_left and path.is_file():
                path.unlink()


def _partial_prefix() -> str:
    return f"{PARTIAL}{_machine()}-{os.getpid()}-"


def _machine() -> str:
    return re.sub(r"\W", "_", socket.gethostname(), flags=re.ASCII)[:32]


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in UTF-8."""
    write_whole(path, lambda file: file.write(text.encode()))


def check_writable(folder: Path) -> None:
    """Raise InputError when a folder could not be made and written to; makes nothing."""
    try:
        existing = folder
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise unwritable(folder, error) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those around it. Raises InputError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> InputError:
    """The sentence for a folder that cannot be written."""
    return InputError(
        f"cannot write to {printable(folder)} ({error.strerror}): choose another folder",
        setting="out",
    )


def unreadable(path: Path, error: OSError) -> InputError:
    """The sentence for a file that cannot be read; nothing says that it is damaged."""
    return InputError(
        f"{printable(path)} cannot be read ({error.strerror or error}): check the permissions and"
        " the disk"
    )


def _umask() -> int:
    # The system tells the mask only to those who set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
