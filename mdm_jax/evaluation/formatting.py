"""Numbers, intervals and costs as short text, and what is written as Markdown and CSV.

Names of files, classes and networks, and reasons, are the user's or a stranger's: whatever stands
in them stays one cell or line, and no spreadsheet takes it for a formula."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from mdm_jax.evaluation.statistics import Interval
from mdm_jax.metrics import Metric
from mdm_jax.text_files import printable

# Which side of a metric is better.
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}

# How a text begins that spreadsheets compute.
FORMULAS = ("=", "+", "-", "@")

# The verdict on a method against the reference.
MARKS = {"better": "▲", "worse": "▼", "tied": "≈", "": ""}


def format_number(value: float) -> str:
    """A number in a few characters.

    Three decimals without the leading zero below 1, three significant digits above, one where it
    is tiny: .123, 12.3, 2e-05.
    """
    if math.isnan(value):
        return "NaN"
    if 0 < abs(value) < 0.001:
        return f"{value:.0e}"
    # most scores lie in [0, 1], where the zero only widens a table
    if abs(value) < 1:
        return f"{value:.3f}".replace("0.", ".", 1)
    return f"{value:.3g}"


def format_interval(interval: Interval) -> str:
    """An interval such as [.123, .456]; "" where it is not known."""
    if np.isnan(interval).all():
        return ""
    return f"[{format_number(interval.low)}, {format_number(interval.high)}]"


def format_estimate(value: float, interval: Interval) -> str:
    """A value with its interval, such as .234 [.123, .456]."""
    return f"{format_number(value)} {format_interval(interval)}".rstrip()


def format_spread(spread: float) -> str:
    """A spread over parts such as ± .012; "" where there is none."""
    return "" if math.isnan(spread) else f"± {format_number(spread)}"


def heading(metric: Metric) -> str:
    """The head of a metric's column: its id, and an arrow to the better side."""
    return f"{metric.id} {ARROWS[metric.better]}".rstrip()


def order_metrics(metrics: Mapping[str, Metric]) -> str:
    """The names of those that read a ranking, such as "insertion, deletion"; "" for none."""
    names = (metric.name for metric in metrics.values() if metric.reads == "ranking")
    return ", ".join(dict.fromkeys(names))


def markdown_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], left_columns: Sequence[str] = ()
) -> str:
    """Cells as a Markdown table with aligned columns; each stays one cell, whatever is in it.

    Columns are aligned right, those named in `left_columns` left.
    """
    return tabulate(
        [[_markdown_cell(cell) for cell in row] for row in rows],
        [_markdown_cell(head) for head in heads],
        tablefmt="pipe",
        colalign=["left" if head in left_columns else "right" for head in heads],
        disable_numparse=True,  # cells are text already: 1.50 must not become 1.5
    )


def _markdown_cell(cell: str) -> str:
    return printable(cell).replace("|", "\\|")


def markdown_list(lines: Iterable[str]) -> str:
    """Lines as a Markdown list, each one line."""
    return "\n".join(f"- {printable(line)}" for line in lines)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV; what they lack is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: csv_cell(value) for name, value in row.items()})
    return text.getvalue()


def csv_cell(value: Any) -> Any:
    """A value for CSV: a text in one line that a spreadsheet shows and does not compute."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    if not text.startswith(FORMULAS) or re.fullmatch(r"[+-]?[\d.]+", text):
        return text
    return f"'{text}"
