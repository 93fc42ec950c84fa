"""The one reader of text files: UTF-8, with the mark that editors and spreadsheets begin it with or
without."""

from __future__ import annotations

import codecs
from pathlib import Path

MARKS_OF_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: str | Path) -> str:
    """The text of a file, its line ends as they are.

    Raises OSError for a file that cannot be read, and ValueError for one that is no text."""
    return decode_text(Path(path).read_bytes())


def decode_text(data: bytes) -> str:
    """UTF-8, or UTF-16 where its mark says so. Raises ValueError for what is neither."""
    is_utf16 = data.startswith(MARKS_OF_UTF16) and b"\0" in data
    return data.decode("utf-16" if is_utf16 else "utf-8-sig")
