"""Where results and progress go: tables for people, JSON for programs, progress bars."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mdm_jax.cli import explain
from mdm_jax.cli.progress_bar import ProgressBar


@dataclass(frozen=True)
class Report:
    """Where results and progress go: tables for people on standard output, or JSON; progress on
    standard error."""

    as_json: bool

    @property
    def progress(self) -> ProgressBar:
        return ProgressBar()

    def show(self, result: explain.Result) -> None:
        if self.as_json:
            print(json.dumps(dataclasses.asdict(result), indent=2))
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        for i, name in enumerate(result.rows[0] if result.rows else ()):
            table.add_column(
                name.replace("_", " "), justify="left" if i == 0 else "right", no_wrap=True
            )
        for row in result.rows:
            table.add_row(*(Text(_cell(value)) for value in row.values()))
        console = Console()
        needed = Console(width=10_000).measure(table).maximum
        if (
            not console.is_terminal or needed > console.width
        ):  # long lines are better than columns cut short
            console = Console(width=max(200, needed))
        if result.rows:
            console.print(table)
        console.print(result.summary, highlight=False, markup=False)
        for file in result.files:
            console.print(f"  {file}", highlight=False, markup=False, soft_wrap=True)


def _cell(value: Any) -> str:
    return "n/a" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
