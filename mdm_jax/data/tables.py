"""Tables of comma-separated text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from mdm_jax import images
from mdm_jax.errors import InputError
from mdm_jax.text_files import read_text


def rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table with their line numbers.

    Raises InputError when a column is missing or it is no text."""
    try:
        table = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="")
        missing = [name for name in columns if name not in (table.fieldnames or ())]
        if missing:
            raise InputError(
                f"{images.printable(path)} lacks the column {missing[0]}: its first line must"
                f" hold {','.join(columns)}"
            )
        for row in table:
            yield table.line_num, row
    except InputError:
        raise
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{images.printable(path)} is not a table of comma-separated UTF-8 text ({error})"
        ) from error


def posix(file: str) -> str:
    """A file as a table names it, with / between its parts."""
    return file.strip().replace("\\", "/").removeprefix("./")
