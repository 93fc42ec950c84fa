"""Pages and docstrings quote only what the results files say."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest

from experiments import make_tables, record_results

FILES = sorted(record_results.RESULTS.glob("*.json"))
RESERVED = {"value", "low", "high", "verdict"}


@pytest.fixture(scope="module")
def tables():
    return make_tables.blocks()


@pytest.mark.parametrize(
    "page", list(make_tables.pages()), ids=lambda page: f"{page.parent.name}-{page.stem}"
)
def test_a_page_says_what_the_results_say(page, tables):
    text = page.read_text()
    assert make_tables.render(text, tables) == text, "run `make tables`"


def test_every_marker_is_closed_and_every_block_is_on_a_page(tables):
    used = set()
    for page in make_tables.pages():
        text = page.read_text()
        names = [match[2] for match in make_tables.MARKED.finditer(text)]
        assert len(names) == text.count("<!-- table:") == text.count("<!-- end -->"), page
        used |= set(names)
    assert used == set(tables)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_results_file_has_every_field(path):
    content = json.loads(path.read_text())
    assert (
        set(record_results.FIELDS)
        <= set(content)
        <= {
            *record_results.FIELDS,
            *record_results.OPTIONAL,
        }
    )
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", content["commit"])
    date.fromisoformat(content["date"])
    assert {"cores", "processor", "device"} <= set(content["machine"])
    assert "jax" in content["versions"]
    assert content["values"]
    keys = []
    for value in content["values"]:
        assert isinstance(value["value"], int | float | None)
        assert ("low" in value) == ("high" in value)
        if value.get("low") is not None:
            assert value["low"] <= value["value"] <= value["high"]
        assert value.get("verdict", "tied") in make_tables.MARKS or value["verdict"] == ""
        keys.append(tuple((key, value[key]) for key in value if key not in RESERVED))
    assert len(set(keys)) == len(keys), "two values of the same thing"
    # A results file names a kind of machine, never a place on one.
    assert not re.search(
        r"(^|[\s\"'=:])(/[a-z]+/|~)", content["command"] + content.get("note", "")
    )
    assert record_results.to_json(content) == path.read_text()


def test_a_changed_value_changes_the_page(tables, monkeypatch):
    page = make_tables.ROOT / "docs" / "results.md"
    load = make_tables.load

    def altered(name):
        content = load(name)
        for value in content["values"]:
            value["value"] = 0.123 if value["value"] is not None else None
        return content

    monkeypatch.setattr(make_tables, "load", altered)
    assert make_tables.render(page.read_text(), make_tables.blocks()) != page.read_text()


def test_check_says_which_page_differs(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- table: sanity_digits -->\nstale\n<!-- end -->\n")
    monkeypatch.setattr(make_tables, "ROOT", tmp_path)
    monkeypatch.setattr(make_tables, "pages", lambda: [page])
    assert make_tables.main(["--check"]) == 1
    assert "page.md differs" in capsys.readouterr().out
    assert "stale" in page.read_text()
    assert make_tables.main([]) == 0
    assert "stale" not in page.read_text()
    assert make_tables.main(["--check"]) == 0


def test_what_is_written_can_be_read_again(tmp_path, monkeypatch):
    numpy = pytest.importorskip("numpy")
    monkeypatch.setattr(record_results, "RESULTS", tmp_path)
    monkeypatch.setattr(record_results, "ROOT", tmp_path)
    values = [
        {"metric": "a", "value": numpy.float32(0.5)},
        {"metric": "b", "value": float("nan")},
    ]
    path = record_results.write("name", values, command="python x.py")
    content = json.loads(path.read_text())
    assert set(record_results.FIELDS) <= set(content)
    assert [value["value"] for value in content["values"]] == [0.5, None]
    monkeypatch.setattr(make_tables, "RESULTS", tmp_path)
    assert make_tables.quote("name", metric="a") == "0.500"
    with pytest.raises(make_tables.TableError, match="0 values"):
        make_tables.quote("name", metric="c")


def test_a_command_names_no_folder_of_this_machine():
    script = str(record_results.ROOT / "experiments" / "quality" / "ablation.py")
    weights = str(Path("/elsewhere") / "networks" / "vit")
    command = record_results.command_line(
        [
            script,
            "--weights",
            weights,
            f"vit={weights}",
            f"folder:{weights}",
            "--limit",
            "3",
        ]
    )
    assert command == (
        "python experiments/quality/ablation.py --weights vit vit=vit folder:vit --limit 3"
    )
