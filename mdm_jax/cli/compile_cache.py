"""Compiled programs are kept from one call of `mdm` to the next, in the user's cache folder.

JAX keeps them; this says where, and how much. Another folder is set as everywhere in JAX, by
JAX_COMPILATION_CACHE_DIR; MDM_JAX_COMPILE_CACHE=off keeps nothing."""

from __future__ import annotations

import os
import platform
import time
import zlib
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

from mdm_jax.text_files import printable

SWITCH = "MDM_JAX_COMPILE_CACHE"
FOLDER = "JAX_COMPILATION_CACHE_DIR"
SIZE = "JAX_COMPILATION_CACHE_MAX_SIZE"
LEAST_SECONDS = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"

# Bytes; what was not used for longest goes first. A program takes 0.1 to 5 MB.
MOST = 2 * 1024**3

# Programs that compile faster are not kept. JAX keeps what takes a second or more, which leaves out
# most programs of one photograph.
SECONDS = "0"

# JAX writes an entry, then the time of its last use beside it.
ENTRY, LAST_USE = "-cache", "-atime"

# After which an entry without that time is not being written any more.
WRITING_SECONDS = 60.0

# What JAX warns of an entry that it cannot unpack.
UNREADABLE = "Error reading persistent compilation cache entry"


def enable(environment: MutableMapping[str, str]) -> str:
    """Set where JAX keeps programs, before it is imported; a sentence when the folder is new.

    Nothing is changed where the user has set a folder, or has switched it off, or where the folder
    cannot be written."""
    if environment.get(SWITCH) == "off" or FOLDER in environment:
        return ""
    folder = user_cache_path("mdm_jax") / "compiled" / _machine()
    is_new = not folder.exists()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return ""
    if not os.access(folder, os.W_OK):
        return ""
    _remove_half_written(folder)
    environment[FOLDER] = str(folder)
    environment.setdefault(SIZE, str(MOST))
    environment.setdefault(LEAST_SECONDS, SECONDS)
    if not is_new:
        return ""
    return (
        f"compiled programs are kept in {printable(folder)}, at most {MOST // 1024**3} GB, so the"
        f" next call starts faster; {SWITCH}=off keeps none"
    )


def in_plain_words(warning: str) -> str:
    """A warning of JAX about its cache as a sentence with the remedy; any other as it is."""
    if not warning.startswith(UNREADABLE):
        return warning
    return (
        "a compiled program that was kept is damaged, so it is compiled again every time: remove"
        f" the folder {os.environ.get(FOLDER)}"
    )


def _remove_half_written(folder: Path) -> None:
    """Remove entries of processes that were killed while they wrote them.

    JAX would neither read nor replace them, and could write no other entry beside them."""
    for entry in folder.glob(f"*{ENTRY}"):
        last_use = entry.with_name(entry.name.removesuffix(ENTRY) + LAST_USE)
        with suppress(OSError):
            is_old = time.time() - entry.stat().st_mtime > WRITING_SECONDS
            if is_old and not last_use.exists():
                entry.unlink()


def _machine() -> str:
    """A name for processors of one kind: a home folder may be shared by several, and a program
    compiled for one may not run on another."""
    kind = platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
        features = [line for line in lines if line.startswith((b"flags", b"Features"))]
        if features:
            kind += f"-{zlib.crc32(features[0]):08x}"
    return kind or "any"
