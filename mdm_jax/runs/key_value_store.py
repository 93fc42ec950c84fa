"""A folder or bucket of files, through TensorStore: what its failures are called, and how a place
is written.

Every failure of a place is an InputError of one sentence; TensorStore's own are long and name its
source files."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tensorstore as ts

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.runs import arrays


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
        with self.reading():
            result = self.kv.read(key).result()
        return result.value if result.state == "value" else None

    def keys(self, prefix: str = "") -> list[str]:
        """The keys that begin so, but for the half files of a writer that is at work or was
        killed."""
        with self.reading():
            found = self.kv.list(_range(prefix)).result() if prefix else self.kv.list().result()
        names = (key.decode(errors="backslashreplace") for key in found)
        return sorted(name for name in names if not is_half(name))

    def size(self) -> int | None:
        """Bytes of all files; None for a bucket, which would have to be read for it."""
        if self.folder is None:
            return None
        total = 0
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # removed in between
                total += path.lstat().st_size if path.is_file() else 0
        return total

    def put(self, key: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        with self.writing():
            if (
                self.folder is not None
            ):  # TensorStore writes over what a killed writer left, but does not cut it to length
                (self.folder / f"{key}.__lock").unlink(missing_ok=True)
            self.kv.write(key, content).result()

    def ensure(self, key: str, content: bytes) -> None:
        """See that a file has this content; one that has is not written again."""
        if self.read(key) != content:
            self.put(key, content)

    def delete(self, key: str) -> None:
        """Remove a file, if it is there."""
        with self.writing():
            self.kv.write(key, None).result()

    def delete_all(self, prefix: str) -> None:
        """Remove every file whose key begins so."""
        with self.writing():
            self.kv.delete_range(_range(prefix)).result()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside, failures are those of writing."""
        try:
            yield
        except InputError:
            raise
        except FAILURES as error:
            remedy = REMEDIES.get(
                error_number(error) or 0, "see that the place is there and in order"
            )
            raise InputError(
                f"cannot write to {self.name} ({_reason(error)}): nothing committed is lost;"
                f" {remedy}, then the same command goes on"
            ) from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, failures are those of reading."""
        try:
            yield
        except FAILURES as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> InputError:
        """The sentence for a failure of the place."""
        return InputError(
            f"{self.name} cannot be read ({_reason(error)}): check the permissions and the disk"
        )


def located(place: str | Path) -> tuple[str, dict[str, Any], Path | None]:
    """Name, spec and folder of the place in a local folder, or at gs://, s3://, memory:// or
    file://; touches nothing.

    Raises InputError for another kind of URL and for a place that cannot be a folder.
    """
    name = printable(place)
    if not name.strip():
        raise InputError("the place of the run has no name: give a folder")
    try:
        spec = _spec(str(place), name)
        folder = Path(spec["path"]) if spec["driver"] == "file" else None
        if folder is not None and os.path.exists(folder) and not os.path.isdir(folder):
            raise InputError(f"{name} is a file: give a folder for the run")
    except UnicodeEncodeError:
        raise InputError(
            f"{name} has a name that is no UTF-8 text: choose another folder"
        ) from None
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name} cannot hold a run ({_reason(error)}): choose another place"
        ) from error
    path = spec.get("path", "")
    return (
        name.rstrip("/") or name,
        spec | {"path": path if not path or path.endswith("/") else f"{path}/"},
        folder,
    )


def _spec(place: str, name: str) -> dict[str, Any]:
    """Of TensorStore's key-value store at a place."""
    if url := re.fullmatch(
        r"(gs|s3|memory|file):/+(.*)", place
    ):  # a Path has made one slash of two
        kind, rest = url.groups()
        return ts.KvStore.Spec(f"{kind}://{'/' if kind == 'file' else ''}{rest}").to_json()
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", place):
        raise InputError(
            f"{name} is no place for a run: give a folder, or a URL with gs://, s3://, file:// or"
            " memory://"
        )
    place.encode()
    return {"driver": "file", "path": str(Path(place).resolve())}


FAILURES = (
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)  # TensorStore raises the last three for a place's failures
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
    return (
        os.strerror(number)
        if number
        else printable(re.split(r" \[\w+=|\n", str(error))[0] or type(error).__name__)
    )


def _range(prefix: str) -> ts.KvStore.KeyRange:
    return ts.KvStore.KeyRange(prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))


HALF = re.compile(
    r"((run|(.+/)?zarr)\.json|(mask_vectors|saliency)/.+|records/\.?\d{5,}\.parquet)\.__lock|records/\.\d{5,}\.parquet"
)
"""files of TensorStore while it writes, and records before they are renamed"""


def is_half(key: str) -> bool:
    """Whether a file is one that a writer has not finished."""
    return HALF.fullmatch(key) is not None
