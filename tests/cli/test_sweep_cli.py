"""`mdm sweep` as a person meets it: what is written, what is not done twice, and one sentence for
what cannot be."""

from __future__ import annotations

import csv
import json
import tomllib

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
from flax import nnx

from mdm_jax import InputError, config_files
from mdm_jax.cli.main import main
from mdm_jax.cli.sweep import choosing_images
from mdm_jax.config import PRESETS, MDMConfig
from mdm_jax.models import weights
from mdm_jax.models.architectures import build
from mdm_jax.sweeps.config import SweepConfig
from mdm_jax.sweeps.export_preset import to_toml


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A tiny network, six images of two classes, and a sweep of four points and two structures."""
    place = tmp_path_factory.mktemp("sweeps")
    network, arguments = place / "network", {"widths": [4, 8], "depths": [1, 1]}
    network.mkdir()
    weights.save(
        build("resnet", num_classes=2, size=(32, 32), rngs=nnx.Rngs(0), **arguments),
        network / "model.safetensors",
    )
    fit = {
        "input_size": [3, 32, 32],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "mean": [0.5] * 3,
        "std": [0.05] * 3,
    }
    told = {
        "architecture": "resnet",
        "num_classes": 2,
        "model_args": arguments,
        "label_names": ["bad", "good"],
    }
    (network / "config.json").write_text(json.dumps(told | {"pretrained_cfg": fit}))
    for number in range(6):
        path = place / "photos" / "test" / ("bad", "good")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3))
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(path)
    common = {
        "weights": str(network),
        "data": f"folder:{place / 'photos'}",
        "metrics": ["sparseness", "complexity"],
    }
    axes = {
        "learning_rate": [0.1, 0.5],
        "objective.area": [1.0, 9.0],
        "steps": [2],
        "sizes": [[4]],
    }
    return common | {"tune_on": 0.5, "quality": {"sparseness": 1.0}, "axes": axes}


def run(capsys, path, settings, *options):
    path.write_text(to_toml(settings))
    code = main(["sweep", str(path), *map(str, options)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_a_sweep_is_written_ranked_on_one_half_and_reported_on_the_other(
    capsys, tmp_path, settings
):
    out = tmp_path / "out"
    code, text, _ = run(capsys, tmp_path / "sweep.toml", settings, "--out", out, "--json")
    assert code == 0
    result = json.loads(text)
    names = [
        "heatmap.png",
        "mdm-sweep.toml",
        "parallel.png",
        "pareto.png",
        "table.csv",
        "table.md",
        "table.parquet",
        "winner.toml",
    ]
    assert sorted(
        path.name for path in out.iterdir() if path.is_file() and path.name[0] != "."
    ) == sorted([*names, "sweep.json"])
    assert [row["quality"] for row in result["rows"]] == sorted(
        (row["quality"] for row in result["rows"]), reverse=True
    )
    table = pq.read_table(out / "table.parquet")
    best = result["rows"][0]["point"]
    assert table["rank"].to_pylist()[best] == 1
    with (out / "table.csv").open() as file:
        assert (
            float(list(csv.DictReader(file))[best]["quality"])
            == table["quality"].to_pylist()[best]
        )
    assert "on the 3 images that chose it" in result["summary"]
    assert "on the 3 others" in result["summary"]
    read = config_files.load(MDMConfig, out / "winner.toml")
    assert read.learning_rate == table["learning_rate"].to_pylist()[best]
    assert {term.name: term.weight for term in read.objective}["area"] == table[
        "objective.area"
    ].to_pylist()[best]
    assert (
        "## The winner and the front, on the 3 images that did not choose"
        in (out / "table.md").read_text()
    )

    kept = {path: path.stat().st_mtime_ns for path in (out / "points").iterdir()}
    more = settings | {
        "axes": settings["axes"] | {"learning_rate": [0.1, 0.3, 0.5]},
        "tune_on": 1.0,
        "quality": {},
    }
    code, text, _ = run(capsys, tmp_path / "sweep.toml", more, "--out", out)
    assert code == 0
    assert "6 points, 6 images, quality = sparseness - complexity" in text
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert len(list((out / "points").iterdir())) == 6
    code, _, error = run(
        capsys, tmp_path / "sweep.toml", settings, "--out", out, "--limit", 2
    )
    assert code == 2
    assert "images.count 6 -> 2" in error


def test_draws_and_points_of_a_file(settings):
    flat = config_files.build(
        SweepConfig,
        tomllib.loads(
            'count = 3\n[axes]\nobjective.area = { low = 1.0, high = 9.0 }\nfill = ["mean"]'
        ),
    )
    points, _ = flat.resolve()
    assert [list(each.settings) for each in points] == [["objective.area", "fill"]] * 3
    listed = config_files.build(
        SweepConfig,
        tomllib.loads(
            '[[points]]\npreset = "paper"\n[[points]]\nobjective = { kl = 1.0, area = 2.0 }'
        ),
    )
    points, asked = listed.resolve()
    assert points[0].config == PRESETS["paper"]
    assert [term.name for term in points[1].config.objective] == ["kl", "area"]
    assert [each.split(":")[0] for each in asked] == list(SweepConfig.metrics)


def test_shares_are_spread_and_leave_images_on_both_sides():
    assert choosing_images(6, 0.5) == [1, 3, 5]
    assert choosing_images(5, 1.0) == [0, 1, 2, 3, 4]
    assert choosing_images(8, 0.25) == [3, 7]
    for count, share in ((1, 0.5), (3, 0.2)):
        with pytest.raises(InputError, match="give more images"):
            choosing_images(count, share)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"learning_rates": [1.0]}, "did you mean 'learning_rate'"),
        ({"metric": ["energy"]}, "unknown setting 'metric': did you mean 'metrics'"),
        ({"metrics": "energy"}, "the setting metrics is 'energy': write a list of names"),
        ({"metrics": ["energi"]}, "unknown metric 'energi'"),
        ({"metrics": []}, "there are no metrics"),
        ({"quality": {"insertion": 1.0}}, "unknown metric of this sweep 'insertion'"),
        ({"quality": {"sparseness": "x"}}, "the setting quality is"),
        ({"quality": {"sparseness": -1.0}}, "higher is better, give one above zero"),
        ({"axes": {}}, "give either a table [axes]"),
        ({"points": [{"steps": 3}]}, "give either a table [axes]"),
        ({"axes": {"steps": []}}, "the axis steps is []"),
        ({"axes": {"steps": [0]}}, "the point (steps=0) cannot be: steps is 0"),
        ({"axes": {"stepps": [1]}}, "did you mean 'steps'"),
        ({"axes": [1]}, "the setting axes is [1]"),
        (
            {"axes": {"sizes": [[4, 8]], "stack_weights": [[1.0]]}},
            "1 stack_weights for 2 sizes",
        ),
        ({"count": -1}, "count is -1"),
        ({"limit": 0}, "limit is 0"),
        ({"limit": True}, "the setting limit is true: write a whole number"),
        ({"limit": 1}, "tune_on is 0.5, and there are 1 images"),
        ({"tune_on": 0}, "tune_on is 0"),
        ({"tune_on": 1.5}, "tune_on is 1.5"),
        ({"seed": -1}, "the seed is -1"),
        ({"targets": "both"}, "unknown targets 'both'"),
        ({"base": "fasst"}, "did you mean 'fast'"),
        ({"node": "similarity"}, "is of prototypes"),
        ({"data": "folder:nowhere"}, "nowhere"),
        ({"metrics": ["energy"], "quality": {}}, "compares a map with the object's pixels"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_computed(
    capsys, tmp_path, settings, changed, sentence
):
    if "learning_rates" in changed:
        changed = {"axes": changed}
    code, out, error = run(
        capsys, tmp_path / "sweep.toml", settings | changed, "--out", tmp_path / "out"
    )
    assert code == 2
    assert out == ""
    assert error.startswith("mdm: ")
    assert error.count("\n") == 1
    assert sentence in error
    assert not list(tmp_path.rglob("*.parquet"))


def test_files_that_cannot_be_read(capsys, tmp_path, settings):
    assert main(["sweep", str(tmp_path / "none.toml")]) == 2
    assert "cannot read the config" in capsys.readouterr().err
    (tmp_path / "broken.toml").write_text("axes = [")
    assert main(["sweep", str(tmp_path / "broken.toml")]) == 2
    assert "is not valid TOML" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    code, _, error = run(
        capsys, tmp_path / "sweep.toml", settings, "--out", tmp_path / "file"
    )
    assert (code, error.count("\n")) == (2, 1)
