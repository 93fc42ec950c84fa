"""Whatever stands in a name: a cell stays a cell, and no spreadsheet computes it."""

import csv
import io

import pyarrow as pa
import pytest

from mdm_jax.evaluation.formatting import csv_text, markdown_list, markdown_table
from mdm_jax.sweeps import tables

NAMES = ["a|b", "two\nlines", "\x1b[31mred\r", "a\u2028b", "=cmd|' /C calc'!A0", "@SUM(A1)"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_cell_and_one_line(name):
    lines = markdown_table(["name", "value"], [[name, "1"]], ("name",)).splitlines()
    assert len(lines) == 3
    assert lines[2].replace("\\|", "").count("|") == 3
    assert "\x1b" not in lines[2]
    assert len(markdown_list([name, "b"]).splitlines()) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_formula(name):
    number = {"name": name, "value": -0.5, "text": "-1.5"}
    texts = [
        csv_text(("name", "value", "text"), [number]),
        tables.csv(pa.Table.from_pylist([number])),
    ]
    for text in texts:
        (row,) = csv.DictReader(io.StringIO(text))
        assert row["name"][0] not in "=+-@"
        assert row["name"].isprintable()
        assert (row["value"], row["text"]) == ("-0.5", "-1.5")
