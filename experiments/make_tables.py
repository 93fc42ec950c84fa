"""Writes every table and every quoted figure of the pages from `experiments/results/*.json`.

    python experiments/make_tables.py            # or: make tables
    python experiments/make_tables.py --check    # says which pages differ and writes nothing

A page marks where a table goes: `<!-- table: NAME -->` and `<!-- end -->` on lines of their own.
What stands between is the block NAME of `tables.jinja`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from experiments.record_results import RESULTS, ROOT

TEMPLATE = Path(__file__).resolve().parent / "tables.jinja"
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
MARKS = {"better": " +", "worse": " -", "tied": " =", "apart": " *"}
"""a value against the reference of its table"""
MAX_DECIMALS = 3
MISSING = ""

Value = Mapping[str, Any]


class TableError(ValueError):
    """A template asks for something that the results do not have."""


def pages() -> Iterator[Path]:
    """Every page that may hold tables."""
    yield ROOT / "README.md"
    yield ROOT / "colab" / "README.md"
    built = ROOT / "docs" / "_build"
    for page in sorted((ROOT / "docs").rglob("*.md")):
        if built not in page.parents:
            yield page
    yield from sorted((ROOT / "experiments").rglob("*.md"))


def load(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        raise TableError(f"there is no {path.relative_to(ROOT)}")
    return json.loads(path.read_text())


def parts_of(name: str) -> dict[str, dict[str, Any]]:
    """What is said of the parts of a check that have values; none where it was never run."""
    if not (RESULTS / f"{name}.json").exists():
        return {}
    content = load(name)
    measured = {value["part"] for value in content["values"]}
    return {part: said for part, said in content["parts"].items() if part in measured}


def select(names: str | Sequence[str], conditions: Mapping[str, Any]) -> list[Value]:
    """The values of one or several results files that have these properties."""
    files = [names] if isinstance(names, str) else names
    values = [value for name in files for value in load(name)["values"]]
    return [
        value
        for value in values
        if all(value.get(key) == wanted for key, wanted in conditions.items())
    ]


def find(names: str | Sequence[str], conditions: Mapping[str, Any]) -> Value:
    """The only value that has these properties."""
    values = select(names, conditions)
    if len(values) != 1:
        raise TableError(
            f"{len(values)} values of {names} have {dict(conditions)}, not one"
        )
    return values[0]


def number(value: float, decimals: int) -> str:
    """A number as the pages write it: tiny ones as powers of ten."""
    if value and abs(value) < 10**-MAX_DECIMALS:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.{decimals}f}"


def decimals_of(values: Sequence[Value]) -> int:
    """As many decimals as the values of a column need, and at most as their size makes sense."""
    needed = 0
    for value in values:
        size = abs(value["value"] or 0)
        most = MAX_DECIMALS if size < 10 else 2 if size < 100 else 1
        written = f"{size:.{most}f}".rstrip("0")
        needed = max(needed, len(written.partition(".")[2]))
    return needed


def cell(value: Value | None, decimals: int, intervals: bool) -> str:
    if value is None:
        return MISSING
    if value["value"] is None:
        return "n/a"
    text = number(value["value"], decimals)
    if intervals and value.get("low") is not None:
        text += f" [{number(value['low'], decimals)}, {number(value['high'], decimals)}]"
    return text + MARKS.get(value.get("verdict", ""), "")


def quote(names: str | Sequence[str], decimals: int = 3, **conditions: Any) -> str:
    """One value, for use inside a sentence."""
    return number(find(names, conditions)["value"], decimals)


def percent(names: str | Sequence[str], decimals: int = 0, **conditions: Any) -> str:
    """One share, in percent."""
    return f"{100 * find(names, conditions)['value']:.{decimals}f} %"


def table(
    names: str | Sequence[str],
    rows: str | Sequence[str],
    columns: str | Sequence[str],
    intervals: bool = True,
    only: Sequence[str] = (),
    **conditions: Any,
) -> str:
    """A Markdown table.

    One row for every combination of the properties `rows`, one column for every value of `columns`
    (of those in `only`, where it is given), in the order of the files.
    """
    row_keys, column_keys = as_tuple(rows), as_tuple(columns)
    values = select(names, conditions)
    cells: dict[tuple[Any, ...], dict[tuple[Any, ...], Value]] = {}
    heads: dict[tuple[Any, ...], list[Value]] = {}
    for value in values:
        line = tuple(value.get(key) for key in row_keys)
        head = tuple(value.get(key) for key in column_keys)
        # A file may hold values of several tables, with other properties.
        if None in line or None in head or (only and head[0] not in only):
            continue
        row = cells.setdefault(line, {})
        if head in row:
            raise TableError(f"two values of {names} for {head} in the row {line}")
        row[head] = value
        heads.setdefault(head, []).append(value)
    if not cells:
        raise TableError(f"no value of {names} has {conditions}")
    titles = [", ".join(title(part) for part in head) for head in heads]
    precisions = {head: decimals_of(column) for head, column in heads.items()}
    lines = [[*row_keys, *titles], [*["---"] * len(row_keys), *["---:"] * len(titles)]]
    for names_of_row, row in cells.items():
        shown = [cell(row.get(head), precisions[head], intervals) for head in heads]
        lines.append([*map(str, names_of_row), *shown])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_tuple(keys: str | Sequence[str]) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else tuple(keys)


def title(part: Any) -> str:
    """The head of a column; a metric without its protocol, which its file has."""
    return (
        str(part).partition(":")[0]
        if re.fullmatch(r"\w+:[\w+.-]+", str(part))
        else str(part)
    )


def source(*names: str) -> str:
    """Where the values of a table come from, as the line below it."""
    lines = []
    for name in names:
        content = load(name)
        machine = content["machine"]
        state = f" ({machine['state']})" if "state" in machine else ""
        lines.append(
            f"`{content['command']}`, {machine['cores']} cores, {machine['processor']}{state},"
            f" {content['date']}: `results/{name}.json`"
        )
    return "<sub>" + "<br>".join(lines) + "</sub>"


def win_matrix(name: str, rivals: str = "all") -> str:
    """A win matrix: where the reference is first, tied or lost, what it loses in bold."""
    # most tables need no JAX, which takes seconds to import
    from mdm_jax.evaluation import win_matrix_text

    matrix = win_matrix_text.from_records(load(name)["values"], rivals)
    return win_matrix_text.markdown(matrix).strip()


def win_images(name: str) -> str:
    """How many images each network of a win matrix had: the most, and the fewest of a method."""
    counts: dict[tuple[str, str], list[int]] = {}
    for value in select(name, {"quantity": "seconds"}):
        counts.setdefault((value["data"], value["network"]), []).append(value["images"])
    texts = []
    for (data, network), images in counts.items():
        few = "" if min(images) == max(images) else f" ({min(images)} for the costliest)"
        texts.append(f"{data}, {network}: {max(images)}{few}")
    return "; ".join(texts)


def environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"table": table, "quote": quote, "percent": percent, "source": source}
    made.globals |= {"win_matrix": win_matrix, "win_images": win_images}
    made.globals |= {"parts_of": parts_of, "select": select, "number": number}
    return made


def blocks() -> dict[str, str]:
    """Every block of the template, rendered."""
    template = environment().get_template(TEMPLATE.name)
    context = template.new_context()
    return {
        name: "".join(block(context)).strip() for name, block in template.blocks.items()
    }


def render(page: str, tables: Mapping[str, str]) -> str:
    """A page with every table between its markers replaced."""

    def replaced(match: re.Match[str]) -> str:
        begin, name, _, end = match.groups()
        if name not in tables:
            raise TableError(f"{TEMPLATE.name} has no block {name}")
        return f"{begin}{tables[name]}\n{end}"

    return MARKED.sub(replaced, page)


def main(arguments: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; 1 where pages differ"
    )
    check = parser.parse_args(arguments).check
    tables = blocks()
    different = []
    for path in pages():
        text = path.read_text()
        new = render(text, tables)
        if new != text:
            different.append(path.relative_to(ROOT))
            if not check:
                path.write_text(new)
    for name in different:
        print(
            f"{name} {'differs from its results: run `make tables`' if check else 'written'}"
        )
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
