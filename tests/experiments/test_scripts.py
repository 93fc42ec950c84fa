"""Every script starts, computes nothing when it is imported, and stands in the index page."""

from __future__ import annotations

import re
import runpy
import sys

import pytest

from experiments import record_results

FOLDER = record_results.ROOT / "experiments"
INDEX = (FOLDER / "README.md").read_text()
SCRIPTS = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/*.py"))
LIBRARIES = {
    "quality/benchmark_networks.py",
    "speed/measuring.py",
    "training/train_networks.py",
    "figures/figure_look.py",
}
"""imported by scripts, not started"""
NO_OPTIONS = {"examples/new_objective.py"}


def test_the_index_lists_every_script_and_nothing_else():
    listed = set(re.findall(r"`(\w+/\w+\.py)`", INDEX))
    assert listed == set(SCRIPTS)


def test_the_index_lists_every_results_file_and_nothing_else():
    names = {path.stem for path in record_results.RESULTS.glob("*.json")}
    rows = [line for line in INDEX.splitlines() if line.startswith("| `")]
    columns = [line.split(" | ")[-1] for line in rows]
    prose = "".join(line for line in INDEX.splitlines() if not line.startswith("|"))
    listed = {
        name for text in (*columns, prose) for name in re.findall(r"`([\w*]+)`", text)
    }
    for name in names:
        assert any(re.fullmatch(each.replace("*", r"\w+"), name) for each in listed), name
    optional = {"accelerator"}  # for a GPU, not measured yet
    for column in columns:
        for each in re.findall(r"`([\w*]+)`", column):
            pattern = each.replace("*", r"\w+")
            assert each in optional or any(re.fullmatch(pattern, name) for name in names), (
                each
            )


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_starts_and_names_its_own_path(script, monkeypatch, capsys):
    path = FOLDER / script
    if script in LIBRARIES | NO_OPTIONS:
        runpy.run_path(str(path), run_name="imported")
        return
    usage = re.findall(r"python (experiments/\S+\.py)", path.read_text())
    assert usage[0] == f"experiments/{script}"
    for other in usage:
        assert (record_results.ROOT / other).exists(), other
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(path), run_name="__main__")
    assert stopped.value.code in (0, None)
    assert "usage" in capsys.readouterr().out
