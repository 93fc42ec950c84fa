"""Standard output and error that may be closed, full, or of a small alphabet; one line of text."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mdm_jax.text_files import printable


class Unwritable(Exception):
    """Standard output takes nothing any more; the cause is the system's error."""


class _Stream:
    """A stream whose failures are no OSError, which may come from anywhere."""

    def __init__(self, stream: Any, *, is_needed: bool) -> None:
        self._stream, self._is_needed = stream, is_needed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._failing():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._failing():
            self._stream.flush()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._is_needed:
                raise Unwritable from error


@contextmanager
def guarded() -> Iterator[None]:
    """Within it, whatever becomes of the streams: what is not in their alphabet is written as
    numbers, standard error may fail in silence, and `Unwritable` says that standard output did."""
    _occupy_closed()
    before = sys.stdout, sys.stderr
    sys.stdout = _guard(sys.stdout, is_needed=True)
    sys.stderr = _guard(sys.stderr, is_needed=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def say(sentence: str) -> None:
    """A sentence of the program on standard error, as one line."""
    print(f"mdm: {printable(sentence)}", file=sys.stderr)


def silence(stream: Any) -> None:
    """Whatever is in a stream's buffer goes nowhere: Python writes it at its end."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _occupy_closed() -> None:
    """Open what is closed of the first three descriptors.

    A file of results would get its number, and whatever a library prints."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def _guard(stream: Any, *, is_needed: bool) -> Any:
    # Python has None for a stream that was closed when it started.
    if stream is None:
        return io.StringIO()
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return _Stream(stream, is_needed=is_needed)
