"""Text of users: the one reader of its files, names of files as ids, and what can be printed."""

from __future__ import annotations

import codecs
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Control characters, what turns the direction of text, and what stands for bytes that are no UTF-8.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
SURROGATES = re.compile("[\ud800-\udfff]")
MARKS_OF_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

# Tables and lists in each other: no file of ours has a tenth of it.
MOST_NESTED = 100


def read_text(path: str | Path) -> str:
    """The text of a file, its line ends as they are.

    Raises OSError for a file that cannot be read, and ValueError for one that is no text."""
    return decode_text(Path(path).read_bytes())


def decode_text(data: bytes) -> str:
    """UTF-8, or UTF-16 where its mark says so. Raises ValueError for what is neither."""
    is_utf16 = data.startswith(MARKS_OF_UTF16) and b"\0" in data
    return data.decode("utf-16" if is_utf16 else "utf-8-sig")


def parse_json(data: str | bytes) -> Any:
    """What JSON says. Raises ValueError for what is none, or is nested without end."""
    text = data if isinstance(data, str) else decode_text(data)
    return _parsed(lambda: json.loads(text))


def parse_toml(text: str) -> dict[str, Any]:
    """What TOML says. Raises ValueError as `parse_json` does."""
    return _parsed(lambda: tomllib.loads(text))


def _parsed(parse: Callable[[], Any]) -> Any:
    """What a parser gives, unless it is nested too deep for functions that call themselves."""
    nested = ValueError(f"it is nested more than {MOST_NESTED} deep")
    try:
        content = parse()
    except RecursionError:
        raise nested from None
    level = [content] if isinstance(content, dict | list) else []
    for _ in range(MOST_NESTED):
        above, level = level, []
        for each in above:
            inner = each.values() if isinstance(each, dict) else each
            level += [value for value in inner if isinstance(value, dict | list)]
        if not level:
            return content
    raise nested


def file_id(name: str) -> str:
    """A name as the id of an image: text that every format stores, another for every name.

    Bytes that are no UTF-8 are written as \\udc80 to \\udcff; in a name that has such bytes, or
    looks so, each backslash is doubled."""
    if not SURROGATES.search(name) and "\\udc" not in name:
        return name
    escaped = name.replace("\\", "\\\\")
    return SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", escaped)


def storable_id(id: str) -> str:
    """An id of whatever source: one that a format could not store as the id of a file."""
    return file_id(id) if SURROGATES.search(id) else id


def printable(text: str | Path) -> str:
    """A path or a name as one line of text that can be printed, whatever it holds.

    For people alone: two names may become one."""
    return UNPRINTABLE.sub("?", str(text))
