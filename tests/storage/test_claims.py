"""No command overwrites or deletes what it did not write."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import stored_folders

from mdm_jax import InputError
from mdm_jax.cli import (
    console,
    demo,
    evaluate,
    explain,
    output_config,
    report,
)
from mdm_jax.cli.written_explanation import WrittenExplanation
from mdm_jax.evaluation import benchmark, saved_maps
from mdm_jax.runs.store import open_store
from mdm_jax.storage import claims
from mdm_jax.sweeps import store as sweep_store
from mdm_jax.training import run_folder
from mdm_jax.views.pages import prototype_page, run_report

KINDS = {
    "benchmark": benchmark.BENCHMARK,
    "sweep": sweep_store.SWEEP,
    "regions": prototype_page.SEARCH,
    "page": prototype_page.PROTOTYPE_PAGE,
    "training": run_folder.TRAINING,
    "report": run_report.REPORT,
    "demo": demo.DEMO,
    "evaluate": evaluate.SCORED,
}
EACH_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def example(pattern):
    """A name that a pattern of a kind matches."""
    return re.sub(r"\[(.)[^]]*\]", r"\1", pattern).replace("*", "x")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(folder, name, text="mine"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@EACH_KIND
def test_a_file_of_yours_under_any_of_our_names_is_kept(tmp_path, kind):
    for number, pattern in enumerate(kind.files):
        folder = tmp_path / str(number)
        write(folder, example(pattern))
        before = contents(folder)
        with pytest.raises(InputError, match=r"holds other files, such as .*choose a new"):
            claims.claim(folder, kind)
        assert contents(folder) == before


@EACH_KIND
def test_only_what_the_marker_covers_is_removed(tmp_path, kind):
    claims.claim(tmp_path / "out", kind)
    ours = [write(tmp_path / "out", example(pattern)) for pattern in kind.files]
    yours = [write(tmp_path / "out", name) for name in ("images/a.jpg", "figures/a.png")]
    yours.append(write(tmp_path / "out", "assets/app.js"))
    claims.claim(tmp_path / "out", kind)
    claims.clear(tmp_path / "out", kind.files)
    assert not any(path.exists() for path in ours)
    assert all(path.read_text() == "mine" for path in yours)


def test_what_a_newer_version_adds_is_looked_at_again(tmp_path):
    old = claims.Kind("thing", ("one.txt",), lambda folder: False)
    claims.claim(tmp_path, old)
    write(tmp_path, "two.txt")
    with pytest.raises(InputError, match=r"such as two\.txt"):
        claims.claim(tmp_path, old._replace(files=("one.txt", "two.txt")))


@pytest.mark.parametrize("text", ["{}", "[1]", '{"files": 3}', "[" * 100_000, "\udcff"])
def test_a_marker_that_is_none_covers_nothing(tmp_path, text):
    (tmp_path / claims.MARKER).write_bytes(text.encode("utf-8", "surrogateescape"))
    write(tmp_path, "results.json")
    with pytest.raises(InputError, match="holds other files"):
        claims.check(tmp_path, demo.DEMO)


@pytest.mark.parametrize("name", ["benchmark", "sweep", "regions", "training"])
def test_folders_of_earlier_versions_are_known(tmp_path, name):
    claims.check(stored_folders.STORED / name, KINDS[name])
    settings = KINDS[name].files[0]
    write(tmp_path, settings, '{"data": "mine", "epochs": 3, "method": "bayes"}')
    with pytest.raises(InputError, match="holds other files"):
        claims.check(tmp_path, KINDS[name])


def test_results_of_earlier_versions_are_known(tmp_path):
    result = console.Result([], "done", [])
    for kind, name in ((demo.DEMO, "results.json"), (evaluate.SCORED, "scores.json")):
        write(tmp_path, name, json.dumps(result.plain()))
        claims.check(tmp_path, kind)
    write(tmp_path, "page/index.html", f"<html><head>\n{run_report.GENERATOR}")
    claims.check(tmp_path / "page", run_report.REPORT)


def test_a_report_beside_your_images_and_data_is_refused(tmp_path):
    """What once counted as a report that was half written."""
    for name in ("images/a.jpg", "data/a.csv"):
        write(tmp_path, name)
    with pytest.raises(InputError, match="holds other files"):
        claims.check(tmp_path, run_report.REPORT)


def test_a_run_that_begins_anew_removes_its_own_files_alone(tmp_path):
    store = open_store(tmp_path)
    layout = {"items": 1, "targets": 1, "chunk": 1}
    begun = {"format": 2, "layout": layout, "settings": {"seed": 0}}
    store.begin(begun)
    mine = [write(tmp_path, name) for name in ("saliency/notes.txt", "records/a.parquet")]
    write(tmp_path, "saliency/c/0/0/0")
    store.begin(begun | {"settings": {"seed": 1}})
    assert all(path.read_text() == "mine" for path in mine)
    assert not (tmp_path / "saliency" / "c" / "0" / "0" / "0").exists()
    write(tmp_path / "other", "locks/begin", "mine")
    with pytest.raises(InputError, match="holds other files"):
        open_store(tmp_path / "other").refuse_others()


def written(settings, value=0.0, name="photo.jpg"):
    image = np.full((8, 8, 3), value, np.float32)
    return WrittenExplanation(name, image, None, settings)


def save(part, prefix):
    """As `mdm explain` saves an explanation, without its figures."""
    free = part.free_prefix(prefix, "rise")
    columns = {"image_file": part.name, "settings": part.settings, "image": part.image}
    columns |= {"saliency": np.zeros((8, 8)), "target": 3}
    np.savez(free.with_name(f"{free.name}.npz"), **columns)
    return free.name


def test_explanations_with_other_settings_have_other_names(tmp_path):
    prefix = tmp_path / "photo-class3"
    one, other = '{"method": "mdm", "seed": 0}', '{"method": "rise", "seed": 0}'
    assert save(written(one), prefix) == "photo-class3"
    assert save(written(other), prefix) == "photo-class3-rise"
    assert save(written(one, value=1.0), prefix) == "photo-class3-rise-2"
    assert save(written(one), prefix) == "photo-class3"
    assert save(written(one, name="photo.png"), prefix) == "photo-class3-rise-3"
    write(tmp_path, "cat-class3-masks.png")
    assert save(written(one), tmp_path / "cat-class3") == "cat-class3-rise"
    with pytest.raises(
        InputError, match=r"different settings \(method \"mdm\" -> \"rise\""
    ):
        saved_maps.read(tmp_path)
    assert saved_maps.read(tmp_path / "photo-class3.npz").saliency.shape == (1, 8, 8)


def test_a_file_of_options_that_was_read_or_is_yours_is_kept(tmp_path):
    first = output_config.write_config(demo.DemoCommand(limit=3), tmp_path)
    assert output_config.write_config(demo.DemoCommand(limit=4), tmp_path) == first
    edited = f"# my notes\n{first.read_text()}"
    first.write_text(edited)
    again = output_config.write_config(demo.DemoCommand(config=first), tmp_path)
    assert (again.name, first.read_text()) == ("mdm-demo-2.toml", edited)
    mine = write(tmp_path, "mdm-report.toml")
    assert output_config.write_config(report.ReportCommand(), tmp_path) != mine
    assert mine.read_text() == "mine"


def test_options_of_earlier_explanations_are_kept(tmp_path):
    names = []
    for seed in (0, 1, 1, 0):
        options = explain.ExplainCommand(seed=seed)
        names.append(output_config.write_config(options, tmp_path).name)
    assert names == [f"mdm-explain{each}.toml" for each in ("", "-2", "-2", "")]
