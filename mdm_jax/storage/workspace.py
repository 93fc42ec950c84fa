"""A folder that work fills, and that the same work goes on with after a stop.

Benchmarks, sweeps, prototype searches and trainings lie in one. Four rules make it resumable:
nothing of another's is overwritten (`claims`), one process at a time (`open_workspace`), the
settings are written first and compared from then on (`record_settings`), and every file is written
whole (`atomic`), so that what is there is finished.
Runs keep the same rules in `runs.store`, where processes share a folder or a bucket."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.storage import claims
from mdm_jax.storage.atomic import (
    make_folder,
    unreadable,
    unwritable,
    write_whole,
)
from mdm_jax.storage.differences import differences, flat
from mdm_jax.storage.map_store import MAP_FILES
from mdm_jax.storage.stored_format import FORMAT, upgrade
from mdm_jax.text_files import parse_json, read_text


@contextmanager
def open_workspace(folder: Path, kind: claims.Kind) -> Iterator[Path]:
    """The folder, which is made, for this process alone.

    Raises InputError for a folder that cannot be written, in which files would be lost, or in which
    another process is at work."""
    claims.claim(folder, kind)
    # The operating system's lock ends with its process, however that ends.
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(
            f"another {kind.name} is at work in {printable(folder)}: wait for it, or choose another"
            " folder",
            setting="out",
        ) from None
    except OSError as error:
        raise unwritable(folder, error) from error
    with lock:
        yield folder


def record_settings(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    content: str,
    made: str = MAP_FILES,
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Write the settings of a folder, or see that they are the same as before.

    `settings` are plain values (`part_names.describe`); `defaults` say, by dotted name, what a
    setting was before it existed. `content` names what the folder holds. Where no file of the
    pattern `made` is there yet, nothing binds. Raises InputError with every difference."""
    path = folder / name
    now = dict(flat(json.loads(json.dumps(settings))))
    if not path.exists() or is_empty(folder, made):
        make_folder(folder)
        write_settings(path, {"format": FORMAT} | now)
        return
    before = read_settings(path, f"remove {printable(folder)} to compute it again")
    if changed := changed_settings(before, now, defaults):
        raise InputError(
            f"{printable(folder)} holds {content} made with other settings ({', '.join(changed)}):"
            " choose another folder, remove that one, or go back to the old settings",
            setting="out",
        )


def changed_settings(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    free: Container[str] = (),
) -> list[str]:
    """What differs between stored settings, of whatever format, and those of now.

    Both by dotted name; those `free` to change are left out."""
    stored = {name: value for name, value in before.items() if name != "format"}
    return differences(upgrade(stored, now, defaults or {}), now, free)


def read_settings(path: Path, remedy: str) -> dict[str, Any]:
    """The settings in a file, as they were written.

    Raises InputError for a file that cannot be read, and with the remedy for a damaged one."""
    try:
        return dict(parse_json(read_text(path)))
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, TypeError):
        raise InputError(f"{printable(path)} is damaged: {remedy}") from None


def write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write settings as JSON, whole or not at all."""
    content = json.dumps(settings, indent=2).encode()
    write_whole(path, lambda file: file.write(content))


def is_empty(folder: Path, made: str = MAP_FILES) -> bool:
    """Whether no file of the pattern is in the folder, however deep."""
    return not any(folder.rglob(made))
