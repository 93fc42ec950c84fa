"""The win matrix as Markdown, as CSV, and as plain records that can be read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mdm_jax.evaluation.formatting import (
    csv_text,
    format_interval,
    format_number,
    markdown_list,
    markdown_table,
)
from mdm_jax.evaluation.statistics import Interval
from mdm_jax.evaluation.win_matrix import MIN_IMAGES, VERDICTS, WinCell, WinMatrix
from mdm_jax.text_files import printable

ALL_RIVALS = "all"

# Of the CSV, and of the values of a results file.
COLUMNS = (
    "reference",
    "rivals",
    "data",
    "network",
    "metric",
    "outcome",
    "rival",
    "value",
    "low",
    "high",
    "images",
    "compared",
)


def markdown(matrix: WinMatrix) -> str:
    """A table with a row for each network and data, and the counts; what is lost is bold."""
    several = len({data for data, _ in matrix.rows}) > 1 or any(
        data for data, _ in matrix.rows
    )
    heads = [*(["data"] if several else []), "network", *matrix.metrics]
    lines = []
    for row in matrix.rows:
        cells = [_markdown_cell(matrix.find(row, metric)) for metric in matrix.metrics]
        lines.append([*(row if several else row[1:]), *cells])
    counts = [_count_text(matrix.count(metric)) for metric in matrix.metrics]
    lines.append([*([""] if several else []), "first / tied / lost", *counts])
    left = ("data", "network")
    parts = [markdown_table(heads, lines, left_columns=left), describe_counts(matrix)]
    for why, names in (
        ("left out for their cost", matrix.left_out),
        (f"left out with fewer than {MIN_IMAGES} images", matrix.too_few),
    ):
        if names:
            parts.append(_describe_left_out(why, names))
    return "\n\n".join(parts) + "\n"


def document(matrices: Iterable[WinMatrix]) -> str:
    """What `win_matrix.md` holds: each matrix under its heading, and what the verdicts mean."""
    parts = []
    for matrix in matrices:
        parts.append(f"## {printable(title(matrix))}\n\n{markdown(matrix)}".rstrip())
    parts.append(EXPLANATION)
    return "\n\n".join(parts) + "\n"


EXPLANATION = """\
- first: better than every rival; tied: no rival is better, but some are not told apart;
  **lost**: some rival is better; by the 95 % interval of the difference, paired over the images
  that both have
- positive differences are good for the reference, also where less is better; the rival named is
  the one that is better by most where it lost, else the nearest
- every rival is one comparison at 95 %, not corrected for how many there are
- order metrics (insertion, deletion, ROAD, minimal areas) read a method's ranking where it gives
  one, others its saliency"""


def title(matrix: WinMatrix) -> str:
    """Whom the reference is compared with."""
    if matrix.cost_limit is None:
        return f"{matrix.reference} against all others"
    return f"{matrix.reference} against those that cost at most {matrix.cost_limit:g} times as much"


def describe_counts(matrix: WinMatrix) -> str:
    """A sentence: how many cells are first, tied and lost."""
    counts = matrix.count()
    return (
        f"{title(matrix)}: first {counts['first']}, tied {counts['tied']}, lost"
        f" {counts['lost']} of {len(matrix.cells)}"
    )


def cell_text(cell: WinCell) -> str:
    """The words of a cell, such as "tied (rise -.004)"."""
    gap = _signed(cell.difference)
    if cell.verdict == "first":
        return f"first {gap} over {cell.rival}"
    if cell.verdict == "tied":
        return f"tied ({cell.rival} {gap})"
    return f"lost {gap} to {cell.rival} {format_interval(cell.interval)}"


def to_csv(matrices: Iterable[WinMatrix]) -> str:
    """One line for each cell of each matrix, with unrounded numbers."""
    return csv_text(COLUMNS, [record for each in matrices for record in to_records(each)])


def to_records(matrix: WinMatrix) -> list[dict[str, Any]]:
    """The cells as plain values."""
    rivals = ALL_RIVALS if matrix.cost_limit is None else f"cost x{matrix.cost_limit:g}"
    records = []
    for cell in matrix.cells:
        record = {
            "reference": matrix.reference,
            "rivals": rivals,
            "data": cell.data,
            "network": cell.network,
            "metric": cell.metric,
            "outcome": cell.verdict,
            "rival": cell.rival,
            "value": cell.difference,
            "low": cell.interval.low,
            "high": cell.interval.high,
            "images": cell.images,
            "compared": cell.rivals,
        }
        records.append(record)
    return records


def from_records(
    records: Iterable[Mapping[str, Any]], rivals: str = ALL_RIVALS
) -> WinMatrix:
    """The matrix of `to_records`; `rivals` says which, where the records are of several.

    Records of anything else are passed over. Raises ValueError where none is left.
    """
    chosen = [record for record in records if record.get("rivals") == rivals]
    if not chosen:
        raise ValueError(f"no cell of a win matrix with rivals {rivals!r}")
    cells = [
        WinCell(
            data=record["data"],
            network=record["network"],
            metric=record["metric"],
            verdict=record["outcome"],
            rival=record["rival"],
            difference=record["value"],
            interval=Interval(record["low"], record["high"]),
            rivals=record["compared"],
            images=record["images"],
        )
        for record in chosen
    ]
    limit = None if rivals == ALL_RIVALS else float(rivals.removeprefix("cost x"))
    return WinMatrix(tuple(cells), chosen[0]["reference"], limit)


def _markdown_cell(cell: WinCell | None) -> str:
    if cell is None:
        return "n/a"
    text = cell_text(cell)
    return f"**{text}**" if cell.verdict == "lost" else text


def _signed(value: float) -> str:
    text = format_number(value)
    return f"+{text}" if value > 0 else text


def _count_text(counts: Mapping[str, int]) -> str:
    return " / ".join(str(counts[verdict]) for verdict in VERDICTS)


def _describe_left_out(
    why: str, left_out: Mapping[tuple[str, str], tuple[str, ...]]
) -> str:
    """Which rivals do not count, once where it is the same for several networks."""
    by_names: dict[tuple[str, ...], list[str]] = {}
    for row, names in left_out.items():
        by_names.setdefault(names, []).append(", ".join(part for part in row if part))
    return markdown_list(
        f"{why} on {'; '.join(rows)}: {', '.join(names)}"
        for names, rows in by_names.items()
    )
