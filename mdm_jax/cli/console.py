"""Where results and progress go: tables for people, JSON for programs, progress bars."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from mdm_jax.cli.event_log import EventLog
from mdm_jax.cli.logged_progress import LoggedProgress
from mdm_jax.cli.options import Options
from mdm_jax.cli.output_config import plain_config, write_config
from mdm_jax.cli.progress_bar import ProgressBar
from mdm_jax.storage.atomic import write_text
from mdm_jax.text_files import printable

# Characters of a table that is wider than the terminal, or goes to a file: long lines are better
# than columns cut short.
MIN_WIDTH = 200

# In every JSON of a result.
RESULT_PARTS = ("rows", "summary", "files")


@dataclass(frozen=True)
class Result:
    """What a verb found: rows of plain values, a sentence, and the files written."""

    rows: list[dict[str, Any]]
    summary: str
    files: list[str]
    exit_code: int = 0
    notes: Sequence[str] = ()
    """what there is to say besides, a line each"""
    units: Mapping[str, str] = field(default_factory=dict)
    """of columns, for people: shown behind their names"""
    out: Path | None = None
    """the folder that the options are written into; None where they stand in it already"""

    @property
    def text(self) -> str:
        """The summary and the notes, as they are."""
        return "\n".join([*self._summary, *(f"  {note}" for note in self.notes)])

    @property
    def lines(self) -> list[str]:
        """The summary and the notes, for a terminal."""
        return [
            *map(printable, self._summary),
            *(f"  {printable(note)}" for note in self.notes),
        ]

    @property
    def _summary(self) -> list[str]:
        return self.summary.split("\n") if self.summary else []

    def plain(self, options: Options | None = None) -> dict[str, Any]:
        """As JSON has it."""
        content = {"rows": self.rows, "summary": self.text, "files": self.files}
        return content if options is None else content | {"config": plain_config(options)}

    def save(self, path: Path, options: Options) -> None:
        write_text(path, json.dumps(self.plain(options), indent=2))


@dataclass(frozen=True)
class Terminal:
    """Results on standard output, as tables or as JSON; progress on standard error."""

    as_json: bool
    log: EventLog = field(default_factory=EventLog)

    @property
    def progress(self) -> LoggedProgress:
        return self.watch(ProgressBar())

    def watch(self, bar: ProgressBar) -> LoggedProgress:
        """A bar whose news are written into the log too."""
        return LoggedProgress(bar, self.log)

    def show(self, result: Result, options: Options | None = None) -> None:
        """Print a result; with the options that gave it, they are in the JSON and its folder."""
        if options is not None and result.out is not None:
            write_config(options, result.out)
        if self.as_json:
            print(json.dumps(result.plain(options), indent=2))
            return
        console = Console()
        if result.rows:
            table = _table(result.rows, result.units)
            needed = Console(width=10_000).measure(table).maximum
            if not console.is_terminal or needed > console.width:
                console = Console(width=max(MIN_WIDTH, needed))
            console.print(table)
        # Names of files and classes are not to be read as markup.
        for line in result.lines:
            console.print(line, highlight=False, markup=False)
        for file in result.files:
            line = f"  {printable(file)}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(rows: list[dict[str, Any]], units: Mapping[str, str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(rows[0]):
        justify: JustifyMethod = "left" if i == 0 else "right"
        head = name.replace("_", " ")
        if name in units:
            head += f" ({units[name]})"
        table.add_column(Text(head), justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "n/a"
    return f"{value:.3f}" if isinstance(value, float) else printable(str(value))


def finite(value: float) -> float | None:
    """The number, or None where it is NaN or infinite, which JSON does not have."""
    return value if math.isfinite(value) else None
