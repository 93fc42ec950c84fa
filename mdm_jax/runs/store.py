"""The folder or bucket of a run: what lies where, what commits a chunk, what must agree when it goes on, who may write.

- run.json: what the run is; `format`, `layout` and `settings` must agree when it goes on
- zarr.json, mask_vectors/HxW, saliency: Zarr arrays, in chunks that are those of the run (`arrays`)
- records/NNNNN.parquet: one for every chunk (`records`), and its commit marker: written aside after the chunk's arrays are
  complete, then renamed. A chunk without it does not count and is computed again
- log-I-of-N.txt: what happened, for people; locks/: who is at work. Local folders only

A record carries a fingerprint of what must agree, so that a run.json that was lost is written anew by the same command.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import pyarrow as pa
import tensorstore as ts

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.runs import arrays, records
from mdm_jax.runs.arrays import Spec
from mdm_jax.runs.layout import Layout

FORMAT = 1
"""of what is described above; it grows when older versions could not read the result"""
DESCRIPTION = "run.json"
BINDING = ("format", "layout", "settings")
"""the parts of run.json that must agree when a run goes on"""
PLACES = ("records/", f"{arrays.MASKS}/", f"{arrays.SALIENCY}/")
RECORD = re.compile(r"records/(\d{5,})\.parquet")
AHEAD = 32
"""record files that are read at once"""

Share = tuple[int, int]
"""(index, count): which of how many processes that share a run"""


@dataclass(frozen=True)
class Place:
    """A folder or bucket of files. Every failure of it is an InputError of one sentence."""

    name: str
    """the place as a person wrote it"""
    spec: Mapping[str, Any]
    """of TensorStore's key-value store"""
    folder: Path | None
    """None for a bucket, where there are neither locks nor a log"""

    @cached_property
    def kv(self) -> ts.KvStore:
        return ts.KvStore.open(dict(self.spec), context=arrays.context()).result()

    def read(self, key: str) -> bytes | None:
        """A file's content, None where there is none."""
        with self._reading():
            result = self.kv.read(key).result()
        return result.value if result.state == "value" else None

    def keys(self, prefix: str = "") -> list[str]:
        """The keys that begin so, but for the half files of a writer that is at work or was killed."""
        with self._reading():
            found = self.kv.list(_range(prefix)).result() if prefix else self.kv.list().result()
        names = (key.decode(errors="backslashreplace") for key in found)
        return sorted(name for name in names if not _half(name))

    def size(self) -> int | None:
        """Bytes of all files; None for a bucket, which would have to be read for it."""
        if self.folder is None:
            return None
        total = 0
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # removed in between
                total += path.lstat().st_size if path.is_file() else 0
        return total

    def _put(self, key: str, content: bytes) -> None:
        """Write a file whole."""
        with self._writing():
            if self.folder is not None:  # TensorStore writes over what a killed writer left, but does not cut it to length
                (self.folder / f"{key}.__lock").unlink(missing_ok=True)
            self.kv.write(key, content).result()

    def _ensure(self, key: str, content: bytes) -> None:
        if self.read(key) != content:
            self._put(key, content)

    def delete(self, key: str) -> None:
        """Remove a file, if it is there."""
        with self._writing():
            self.kv.write(key, None).result()

    def _delete_all(self, prefix: str) -> None:
        with self._writing():
            self.kv.delete_range(_range(prefix)).result()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except FAILURES as error:
            remedy = REMEDIES.get(error_number(error) or 0, "see that the place is there and in order")
            raise InputError(
                f"cannot write to {self.name} ({_reason(error)}): nothing committed is lost; {remedy}, then the same command "
                "goes on"
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> InputError:
        """The sentence for a failure of the place."""
        return InputError(f"{self.name} cannot be read ({_reason(error)}): check the permissions and the disk")


FAILURES = (OSError, ValueError, RuntimeError, NotImplementedError)  # TensorStore raises the last three for a place's failures
REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
}


def error_number(error: Exception) -> int | None:
    """The operating system's number of an error; TensorStore has it in the text."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return int(found[1]) if found else None


def _reason(error: Exception) -> str:
    number = error_number(error)
    return os.strerror(number) if number else printable(re.split(r" \[\w+=|\n", str(error))[0] or type(error).__name__)


def _range(prefix: str) -> ts.KvStore.KeyRange:
    return ts.KvStore.KeyRange(prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))


def _half(key: str) -> bool:
    """Whether a file is one that a writer has not finished."""
    return key.endswith(".__lock") or key.startswith("records/.")


class ChunkData(NamedTuple):
    """What is written of a chunk; every array has the table's rows."""

    chunk: int
    table: pa.Table
    arrays: Mapping[str, np.ndarray]
    """by name, as in `Spec`: "mask_vectors/8x8", "saliency" """


def open_store(place: str | Path) -> Store:
    """The store in a local folder, or at gs://, s3://, memory:// or file://; touches nothing.

    Raises InputError for another kind of URL and for a place that cannot be a folder.
    """
    name = printable(place)
    url = re.fullmatch(r"(gs|s3|memory|file):/+(.*)", str(place))  # a Path has made one slash of two
    try:
        if url:
            kind, rest = url.groups()
            spec = ts.KvStore.Spec(f"{kind}://{'/' if kind == 'file' else ''}{rest}").to_json()
        elif re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(place)):
            raise InputError(f"{name} is no place for a run: give a folder, or a URL with gs://, s3://, file:// or memory://")
        else:
            str(place).encode()
            spec = {"driver": "file", "path": str(Path(place).resolve())}
        folder = Path(spec["path"]) if spec["driver"] == "file" else None
        if folder is not None and os.path.exists(folder) and not os.path.isdir(folder):
            raise InputError(f"{name} is a file: give a folder for the run")
    except UnicodeEncodeError:
        raise InputError(f"{name} has a name that is no UTF-8 text: choose another folder") from None
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot hold a run ({_reason(error)}): choose another place") from error
    path = spec.get("path", "")
    return Store(name.rstrip("/"), spec | {"path": path if not path or path.endswith("/") else f"{path}/"}, folder)


def fingerprint(description: Mapping[str, Any]) -> str:
    """A checksum of the parts of a description that must agree."""
    parts = json.dumps({part: description.get(part) for part in BINDING}, sort_keys=True)
    return f"{zlib.crc32(parts.encode()):08x}"


def record_key(chunk: int) -> str:
    return f"records/{chunk:05d}.parquet"


@dataclass(frozen=True)
class Store(Place):
    """A run's folder or bucket."""

    @cached_property
    def _writer(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="store")

    # What a run is

    def read_description(self) -> dict[str, Any] | None:
        """What run.json says, None where there is none. Raises InputError for a damaged one."""
        data = self.read(DESCRIPTION)
        if data is None:
            return None
        try:
            description = json.loads(data)
            Layout(**description["layout"])
            if not (isinstance(description["format"], int) and isinstance(description["settings"], dict)):
                raise ValueError("no run.json of a run")
        except (ValueError, TypeError, KeyError):
            raise InputError(f"{self.name}/{DESCRIPTION} is damaged: the same command again writes it anew") from None
        return description

    def begin(self, description: Mapping[str, Any]) -> None:
        """Write run.json, or see that it agrees; where no chunk is committed, nothing binds and another run's arrays go.

        Raises InputError with every difference.
        """
        description = _plain(description)
        with self._alone():
            found = self._understood()
            same = found is not None and fingerprint(found) == fingerprint(description)
            goes_on = self.agrees(description)
            if found is not None and not same and not goes_on:
                for place in PLACES:
                    self._delete_all(place)
            if not (same and goes_on):
                self._ensure(DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())

    def agrees(self, description: Mapping[str, Any]) -> bool:
        """Whether chunks are committed, and made with this description; False where none is. Writes nothing.

        Raises InputError with every difference.
        """
        first, description = next(self._footers(), None), _plain(description)
        if first is None or first.run == fingerprint(description):
            return first is not None
        found = self._understood()
        before, now = (dict(_flat({part: (each or {}).get(part) for part in BINDING})) for each in (found, description))
        changed = [
            f"{key} {_short(before.get(key))} -> {_short(now.get(key))}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if found is None:
            changed = [f"its {DESCRIPTION} is gone or damaged"]
        elif not changed:
            raise InputError(f"{self.name} holds records of another run: `mdm run verify {self.name}` takes them back")
        raise InputError(
            f"{self.name} holds a run made with other settings ({', '.join(changed)}): choose another folder with --out, "
            "remove that one, or go back to the old settings"
        )

    def _understood(self) -> dict[str, Any] | None:
        with suppress(InputError):
            return self.read_description()
        return None

    def create(self, specs: Mapping[str, Spec], layout: Layout) -> None:
        """The arrays, as far as they are not there as they should be; several processes may do it at once."""
        with self._alone():
            for key, content in arrays.metadata(specs, layout).items():
                self._ensure(key, content)

    def specs(self) -> dict[str, Spec]:
        """The arrays of the run, in order. Raises InputError where the metadata are gone or damaged."""
        data = self.read("zarr.json")
        try:
            return arrays.listed(data or b"")
        except (ValueError, TypeError, KeyError):
            raise InputError(self._metadata_lost("zarr.json")) from None

    def array(self, name: str) -> ts.TensorStore:
        """An array, lazily read. Raises InputError where its metadata are gone or damaged."""
        try:
            return arrays.open_array(self.kv, name)
        except FAILURES as error:
            if re.match("NOT_FOUND|DATA_LOSS|FAILED_PRECONDITION|INVALID_ARGUMENT", str(error)) and not error_number(error):
                raise InputError(self._metadata_lost(f"{name}/zarr.json")) from error
            raise self.unreadable(error) from error

    def _metadata_lost(self, key: str) -> str:
        return f"{self.name}/{key} is gone or damaged: nothing committed is lost, and the same command again puts it back"

    # Chunks

    def committed(self) -> set[int]:
        """The chunks whose record file is in place and readable."""
        return {footer.chunk for footer in self._footers()}

    def write(self, data: ChunkData) -> Future[None]:
        """Write a chunk in a thread: its arrays, and when they are complete its record, which commits it.

        Its `result()` raises InputError; nothing that was committed is lost then.
        """
        return self._writer.submit(self._write, data)

    def _write(self, data: ChunkData) -> None:
        rows = range(data.table["row"][0].as_py(), data.table["row"][-1].as_py() + 1)
        description = self.read_description()
        if description is None:
            raise InputError(f"{self.name}/{DESCRIPTION} was removed while the run was at work: start the same command again")
        opened = {name: self.array(name) for name in data.arrays}
        stored = {name: arrays.canonical(values, opened[name].dtype.numpy_dtype) for name, values in data.arrays.items()}
        for name, values in stored.items():
            if values.shape != (len(rows), *opened[name].shape[1:]):
                raise ValueError(f"{name} is {values.shape}, not {(len(rows), *opened[name].shape[1:])}")
        for key in [
            record_key(data.chunk),
            *(arrays.chunk_key(name, array.ndim, data.chunk) for name, array in opened.items()),
        ]:
            self.delete(key)  # whatever is there, damaged or half written, must not become part of what is written now
        with self._writing():
            pending = [opened[name][rows.start : rows.stop].write(values).commit for name, values in stored.items()]
            failed = [error for error in [each.exception() for each in pending] if error]  # all have ended when one is raised
            if failed:
                raise failed[0]
        checksums = {name: arrays.checksum(values) for name, values in stored.items()}
        self._commit(data.chunk, records.encode(data.table, data.chunk, rows, checksums, fingerprint(description)))

    def _commit(self, chunk: int, content: bytes) -> None:
        if self.folder is None:
            self._put(record_key(chunk), content)
            return
        aside = f"records/.{chunk:05d}.parquet"  # readers of a folder of parquet files pass over names with a dot
        self._put(aside, content)
        with self._writing():
            os.replace(self.folder / aside, self.folder / record_key(chunk))

    def remove(self, chunk: int) -> None:
        """Take a chunk back: first its record, then its part of the arrays."""
        self.delete(record_key(chunk))
        part = re.compile(rf"(?:{arrays.MASKS}/[^/]+|{arrays.SALIENCY})/c/{chunk}/.*")
        for key in (key for place in PLACES[1:] for key in self.keys(place)):
            if part.fullmatch(key):
                self.delete(key)

    def _footers(self) -> Iterator[records.Meta]:
        """What the readable record files, each under its own number, say about themselves."""
        for key, data in self.read_records():
            with suppress(InputError):
                footer = records.footer(data)
                if record_key(footer.chunk) == key:
                    yield footer

    def read_records(self) -> Iterator[tuple[str, bytes]]:
        """The record files, in the order of their chunks, by key."""
        keys = sorted(filter(RECORD.fullmatch, self.keys("records/")), key=lambda key: (len(key), key))
        for start in range(0, len(keys), AHEAD):
            some = keys[start : start + AHEAD]
            for key, pending in [(key, self.kv.read(key)) for key in some]:
                with self._reading():
                    result = pending.result()
                if result.state == "value":
                    yield key, result.value

    # Who is at work

    @contextmanager
    def locked(self, share: Share) -> Iterator[None]:
        """This share of the run for this process alone; on a bucket, which has no locks, nothing.

        The locks are the operating system's: they end with their process, however it ends, and know no clock. Raises
        InputError where another process has the share, or where a run of another number of processes is at work.
        """
        with ExitStack() as stack:
            if self.folder is not None:
                with self._alone(), self._writing():
                    if any(held == share or held[1] != share[1] for held in self._held()):
                        raise InputError(
                            f"another run is at work in {self.name}: wait for it, or choose another folder with --out"
                        )
                    stack.enter_context(filelock.FileLock(self._lock(f"share-{share[0]}-of-{share[1]}")).acquire(timeout=0))
            yield

    def running(self) -> list[Share]:
        """The shares at which a process is at work; none for a bucket, or a folder in which this process may not write."""
        if self.folder is None or not (self.folder / "locks").is_dir():
            return []
        with suppress(InputError), self._alone(), self._writing():
            return self._held()
        return []

    def tidy(self) -> None:
        """Remove what a killed writer left half written, unless other shares are at work: it may be theirs.

        Call it under the lock. What it leaves does no harm: readers pass over it, and who writes there removes it.
        """
        if self.folder is None:
            return
        with self._alone(), self._writing():
            if len(self._held()) <= 1:
                for path in [path for path in self.folder.rglob("*") if _half(str(path.relative_to(self.folder)))]:
                    path.unlink(missing_ok=True)

    def _held(self) -> list[Share]:
        """The shares whose lock is taken; asks by trying, so only one process at a time may (`_alone`)."""
        held = []
        for path in sorted((self.folder or Path()).glob("locks/share-*-of-*")):
            index, count = map(int, re.findall(r"\d+", path.name))
            try:
                filelock.FileLock(path).acquire(timeout=0).lock.release()
            except filelock.Timeout:
                held.append((index, count))
        return held

    def _lock(self, name: str) -> Path:
        return (self.folder or Path()) / "locks" / name

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """For what two processes must not do at once; brief."""
        with ExitStack() as stack:
            if self.folder is not None:
                with self._writing():
                    (self.folder / "locks").mkdir(parents=True, exist_ok=True)
                    stack.enter_context(filelock.FileLock(self._lock("begin")).acquire(timeout=60))
            yield

    def log(self, share: Share) -> Callable[[str], None]:
        """Appends lines, with the time, to the share's log; what cannot be logged is left out."""
        folder, name = self.folder, f"log-{share[0]}-of-{share[1]}.txt"

        def write(line: str) -> None:
            if folder is not None:
                with suppress(OSError), (folder / name).open("a", encoding="utf-8") as file:
                    file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(line)}\n")

        return write


def _plain(description: Mapping[str, Any]) -> dict[str, Any]:
    """A description as it is read back."""
    return json.loads(json.dumps(description, default=str))


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by dotted name."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
