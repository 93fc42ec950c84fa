"""The parts of the win matrix name what there is, and those without a place are skipped."""

from __future__ import annotations

import dataclasses
import json

import pytest

from experiments import make_tables, record_results
from experiments.quality import win_matrix as experiment
from mdm_jax import InputError, methods, metrics
from mdm_jax.data.open_source import KINDS
from mdm_jax.evaluation import win_matrix_text

PLAN = experiment.read_plan(experiment.CONFIG)


def test_every_part_names_known_methods_and_metrics():
    assert PLAN.parts
    for part in PLAN.parts:
        labels = [methods.configure(each).label for each in part.methods]
        assert PLAN.reference in labels
        assert len(set(labels)) == len(labels)
        found = metrics.find_all(part.metrics)
        assert tuple(found) == part.metrics, "ids, whose protocol is written out"
        assert all(metric.better != "none" for metric in found.values())
        kind = part.data.partition(":")[0]
        assert kind in {*KINDS, "annotated"}


def units(*places, only=()):
    config = experiment.Config(place=places, only=only)
    return list(experiment.find_units(config, PLAN))


def test_without_places_only_the_digits_are_left():
    found = units()
    kept = [each for each in found if isinstance(each, experiment.Unit)]
    assert {unit.part.name for unit in kept} == {"digits"}
    assert [unit.network for unit in kept] == ["resnet", "densenet", "vit"]
    assert "ECSSD is skipped: give --place ecssd=FOLDER" in found


def test_places_are_filled_in_and_networks_without_one_are_skipped():
    found = units("ecssd=photos", "resnet18=weights", only=("ECSSD",))
    (unit,) = (each for each in found if isinstance(each, experiment.Unit))
    assert (unit.data, unit.network) == ("folder:photos", "resnet18=weights")
    assert "ECSSD, resnet50 is skipped: give --place resnet50=FOLDER" in found


def test_one_network_of_a_part_may_be_chosen():
    (unit,) = units(only=("digits/vit",))
    assert (unit.part.name, unit.network) == ("digits", "vit")


@pytest.mark.parametrize("text", ["", "metrics = 3", "[[parts]]\nname = 'a'"])
def test_a_file_of_another_form_is_refused(text, tmp_path):
    path = tmp_path / "parts.toml"
    path.write_text(text)
    with pytest.raises(InputError, match="holds no parts"):
        experiment.read_plan(path)


CELL = {
    "reference": "mdm",
    "rivals": "all",
    "data": "digits",
    "network": "resnet",
    "metric": "energy:mask",
    "outcome": "lost",
    "rival": "rise",
    "value": -0.05,
    "low": -0.07,
    "high": -0.03,
    "images": 9,
    "compared": 3,
}


def test_a_run_of_some_parts_keeps_what_is_stored_of_others(tmp_path, monkeypatch):
    for module in (record_results, experiment):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
        monkeypatch.setattr(module, "ROOT", tmp_path, raising=False)
    monkeypatch.setattr(experiment, "PICTURE", tmp_path / "picture.png")
    vit = CELL | {"network": "vit"}
    experiment.write_results("some", [CELL, vit])
    better = CELL | {"value": -0.01, "images": 20}
    experiment.write_results("some", [better])
    content = json.loads((tmp_path / "some.json").read_text())
    assert content["values"] == [vit, better]
    assert set(content["parts"]) == {"digits, resnet", "digits, vit"}
    assert all(part["command"] and part["date"] for part in content["parts"].values())


def test_the_page_shows_the_matrix_of_the_results(tmp_path, monkeypatch):
    cell = CELL
    other = {"data": "digits", "network": "resnet", "quantity": "seconds", "value": 1.0}
    values = [cell, other | {"method": "mdm", "images": 9}]
    values.append(other | {"method": "rise", "images": 4})
    path = tmp_path / "some.json"
    path.write_text(json.dumps({"values": values}))
    monkeypatch.setattr(make_tables, "RESULTS", tmp_path)
    table = make_tables.win_matrix("some")
    assert "**lost -.050 to rise [-.070, -.030]**" in table
    assert table.startswith("| data ")
    assert make_tables.win_images("some") == "digits, resnet: 9 (4 for the costliest)"
    assert set(cell) == set(win_matrix_text.COLUMNS)


@pytest.mark.slow
def test_a_small_run_writes_the_matrix_and_its_results(tmp_path, monkeypatch, capsys):
    parts = tmp_path / "parts.toml"
    parts.write_text(
        'reference = "center"\nmethods = ["center", "random"]\n'
        'metrics = ["energy:mask", "pointing:exact"]\n'
        '[[parts]]\nname = "digits"\ndata = "digits"\nsplit = "test"\nnetworks = ["resnet"]\n'
    )
    for module in (record_results, experiment):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(record_results, "ROOT", tmp_path)
    monkeypatch.setattr(experiment, "PICTURE", tmp_path / "picture.png")
    config = experiment.Config(
        parts=parts, limit=12, costly_limit=5, out=tmp_path / "out", results="small"
    )
    assert experiment.main(config) == 0
    assert "center against all others: first" in capsys.readouterr().out
    content = json.loads((tmp_path / "small.json").read_text())
    matrix = win_matrix_text.from_records(content["values"])
    assert matrix.rows == (("digits", "resnet"),)
    assert {cell.images for cell in matrix.cells} == {12}
    assert (tmp_path / "small.png").exists()
    text = (tmp_path / "out" / "win_matrix.md").read_text()
    assert "energy:mask" in text
    # what is stored is read even when there is no time for more
    again = dataclasses.replace(config, budget=1e-6)
    assert experiment.main(again) == 0
    repeated = json.loads((tmp_path / "small.json").read_text())
    assert repeated["values"] == content["values"]
