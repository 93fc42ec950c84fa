"""A folder or bucket of files, through TensorStore, and how its place is written.

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

# What TensorStore raises where a place fails.
FAILURES = (OSError, ValueError, RuntimeError, NotImplementedError)

# By the operating system's number.
REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
}


# Files of TensorStore while it writes.
ARRAYS = "(mask_vectors|saliency|evidence)/.+"
LOCKED = (
    rf"((run|zarr)\.json|run\.json\.copy|{ARRAYS}|records/\.?\d{{5,}}\.parquet)\.__lock"
)

# Records before they are renamed.
UNNAMED = r"records/\.\d{5,}\.parquet"
PARTIAL = re.compile(f"{LOCKED}|{UNNAMED}")


@dataclass
class KeyValueFolder:
    """A folder or bucket of files. Every failure of it is an InputError of one sentence."""

    name: str
    """the place as a person wrote it"""
    spec: Mapping[str, Any]
    """of TensorStore's key-value store"""
    folder: Path | None
    """None for a bucket, where there are neither locks nor a log"""

    @cached_property
    def kv(self) -> ts.KvStore:
        """TensorStore's own object, opened when it is first asked for."""
        return ts.KvStore.open(dict(self.spec), context=arrays.context()).result()

    def read(self, key: str) -> bytes | None:
        """A file's content, None where there is none."""
        with self.reading():
            result = self.kv.read(key).result()
        return result.value if result.state == "value" else None

    def keys(self, prefix: str = "") -> list[str]:
        """The keys that begin so, without the partial files of a writer."""
        with self.reading():
            wanted = self.kv.list(_range(prefix)) if prefix else self.kv.list()
            found = wanted.result()
        names = (key.decode(errors="backslashreplace") for key in found)
        return sorted(name for name in names if not is_partial(name))

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
            # TensorStore writes over what a killed writer left, but does not cut it to length.
            if self.folder is not None:
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

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside, a failure is one of writing."""
        try:
            yield
        except InputError:
            raise
        except FAILURES as error:
            number = error_number(error) or 0
            remedy = REMEDIES.get(number, "see that the place is there and in order")
            raise InputError(
                f"cannot write to {self.name} ({_reason(error)}): nothing committed is lost;"
                f" {remedy}, then the same command goes on"
            ) from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, a failure is one of reading."""
        try:
            yield
        except FAILURES as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> InputError:
        """The sentence for a failure of the place."""
        return InputError(
            f"{self.name} cannot be read ({_reason(error)}): check the permissions and the disk"
        )


def parse_location(place: str | Path) -> tuple[str, dict[str, Any], Path | None]:
    """Name, spec and folder of a local folder, or a URL with gs://, s3://, memory:// or file://.

    Touches nothing. Raises InputError for another kind of URL and for a place that cannot be a
    folder."""
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
    if path and not path.endswith("/"):
        path += "/"
    return name.rstrip("/") or name, spec | {"path": path}, folder


def _spec(place: str, name: str) -> dict[str, Any]:
    """Of TensorStore's key-value store at a place."""
    # One slash is enough: a Path has made one of two.
    if url := re.fullmatch(r"(gs|s3|memory|file):/+(.*)", place):
        kind, rest = url.groups()
        return ts.KvStore.Spec(f"{kind}://{'/' if kind == 'file' else ''}{rest}").to_json()
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", place):
        raise InputError(
            f"{name} is no place for a run: give a folder, or a URL with gs://, s3://, file:// or"
            " memory://"
        )
    place.encode()  # raises for a name that no JSON can hold
    return {"driver": "file", "path": str(Path(place).resolve())}


def error_number(error: Exception) -> int | None:
    """The operating system's number of an error; TensorStore has it in the text."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return int(found[1]) if found else None


def _reason(error: Exception) -> str:
    if number := error_number(error):
        return os.strerror(number)
    # TensorStore goes on with brackets and lines about its own source.
    text = re.split(r" \[\w+=|\n", str(error))[0]
    return printable(text or type(error).__name__)


def _range(prefix: str) -> ts.KvStore.KeyRange:
    """The keys that begin so: up to the next text of that length."""
    return ts.KvStore.KeyRange(prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))


def is_partial(key: str) -> bool:
    """Whether a file is one that a writer has not finished."""
    return PARTIAL.fullmatch(key) is not None
