"""Folders that an older version wrote: read, scored, shown, gone on with, and never mixed."""

from __future__ import annotations

import json
import shutil
import sys
from importlib import metadata
from pathlib import Path

import jax.numpy as jnp
import pytest
import stored_folders as stored

from mdm_jax import InputError
from mdm_jax.cli.main import main
from mdm_jax.types import Status
from mdm_jax.view import kept_share

EXPECTED = json.loads(stored.EXPECTED.read_text())
RUNS = [kind for kind in stored.KINDS if kind.startswith("run")]
TRAININGS = ("training", "training_prototypes")
STORED, RESUMED = 1e-4, 5e-3
"""tolerances, of what is stored or rendered and of what is computed anew: other machines round
otherwise, and every step of an optimizer makes more of it"""
LEFT = {"run": [1], "run_own": [1], "run_method": [1], "run_python": [1]}
"""chunks of the runs that are not there yet"""

REFUSED = {
    "run": ([*stored.RUN, "--config", "slower.toml"], "settings.config.steps 3 -> 4"),
    "run_method": (
        [*stored.RUN_METHOD, "--method", "integrated_gradients:steps=5"],
        "settings.config.steps 4 -> 5",
    ),
    "benchmark": ([*stored.BENCHMARK, "--seed", "1"], "seed 0 -> 1"),
    "sweep": ([*stored.SWEEP, "--seed", "1"], "key [0, 0] -> [0, 1]"),
    "regions": ([*stored.REGIONS, "--seed", "1"], "seed 0 -> 1"),
    "training": ([*stored.TRAIN, "--seed", "1"], "seed 0 -> 1"),
    "training_prototypes": ([*stored.TRAIN_PROTOTYPES, "--epochs", "3"], "epochs 2 -> 3"),
}
"""a command with one other setting, and how the difference is told"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A copy of everything that is stored, as the current folder."""
    shutil.copytree(stored.STORED, tmp_path / "stored")
    monkeypatch.chdir(tmp_path / "stored")
    # Code that is run there lets its neighbors be imported.
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path / "stored"


def contents(kind, patterns=("**/*",)):
    """The bytes of the files in a folder, by path, without locks, logs and markers."""
    found = {}
    for pattern in patterns:
        for file in Path(kind).glob(pattern):
            free = (
                file.name.startswith((".lock", ".mdm_jax", "log-")) or "locks" in file.parts
            )
            if file.is_file() and not free:
                found[str(file)] = file.read_bytes()
    return found


def check(found, expected, tolerance=STORED, where=""):
    """See that two nests of plain values agree, numbers within the tolerance."""
    if isinstance(expected, dict):
        assert sorted(found) == sorted(expected), where
        for name, value in expected.items():
            check(found[name], value, tolerance, f"{where}/{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, value in enumerate(expected):
            check(found[number], value, tolerance, f"{where}/{number}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, tolerance, tolerance, nan_ok=True), where
    else:
        assert found == expected, where


def call_lost_as_before(found):
    """Name maps as when the folders were made, where they are lost: they were out of steps."""
    for columns in found.values():
        for row, status in enumerate(columns.get("status", ())):
            if status == Status.LOST:
                masked, reference, fill = (
                    jnp.float32(columns[name][row])
                    for name in ("activation_masked", "activation", "activation_fill")
                )
                assert kept_share(masked, reference, fill) < 0.5
                columns["status"][row] = int(Status.OUT_OF_STEPS)


def same_jax(kind):
    """Skip where a run of functions, known by their compiled program, was made with another JAX."""
    versions = json.loads(Path(kind, "run.json").read_text())["versions"]
    if kind == "run_python" and versions["jax"] != metadata.version("jax"):
        pytest.skip("a program is known by what this version of JAX makes of it")


def refused(command, capsys):
    """The sentence with which a command refuses."""
    assert main(command) == 2
    return capsys.readouterr().err


def plain(value):
    """Values as JSON gives them back."""
    return json.loads(json.dumps(value, default=float))


@pytest.mark.parametrize("kind", stored.KINDS)
def test_it_is_read(place, kind):
    check(plain(stored.told(kind)), EXPECTED["before"][kind])


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_is_as_it_was_written(place, kind, capsys):
    assert main(["run", "verify", kind, "--check-only", "--json"]) == 3
    faults = json.loads(capsys.readouterr().out)["rows"]
    missing = [("missing", f"records/{chunk:05d}.parquet") for chunk in LEFT[kind]]
    assert [(fault["what"], fault["file"]) for fault in faults] == missing


@pytest.mark.slow
@pytest.mark.parametrize("kind", stored.EVALUATE)
def test_its_maps_are_scored(place, kind):
    check(stored.evaluated(kind), EXPECTED["evaluated"][kind])


def test_runs_are_shown(place):
    result = stored.said(["report", "run", "run_own", "run_method", "--out", "page"])
    assert [row["images"] for row in result["rows"]] == [4, 1, 2]
    assert (place / "page" / "index.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", stored.KEPT)
def test_it_is_gone_on_with(place, kind, capsys):
    if kind in RUNS:
        same_jax(kind)
    before = contents(kind, stored.KEPT[kind])
    assert before
    stored.RESUME[kind]()
    after = contents(kind, stored.KEPT[kind])
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)
    found = plain(stored.told(kind))
    if kind == "regions":
        call_lost_as_before(found)
    check(found, EXPECTED["after"][kind], RESUMED)
    if kind in RUNS:
        assert main(["run", "verify", kind, "--check-only"]) == 0
        stored.RESUME[kind]()
        assert contents(kind, stored.KEPT[kind]) == after


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRAININGS)
def test_a_training_is_gone_on_with(place, kind, capsys):
    before = Path(kind, "metrics.jsonl").read_text()
    stored.RESUME[kind]()
    sentence = {"training": "from step 6 of 8", "training_prototypes": "from step 3 of 10"}[
        kind
    ]
    assert f"going on {sentence}" in capsys.readouterr().err
    assert Path(kind, "metrics.jsonl").read_text().startswith(before)
    check(plain(stored.told(kind)), EXPECTED["after"][kind], RESUMED)
    finished = contents(kind)
    assert "had ended already" in stored.RESUME[kind]()["summary"]
    assert contents(kind) == finished


@pytest.mark.slow
@pytest.mark.parametrize("kind", REFUSED)
def test_another_setting_is_refused(place, kind, capsys):
    before = contents(kind)
    command, difference = REFUSED[kind]
    sentence = refused(command, capsys)
    assert "other settings" in sentence
    assert f"({difference})" in sentence
    assert contents(kind) == before


def test_another_text_of_a_function_is_refused(place, capsys):
    with Path("parts.py").open("a") as file:
        file.write("# another text\n")
    sentence = refused(stored.RUN_OWN, capsys)
    for name in ("margin", "checkerboard", "edges"):
        assert f'outside.parts.py:{name} "d71ba811" -> ' in sentence


def test_another_program_is_refused(place):
    same_jax("run_python")
    with pytest.raises(InputError, match=r"config\.steps 3 -> 4"):
        stored.run_python(steps=4)
    with pytest.raises(InputError, match=r'config\.optimizer "<function momentum>" -> '):
        stored.run_python(optimizer=stored.parts().optax.adam)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "run_own"])
def test_a_run_is_opened_again_with_the_presets_of_then(place, kind):
    """`fast` means other settings today; the request that run.json keeps means those of then."""
    before = contents(kind, stored.KEPT[kind])
    first = next(name for name in before if name.endswith("00000.parquet"))
    Path(first).unlink()
    found = stored.said(["run", "verify", kind, "--code", "parts.py"])
    assert f"{len(LEFT[kind]) + 1} faults found" in found["summary"]
    assert "0 faults left" in found["summary"]
    assert contents(kind, stored.KEPT[kind]).keys() > before.keys()
