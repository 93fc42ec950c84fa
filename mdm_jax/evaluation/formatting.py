"""Numbers, intervals and costs as short text, and Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from tabulate import tabulate

from mdm_jax.evaluation.statistics import Interval
from mdm_jax.metrics import Metric

# Which side of a metric is better.
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}

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
    """Cells as a Markdown table with aligned columns; a bar in a cell is escaped.

    Columns are aligned right, those named in `left_columns` left.
    """
    return tabulate(
        [[_escape_bars(cell) for cell in row] for row in rows],
        [_escape_bars(head) for head in heads],
        tablefmt="pipe",
        colalign=["left" if head in left_columns else "right" for head in heads],
        disable_numparse=True,  # cells are text already: 1.50 must not become 1.5
    )


def _escape_bars(cell: str) -> str:
    return cell.replace("|", "\\|")
