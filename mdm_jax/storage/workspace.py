"""The folder of a benchmark: what lies where, written whole or not at all, and what must agree when
it goes on.

- benchmark.json: the data, the seed and the targets; every map in the folder was made with these
- MODEL/model.json: a checksum of the weights and the preprocessing
- MODEL/METHOD/method.json: the settings of the method
- MODEL/METHOD/maps-00000.npz ...: maps and diagnostics, an image a row, in the order in which they
  were made
- MODEL/METHOD/scores/METRIC.npz: a metric's statistics, an image a row
- table.md, table.csv, *.png: what was made of these, anew each time

Rows are found by the image's id, so more images, methods or metrics only add to what is there. A
folder that is removed is computed again."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.storage.atomic import check_writable, write_whole
from mdm_jax.storage.differences import differences, flat
from mdm_jax.storage.stored_format import FORMAT, upgrade

Columns = dict[str, np.ndarray]
"""arrays that share their leading axis, an image a row; `ids` is one of them"""


@contextmanager
def opened(folder: Path, what: str = "benchmark") -> Iterator[Path]:
    """The folder, which is made, for this process alone; `what` names in the error what another
    does there.

    Raises InputError for a folder that cannot be written or in which another process is at work.
    """
    check_writable(folder)
    make(folder)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(
            f"another {what} is at work in {printable(folder)}: wait for it, or choose another"
            " folder with --out"
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from error
    with lock:
        yield folder


def begin(
    folder: Path,
    name: str,
    record: Mapping[str, Any],
    what: str,
    made: str = "maps-*.npz",
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Write down what a folder holds, or see that it is the same as before.

    `record` holds plain values, and `defaults` what a setting was before it existed, by dotted
    name. `what` names the contents in the sentence. Where nothing is `made` yet, nothing binds.
    Raises InputError with every difference."""
    path, record = folder / name, dict(flat(json.loads(json.dumps(record))))
    if path.exists() and not empty(folder, made):
        try:
            before = dict(json.loads(path.read_text()))
        except OSError as error:
            raise _unreadable(path, error) from error
        except (ValueError, TypeError):
            raise InputError(
                f"{printable(path)} is damaged: remove {printable(folder)} to compute it again"
            ) from None
        before.pop("format", None)
        if changed := differences(upgrade(before, record, defaults or {}), record):
            raise InputError(
                f"{printable(folder)} holds {what} made with other settings ({', '.join(changed)}):"
                " choose another folder with --out, remove that one, or go back to the old"
                " settings"
            )
        return
    make(folder)
    text = json.dumps({"format": FORMAT} | record, indent=2)
    write_whole(path, lambda file: file.write(text.encode()))


def empty(folder: Path, made: str = "maps-*.npz") -> bool:
    """Whether nothing was made there yet: by default no map."""
    return not any(folder.rglob(made))


def make(folder: Path) -> None:
    """Make a folder. Raises InputError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write to {printable(folder)} ({error.strerror}): choose another folder with --out"
    )


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{printable(path)} cannot be read ({error.strerror or error}): check the permissions and"
        " the disk"
    )


@dataclass(frozen=True)
class Shelf:
    """The maps and scores of one method on one network."""

    folder: Path

    def chunks(self) -> list[Path]:
        return sorted(self.folder.glob("maps-*.npz"))

    def add(self, columns: Columns) -> Path:
        """Write maps of images that have none yet."""
        last = max((int(path.stem.removeprefix("maps-")) for path in self.chunks()), default=-1)
        path = self.folder / f"maps-{last + 1:05d}.npz"
        write_arrays(path, columns)
        return path

    def columns(self, *names: str) -> Columns:
        """Some columns of all maps; those that a chunk lacks are left out."""
        parts = [read_arrays(path, names) for path in self.chunks()]
        common = [name for name in names if parts and all(name in part for part in parts)]
        return {name: np.concatenate([part[name] for part in parts]) for name in common}

    def scores(self, metric: str) -> Columns:
        """Statistics of the images that were measured: `ids`, `counted`, `statistics` and
        `protocol`; empty where none were."""
        path = self._scores(metric)
        return read_arrays(path) if path.exists() else {}

    def write_scores(self, metric: str, columns: Columns) -> None:
        path = self._scores(metric)
        make(path.parent)
        write_arrays(path, columns)

    def _scores(self, metric: str) -> Path:
        return self.folder / "scores" / f"{file_name(metric)}.npz"


def read_arrays(path: Path, names: tuple[str, ...] = ()) -> Columns:
    """The arrays of an .npz, or those of them that are named. Raises InputError for a damaged
    file."""
    try:
        with path.open("rb") as opened_file, np.load(opened_file, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if not names or name in names}
    except OSError as error:  # not removed, as nothing says that it is damaged
        raise _unreadable(path, error) from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{printable(path)} is damaged ({error}): remove it to compute it again"
        ) from error


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Arrays as an .npz, whole or not at all."""
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))


def file_name(text: str) -> str:
    """A text as the name of a file that every system takes; texts that would share one are told
    apart by a checksum."""
    text = text.replace(":", "--")
    plain = re.sub(r"[^\w.=,@+-]+", "-", text)[:80].strip("-.")
    return plain if plain == text else f"{plain}-{zlib.crc32(text.encode()):08x}"
