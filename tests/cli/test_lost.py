"""Images whose masks keep too little: counted and named wherever results are shown."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from test_run_cli import write_model, write_photos

import mdm_jax
from mdm_jax import PRESETS, area, consistency
from mdm_jax.cli.main import main
from mdm_jax.cli.run import describe_useless
from mdm_jax.evaluation import table_text
from mdm_jax.evaluation.cost import count_failures
from mdm_jax.runs.chunk_builder import FAILED
from mdm_jax.sweeps.point_result import DIAGNOSTICS, PointResult
from mdm_jax.types import REASONS, Status

LIMIT = 2
SETTINGS = """
preset = "fast-2026-11"
sizes = [4]
steps = 6
coarse_to_fine = "none"
learning_rate = 3.0
fill = "gray"

[objective]
lost_share = 1.0
area = 10000.0
"""
SENTENCE = (
    "the masks keep less than half of the activation: what they show is no explanation"
)


def said(command):
    """What a command says, as JSON."""
    out = StringIO()
    with redirect_stdout(out):
        assert main([*map(str, command), "--json"]) == 0
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, images, and settings under which the area wins over everything."""
    folder = tmp_path_factory.mktemp("lost")
    write_model(folder / "model")
    write_photos(folder / "photos")
    (folder / "greedy.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def ran(place):
    """What `mdm run` says of such images."""
    command = ["run", "--data", f"folder:{place}/photos", "--limit", LIMIT]
    command += ["--weights", place / "model", "--config", place / "greedy.toml"]
    return said([*command, "--strict", "--out", place / "run"])


def test_it_is_a_result(ran, place):
    """No failure, with a map, and with a reason."""
    assert Status.LOST.name not in FAILED
    run = mdm_jax.open_run(place / "run")
    assert run.records["status"].to_pylist() == ["LOST"] * LIMIT
    assert run.records["reason"].to_pylist() == [SENTENCE] * LIMIT
    assert np.isfinite(run.saliency(0)).all()


def test_every_kind_of_useless_map_is_counted_where_there_are_some():
    lines = describe_useless({"LOST": 1, "CONVERGED": 2, "EMPTY": 3})
    assert lines == [f"1 lost: {SENTENCE}", f"3 empty: {REASONS[Status.EMPTY]}"]
    assert describe_useless({"CONVERGED": 2}) == []


def test_a_run_counts_it(ran, place):
    assert ran["rows"] == [{"status": "lost", "rows": LIMIT}]
    assert f"{LIMIT} lost: {SENTENCE}" in ran["summary"]
    status = said(["run", "status", place / "run"])
    assert status["rows"] == ran["rows"]
    assert f"{LIMIT} lost: {SENTENCE}" in status["summary"]


def test_the_report_shows_it(ran, place):
    said(["report", place / "run", "--out", place / "page"])
    data = (place / "page" / "data" / "index.js").read_text()
    assert '"LOST"' in data
    assert data.count(SENTENCE) == LIMIT
    assert '[data-status="LOST"]' in (place / "page" / "assets" / "page.css").read_text()


def test_explain_tells_it_of_each_image(place):
    files = sorted((place / "photos").glob("**/*.png"))[:LIMIT]
    command = ["explain", *files, "--weights", place / "model"]
    command += ["--config", place / "greedy.toml", "--out", place / "explained"]
    found = said(command)
    assert [row["status"] for row in found["rows"]] == ["lost"] * LIMIT
    for row in found["rows"]:
        assert f"{row['file']}, class {row['class']}: {SENTENCE}" in found["summary"]


def test_tables_count_it():
    statuses = np.asarray([Status.LOST, Status.OUT_OF_STEPS, Status.LOST, Status.CONSTANT])
    counts = count_failures(statuses)
    assert counts == {"CONSTANT": 1, "LOST": 2}
    assert table_text.FAILURES["LOST"].format(2) == f"for 2 images {SENTENCE}"


def test_every_status_of_a_table_has_a_sentence():
    counted = count_failures(np.asarray(list(Status)))
    assert counted.keys() == table_text.FAILURES.keys()
    assert {Status[name] for name in counted} == REASONS.keys()


def test_a_sweep_notes_it():
    diagnostics = {name: np.zeros(3) for name in DIAGNOSTICS}
    diagnostics["status"] = np.asarray([Status.LOST, Status.OUT_OF_STEPS, Status.LOST])
    assert PointResult(diagnostics, {}).note == "2 images LOST"


def test_maps_that_keep_enough_are_not_called_lost(tiny, images):
    """The same images and steps, the area weighing nothing."""
    config = replace(
        PRESETS["fast-2026-11"],
        sizes=(4,),
        steps=2,
        objective=(consistency("lost_share"), area(0.0)),
    )
    found = mdm_jax.explain(tiny, images, config=config)
    assert Status.LOST not in found.info.status.tolist()
