"""`mdm run`, `mdm run status` and `mdm run verify` as a person meets them: what is said, what is
kept, what is mended."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import PIL.Image
import pytest
from bad_images import Expected, make_bad_images, without_rights
from flax import nnx
from test_run_processes import contents, masks_of, same
from test_run_store import small_disk

import mdm_jax
from mdm_jax.cli.main import main
from mdm_jax.cli.progress_bar import RunBar
from mdm_jax.models import weights
from mdm_jax.models.resnet import ResNet
from mdm_jax.runs.store import open_store
from mdm_jax.text_files import file_id

COUNT = 10
CLASSES = ("bad", "good")
"""of the images; the network knows one more"""


def write_model(folder, seed=0):
    """A small network on 32x32 images."""
    folder.mkdir()
    network = ResNet(num_classes=3, widths=(4, 8), depths=(1, 1), rngs=nnx.Rngs(seed))
    network.fc.kernel[...] *= 4.0
    weights.save(network, folder / "model.safetensors")
    fit = {
        "input_size": [3, 32, 32],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    described = {
        "architecture": "resnet",
        "num_classes": 3,
        "model_args": {"widths": [4, 8], "depths": [1, 1]},
    }
    described |= {"label_names": [*CLASSES, "a <b>third</b>"], "pretrained_cfg": fit}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def write_photos(folder):
    """Gray images, bright in one place, a folder for each class."""
    for number in range(COUNT):
        rng = np.random.default_rng(number)
        image = rng.uniform(0.0, 0.3, (32, 32, 3))
        y, x = rng.integers(0, 24, 2)
        image[y : y + 8, x : x + 8] += 0.6
        path = folder / "test" / CLASSES[number % 2] / f"image-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray((image * 255).astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, another, images and a config of few steps."""
    folder = tmp_path_factory.mktemp("place")
    write_model(folder / "model")
    write_model(folder / "other_model", seed=1)
    write_photos(folder / "photos")
    (folder / "quick.toml").write_text("steps = 4\nsizes = [4, 8]\n")
    (folder / "slow.toml").write_text("steps = 5\nsizes = [4, 8]\n")
    return folder


@pytest.fixture
def asked(place):
    """The command of a run at `out`, with other or more options."""

    def command(out, **options):
        given = {
            "data": f"folder:{place / 'photos'}",
            "weights": place / "model",
            "config": place / "quick.toml",
            "chunk": 4,
        }
        given = {
            name: value
            for name, value in (given | {"out": out} | options).items()
            if value is not None
        }
        pairs = (
            [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
            for name, value in given.items()
        )
        return ["run", *itertools.chain(*pairs)]

    return command


@pytest.fixture(scope="module")
def undisturbed(place, tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    command = [
        "run",
        "--data",
        f"folder:{place / 'photos'}",
        "--weights",
        place / "model",
        "--config",
        place / "quick.toml",
    ]
    with redirect_stdout(StringIO()):
        assert main([*map(str, command), "--chunk", "4", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run_copy(undisturbed, tmp_path):
    return shutil.copytree(undisturbed, tmp_path / "run")


@pytest.fixture
def said(capsys):
    """What a command prints: its exit code, standard output and standard error."""

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def refusal(result, *parts):
    """That a command was refused in one sentence, which holds these parts."""
    code, out, err = result
    err = re.sub(r"^going on: .*\n", "", err)
    assert (code, out) == (2, ""), err
    assert err.startswith("mdm: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert [part for part in parts if part not in err] == [], err
    return err


def records_of(folder):
    return mdm_jax.open_run(folder).records.to_pydict()


# Run


@pytest.mark.slow
def test_a_run_and_the_same_command_again(asked, undisturbed, tmp_path, said):
    command = asked(tmp_path / "run")
    code, out, err = said(*command)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["status", "rows"]
    assert lines[1].split() == ["out", "of", "steps", str(COUNT)]
    rates = (
        r"10 explained in [\d.]+ s after [\d.]+ s of compilation: [\d.]+ images/s, [\d.]+"
        r" evaluations/s, devices at work \d+%"
    )
    assert re.match(rates, lines[2])
    assert lines[3].strip() == str(tmp_path / "run")
    assert same(tmp_path / "run", undisturbed)
    before = contents(tmp_path / "run")
    code, out, err = said(*command)
    assert (code, err) == (0, "going on: 10 of 10 are there\n")
    assert out.splitlines()[0] == "nothing was left to do: 10 are there"
    assert contents(tmp_path / "run") == before


@pytest.fixture(scope="module")
def changes(place):
    """Options that make another run of it, and what the sentence says."""
    fewer = shutil.copytree(place / "photos", place / "fewer")
    (fewer / "test" / "bad" / "image-0.png").unlink()
    another = shutil.copytree(place / "photos", place / "another")
    shutil.copy(
        another / "test" / "bad" / "image-0.png", another / "test" / "bad" / "image-2.png"
    )
    return {
        "seed": ({"seed": 3}, "settings.seed 0 -> 3"),
        "model": ({"weights": place / "other_model"}, "settings.model.weights"),
        "fewer images": ({"data": f"folder:{fewer}"}, "layout.items 10 -> 9"),
        "an image changed": ({"data": f"folder:{another}"}, "settings.data.files"),
        "steps": ({"config": place / "slow.toml"}, "settings.config.steps 4 -> 5"),
        "chunk": ({"chunk": 5}, "layout.chunk 4 -> 5"),
        "method": (
            {"method": "gradient", "config": None},
            'settings.method "mdm" -> "gradient"',
        ),
        "targets": ({"targets": "top2"}, 'settings.targets "prediction" -> "top2"'),
        "dtype": ({"dtype": "bfloat16"}, 'settings.model.dtype "float32" -> "bfloat16"'),
    }


CHANGES = (
    "seed",
    "model",
    "fewer images",
    "an image changed",
    "steps",
    "chunk",
    "method",
    "targets",
    "dtype",
)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_another_run_is_refused_with_the_difference(
    asked, undisturbed, changes, change, said
):
    assert set(CHANGES) == changes.keys()
    options, difference = changes[change]
    before = contents(undisturbed)
    for dry_run in ({}, {"dry_run": True}):
        refusal(
            said(*asked(undisturbed, **options, **dry_run)),
            "holds a run made with other settings",
            difference,
            "--out",
        )
    assert contents(undisturbed) == before


def test_a_dry_run_writes_nothing(asked, run_copy, tmp_path, said):
    code, out, err = said(*asked(tmp_path / "new" / "run", dry_run=True))
    assert (code, err) == (0, "")
    assert not (tmp_path / "new").exists()
    told = dict(
        re.split(r"  +", line.strip(), maxsplit=1) for line in out.splitlines()[1:-1]
    )
    assert told["chunks"] == "3 of 4 images, 0 committed"
    assert told["this process"] == "10 rows in 3 chunks"
    assert re.fullmatch(r"[\d.]+ s", told["time"])
    assert "nothing was written (--dry-run)" in out
    size = float(told["store"].removesuffix(" kB")) * 1000
    written = sum(
        len(content)
        for name, content in contents(run_copy).items()
        if not name.endswith(".json")
    )
    assert 0.5 * written < size < 2 * written
    (run_copy / "records" / "00001.parquet").unlink()
    before = contents(run_copy)
    out = said(*asked(run_copy, dry_run=True))[1]
    assert "3 of 4 images, 2 committed" in out
    assert "4 rows in 1 chunks" in out
    assert contents(run_copy) == before


def test_status_and_json(asked, undisturbed, run_copy, tmp_path, said):
    code, out, err = said("run", "status", undisturbed)
    assert (code, err) == (0, "")
    assert "out of steps    10" in out
    assert "3 of 3 chunks, 10 of 10 rows, " in out
    (run_copy / "records" / "00001.parquet").unlink()
    status = json.loads(said("run", "status", run_copy, "--json")[1])
    assert status["rows"] == [{"status": "out of steps", "rows": 6}]
    assert status["summary"].startswith("2 of 3 chunks, 6 of 10 rows")
    found = json.loads(said("run", "verify", run_copy, "--check-only", "--json")[1])
    assert [(row["what"], row["file"]) for row in found["rows"]] == [
        ("missing", "records/00001.parquet")
    ]
    gone_on = json.loads(said(*asked(run_copy, json=True))[1])
    assert gone_on["rows"] == [{"status": "out of steps", "rows": 4}]
    assert gone_on["files"] == [str(run_copy)]
    assert json.loads(said("run", "verify", run_copy, "--json")[1])["rows"] == []
    assert json.loads(said(*asked(run_copy, dry_run=True, json=True))[1])["files"] == []
    for command in ("status", "verify"):
        refusal(
            said("run", command, tmp_path),
            "holds no run: give the folder that `mdm run` wrote",
        )


@pytest.mark.slow
def test_targets(asked, tmp_path, said):
    def ran(targets):
        assert said(*asked(tmp_path / targets, targets=targets, limit=4))[0] == 0
        return records_of(tmp_path / targets)

    top = ran("top2")
    assert top["item"] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert top["rank"] == [0, 1] * 4
    assert top["target"][::2] == top["prediction"][::2]
    assert all(
        first != second for first, second in zip(top["target"][::2], top["target"][1::2])
    )
    assert ran("1,2")["target"] == [1, 2] * 4
    label = ran("label")
    assert label["target"] == label["label"]
    assert [CLASSES[number] for number in label["target"]] == label["label_name"]


def test_labels_that_the_network_does_not_know(asked, place, tmp_path, said):
    photos = shutil.copytree(place / "photos", tmp_path / "photos")
    (photos / "test" / "good").rename(photos / "test" / "unheard of")
    command = asked(tmp_path / "run", data=f"folder:{photos}", targets="label")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, out, err = said(*command, "--strict")
    assert code == 3
    # It is asked twice which classes they are, and said once.
    assert (
        err.count("1 of the data's 2 classes are none of the network's (unheard of)") == 1
    )
    assert "5 of 10 explained in" in out
    assert (
        "not explained: test/unheard of/image-1.png: the network has no class unheard of"
        in out
    )
    assert (
        records_of(tmp_path / "run")["status"] == ["OUT_OF_STEPS"] * 5 + ["NO_TARGET"] * 5
    )


@pytest.mark.slow
def test_another_method(asked, tmp_path, said):
    assert said(*asked(tmp_path / "run", method="gradient", config=None, limit=3))[0] == 0
    run = mdm_jax.open_run(tmp_path / "run")
    assert run.mask_vectors == ()
    assert run.saliency(2).shape == (32, 32)
    assert run.records["status"].to_pylist() == ["CONVERGED"] * 3
    assert said("run", "verify", tmp_path / "run")[0] == 0


def test_shares_make_the_whole(asked, undisturbed, tmp_path, said):
    with open_store(tmp_path / "run").locked((1, 2)):
        code, first, _ = said(*asked(tmp_path / "run", shard="0/2"))
    assert "6 explained in" in first
    assert "1 of 3 chunks are missing, and other processes are at work" in first
    assert code == 0
    code, first, _ = said(*asked(tmp_path / "run", shard="0/2"))
    assert "the run is not whole: 1 of 3 chunks are missing, and no process is at" in first
    assert code == 4
    assert "2 of 3 chunks, 6 of 10 rows" in said("run", "status", tmp_path / "run")[1]
    code, second, _ = said(*asked(tmp_path / "run", shard="1/2"))
    assert "4 explained in" in second
    assert (code, "not whole" in second) == (0, False)
    assert same(tmp_path / "run", undisturbed)


BAD = {
    "data kind": (
        {"data": "foldr:x"},
        "unknown data source 'foldr': did you mean 'folder:PATH'?",
    ),
    "data": (
        {"data": "folder:/nowhere"},
        "/nowhere is not a folder: give the folder that holds the images",
    ),
    "split": ({"split": "trian"}, "unknown split"),
    "weights": ({"weights": "/nowhere"}, "no weights at /nowhere"),
    "model": (
        {"model": "resnt50"},
        "unknown architecture 'resnt50': did you mean 'resnet50'",
    ),
    "method": (
        {"method": "gradiant", "config": None},
        "unknown method 'gradiant': did you mean 'gradient'?",
    ),
    "config of MDM": (
        {"method": "gradient"},
        "the preset and the settings of MDM are not for gradient",
    ),
    "targets": ({"targets": "best"}, "targets are 'best': write prediction, label, top5"),
    "top": ({"targets": "top4"}, "targets are top4, but the network has 3 classes"),
    "class": ({"targets": "1,3"}, "targets are 1,3, but the network has 3 classes, 0 to 2"),
    "node": ({"node": "logits2"}, "unknown node 'logits2': did you mean 'logits'?"),
    "sizes": ({"config": "sizes.toml"}, "does not fit"),
    "chunk": ({"chunk": 0}, "chunk is 0: give a whole number from 1"),
    "limit": ({"limit": -1}, "limit is -1: give a whole number from 1"),
    "workers": ({"workers": -1}, "workers is -1: give the number of processes"),
    "micro batch": ({"micro_batch": 0}, "micro_batch is 0"),
    "seed": ({"seed": -1}, "the seed is -1"),
    "shard": ({"shard": "2/2"}, "the shard is '2/2': give i/n"),
    "coordinator": ({"coordinator": "host:1"}, "the coordinator needs a shard i/n"),
    "distributed": (
        {"distributed": True, "shard": "0/2"},
        "--distributed asks the cluster for the share",
    ),
    "slots": (
        {"method": "gradient", "config": None, "slots": "True"},
        "slots are for methods that converge",
    ),
    "option": ({"limt": 3}, "unknown option --limt: did you mean --limit?"),
    "no place": ({"out": ""}, "the place of the run has no name: give a folder"),
    "a file": ({"out": __file__}, "is a file: give a folder for the run"),
    "below a file": ({"out": f"{__file__}/run"}, "cannot write to"),
    "another kind of place": (
        {"out": "ftp://host/run"},
        "ftp://host/run is no place for a run: give a folder, or a URL",
    ),
    "bucket": ({"out": "gs://x/run"}, "gs://x/run cannot hold a run"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_one_sentence(asked, tmp_path, case, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sizes.toml").write_text("sizes = [100]")
    options, sentence = BAD[case]
    refusal(said(*asked(**({"out": "run"} | options))), sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["sizes.toml"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "status", "here", "there"], "unknown argument there"),
        (
            ["run", "verify", "here", "--chek-only"],
            "unknown option --chek-only: did you mean --check-only?",
        ),
        (["run", "verify", "ftp://here"], "ftp://here is no place for a run"),
        (["run", "status", "here"], "here holds no run"),
    ],
)
def test_what_cannot_be_looked_at_is_one_sentence(
    tmp_path, arguments, sentence, said, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    refusal(said(*arguments), sentence)
    assert list(tmp_path.iterdir()) == []


def test_the_clock_may_go_backwards(asked, undisturbed, tmp_path, said, monkeypatch):
    now = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    monkeypatch.setattr(time, "strftime", lambda *_: f"{next(now)}")
    assert said(*asked(tmp_path / "run"))[0] == 0
    monkeypatch.undo()
    assert same(tmp_path / "run", undisturbed)
    assert said("run", "verify", tmp_path / "run")[0] == 0


# Verify


def cut(path, left):
    path.write_bytes(path.read_bytes()[:left])


def edit(**settings):
    """Change settings in run.json by hand."""

    def change(run):
        described = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(
            json.dumps(described | {"settings": described["settings"] | settings})
        )

    return change


def several(run):
    (run / "mask_vectors/4x4/c/0/0/0").unlink()
    cut(run / "mask_vectors/8x8/c/1/0/0", 20)
    (run / "records/00002.parquet").unlink()


def hidden(run):
    """Metadata that are damaged hide an array that is."""
    cut(run / "mask_vectors/8x8/zarr.json", 10)
    (run / "mask_vectors/8x8/c/1/0/0").unlink()


def lost(run):
    """Nothing of what was committed is left."""
    for path in (run / "records").iterdir():
        cut(path, 100)


def copied(source, target):
    return lambda run: shutil.copy(run / source, run / target)


DAMAGES = {
    "nothing": (lambda run: None, set(), 0),
    "array gone": (
        lambda run: (run / "mask_vectors/8x8/c/0/0/0").unlink(),
        {"missing mask_vectors/8x8/c/0/0/0"},
        4,
    ),
    "array cut": (
        lambda run: cut(run / "mask_vectors/4x4/c/2/0/0", 30),
        {"corrupt mask_vectors/4x4/c/2/0/0"},
        2,
    ),
    "record gone": (
        lambda run: (run / "records/00000.parquet").unlink(),
        {"missing records/00000.parquet"},
        4,
    ),
    "record cut": (
        lambda run: cut(run / "records/00002.parquet", 99),
        {"corrupt records/00002.parquet"},
        2,
    ),
    "record over another": (
        copied("records/00000.parquet", "records/00001.parquet"),
        {"duplicate records/00001.parquet"},
        4,
    ),
    "record too many": (
        copied("records/00000.parquet", "records/00007.parquet"),
        {"stray records/00007.parquet"},
        0,
    ),
    "zarr.json gone": (lambda run: (run / "zarr.json").unlink(), {"missing zarr.json"}, 0),
    "metadata cut": (
        lambda run: cut(run / "mask_vectors/4x4/zarr.json", 9),
        {"corrupt mask_vectors/4x4/zarr.json"},
        0,
    ),
    "array hidden": (hidden, {"corrupt mask_vectors/8x8/zarr.json"}, 4),
    "run.json edited": (
        edit(seed=9),
        {"corrupt run.json"},
        0,
    ),
    "run.json gone": (lambda run: (run / "run.json").unlink(), {"missing run.json"}, 0),
    "run.json cut": (lambda run: cut(run / "run.json", 50), {"corrupt run.json"}, 0),
    "all lost": (lost, {f"corrupt records/0000{chunk}.parquet" for chunk in range(3)}, 10),
    "several": (
        several,
        {
            "missing mask_vectors/4x4/c/0/0/0",
            "corrupt mask_vectors/8x8/c/1/0/0",
            "missing records/00002.parquet",
        },
        10,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_finds_and_mends(run_copy, undisturbed, damage, said):
    do, faults, again = DAMAGES[damage]
    do(run_copy)
    before = contents(run_copy)
    code, out, err = said("run", "verify", run_copy, "--check-only", "--json")
    assert (code, err) == (3 if faults else 0, "")
    assert {f"{row['what']} {row['file']}" for row in json.loads(out)["rows"]} == faults
    assert contents(run_copy) == before
    code, out, _ = said("run", "verify", run_copy)
    assert code == 0
    if faults:
        assert re.search(
            rf"{len(faults)} faults? found in [\d.]+ s, {again} rows computed again, 0 faults left",
            out,
        )
    code, out, err = said("run", "verify", run_copy)
    assert (code, out, err) == (0, "everything is as it was written\n", "")
    assert same(run_copy, undisturbed)


def test_a_file_of_a_stranger_stays_and_is_told(run_copy, said):
    (run_copy / "records" / "<b>mine.txt").write_text("mine")
    for _ in range(2):
        code, out, _ = said("run", "verify", run_copy)
        assert code == 3
        assert "records/<b>mine.txt is no file of this run: move it away" in out
        assert "1 fault left" in out
    assert (run_copy / "records" / "<b>mine.txt").read_text() == "mine"


def test_a_record_of_another_run(asked, run_copy, undisturbed, tmp_path, said):
    assert said(*asked(tmp_path / "other", seed=1))[0] == 0
    shutil.copy(tmp_path / "other" / "records" / "00000.parquet", run_copy / "records")
    refusal(
        said(*asked(run_copy)),
        f"holds records of another run: `mdm run verify {run_copy}` takes them back",
    )
    assert "4 rows computed again, 0 faults left" in said("run", "verify", run_copy)[1]
    assert same(run_copy, undisturbed)


def test_data_that_moved(place, asked, undisturbed, tmp_path, said):
    photos = shutil.copytree(place / "photos", tmp_path / "photos")
    run = tmp_path / "run"
    assert said(*asked(run, data=f"folder:{photos}"))[0] == 0
    photos.rename(tmp_path / "moved")
    (run / "records" / "00001.parquet").unlink()
    before = contents(run)
    refusal(
        said("run", "verify", run),
        "the run cannot be opened again",
        "is not a folder",
        "give --data and --weights",
    )
    (tmp_path / "moved" / "test" / "bad" / "image-0.png").rename(tmp_path / "away.png")
    moved = f"folder:{tmp_path / 'moved'}"
    refusal(
        said("run", "verify", run, "--data", moved),
        "layout.items 10 -> 9",
        "bring the old images and weights back",
    )
    for path in (
        run / "records"
    ).iterdir():  # even where nothing is committed, it stays the run that it was
        path.rename(path.with_suffix(".aside"))
    refusal(
        said("run", "verify", run, "--data", moved),
        "layout.items 10 -> 9",
        "bring the old images and weights back",
    )
    for path in (run / "records").iterdir():
        path.rename(path.with_suffix(".parquet"))
    assert contents(run) == before
    (tmp_path / "away.png").rename(tmp_path / "moved" / "test" / "bad" / "image-0.png")
    assert said("run", "verify", run, "--data", moved)[0] == 0
    (run / "records" / "00001.parquet").unlink()
    assert said("run", "verify", run)[0] == 0  # it knows by now
    for ours, theirs in zip(masks_of(run), masks_of(undisturbed)):
        np.testing.assert_array_equal(ours, theirs)


# Images that cannot be read


@pytest.mark.slow
def test_bad_images_are_records_and_the_others_right(asked, tmp_path, said):
    expected = make_bad_images(tmp_path / "images")
    markup = {
        "val/bad/[red]<i>.png": Expected("is not an image in a known format"),
        "val/good/<b>&amp;.png": Expected(),
    }
    (tmp_path / "images" / "val/bad/[red]<i>.png").write_text("no image")
    shutil.copy(
        tmp_path / "images" / "val/good/first.png",
        tmp_path / "images" / "val/good/<b>&amp;.png",
    )
    expected = dict(sorted((expected | markup).items()))
    files, good = list(expected), [name for name, what in expected.items() if what.readable]

    command = asked(
        tmp_path / "run", data=f"folder:{tmp_path / 'images'}", split="val", strict=True
    )
    process = subprocess.run(
        without_rights([sys.executable, "-m", "mdm_jax", *command]),
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert process.returncode == 3, process.stderr
    assert f"{len(good)} of {len(files)} explained in" in process.stdout
    assert "val/bad/[red]<i>.png is not an image in a known format" in process.stdout
    assert process.stdout.count("not explained: ") == 5
    assert (
        f"and {len(files) - len(good) - 5} more; the records have the reason of each"
        in process.stdout
    )
    records = records_of(tmp_path / "run")
    assert records["id"] == [file_id(name) for name in files]
    for what, status, reason in zip(
        expected.values(), records["status"], records["reason"]
    ):
        assert status == ("OUT_OF_STEPS" if what.readable else "UNREADABLE")
        assert reason == "" if what.readable else re.search(what.reason, reason)
    code, out, err = said(
        *command
    )  # nothing is done again, for the file that a root may read neither
    assert (code, "nothing was left to do" in out) == (3, True), err

    for name in good:
        target = tmp_path / "good" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "images" / name, target)
    assert (
        said(
            *asked(
                tmp_path / "alone",
                data=f"folder:{tmp_path / 'good'}",
                split="val",
                strict=True,
            )
        )[0]
        == 0
    )
    alone, rows = masks_of(tmp_path / "alone"), [files.index(name) for name in good]
    for found, right in zip(masks_of(tmp_path / "run"), alone):
        np.testing.assert_array_equal(found[rows], right)
        assert np.isnan(np.delete(found, rows, axis=0)).all()


def test_bad_images_do_not_fail_a_run(asked, tmp_path, said):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).write_text("no image")
    code, out, err = said(*asked(tmp_path / "run", data=f"files:{tmp_path / 'images'}"))
    assert (code, err) == (0, "")
    assert "0 of 2 explained in" in out
    assert records_of(tmp_path / "run")["status"] == ["UNREADABLE"] * 2
    assert said("run", "verify", tmp_path / "run")[0] == 0
    refusal(
        said(*asked(tmp_path / "other", data=f"files:{tmp_path / 'images'}", dry_run=True)),
        "none of the first 4 images could be read: check the data",
    )


# Places that fail


@pytest.mark.slow
def test_a_disk_that_fills_up_in_the_middle(asked, tmp_path, said):
    assert said(*asked(tmp_path / "whole", chunk=2))[0] == 0
    with small_disk(tmp_path / "small", 88) as disk:
        command = asked(disk / "run", chunk=2)
        refusal(
            said(*command),
            "No space left on device",
            "nothing committed is lost; free some space, then the same command",
        )
        committed = open_store(disk / "run").committed()
        assert 0 < len(committed) < 5
        refusal(
            said(*command),
            "No space left on device",
            "nothing committed is lost; free some space, then the same command",
        )
        assert open_store(disk / "run").committed() >= committed
        subprocess.run(["mount", "-o", "remount,size=1024k", disk], check=True)
        code, _, err = said(*command)
        assert code == 0
        assert err.startswith("going on: ")
        assert same(disk / "run", tmp_path / "whole")
        assert said("run", "verify", disk / "run")[0] == 0


@pytest.mark.slow
def test_a_folder_turned_read_only(asked, undisturbed, tmp_path, said):
    with small_disk(tmp_path / "small", 1024) as disk:
        run = disk / "run"
        assert said(*asked(run, shard="0/2"))[0] == 4
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        sentence = (
            "Read-only file system): nothing committed is lost; make it writable, then the same"
            " command goes on"
        )
        refusal(said(*asked(run)), sentence)
        refusal(said("run", "verify", run), sentence)
        assert "2 of 3 chunks, 6 of 10 rows" in said("run", "status", run)[1]
        assert said("run", "verify", run, "--check-only")[0] == 3
        assert said(*asked(run, dry_run=True))[0] == 0
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert said(*asked(run))[0] == 0
        assert same(run, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [None, 0, 50])
@pytest.mark.parametrize(
    "name",
    ["run.json", "zarr.json", "mask_vectors/zarr.json", "mask_vectors/8x8/zarr.json"],
)
def test_what_says_what_a_run_is_comes_back(
    asked, run_copy, undisturbed, name, damage, said
):
    if damage is None:
        (run_copy / name).unlink()
    else:
        cut(run_copy / name, damage)
    before = contents(run_copy)
    if name == "run.json":
        (run_copy / "run.json.copy").unlink()
        before = contents(run_copy)
        sentence = "run.json is gone" if damage is None else "run.json is damaged"
        for command in ("status", "verify"):
            refusal(
                said("run", command, run_copy),
                f"{sentence}: the same command again writes it anew",
            )
        refusal(
            said(*asked(run_copy, seed=1)),
            "other settings (its run.json is gone or damaged)",
        )
    else:
        assert "3 of 3 chunks" in said("run", "status", run_copy)[1]
    assert "3 committed" in said(*asked(run_copy, dry_run=True))[1]
    assert contents(run_copy) == before
    code, out, _ = said(*asked(run_copy))
    assert (code, "nothing was left to do: 10 are there" in out) == (0, True)
    assert same(run_copy, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [None, 0, 50])
def test_a_record_comes_back(asked, run_copy, undisturbed, damage, said):
    record = run_copy / "records" / "00001.parquet"
    if damage is None:
        record.unlink()
    else:
        cut(record, damage)
    assert "2 of 3 chunks, 6 of 10 rows" in said("run", "status", run_copy)[1]
    code, out, err = said(*asked(run_copy))
    assert (code, err) == (0, "going on: 6 of 10 are there\n")
    assert "4 explained in" in out
    assert "; 6 were there" in out
    assert same(run_copy, undisturbed)


def test_a_request_that_is_damaged_comes_back(asked, run_copy, undisturbed, said):
    described = json.loads((run_copy / "run.json").read_text())
    (run_copy / "run.json").write_text(
        json.dumps(described | {"request": {"data": "digits"}})
    )
    (run_copy / "mask_vectors/8x8/c/0/0/0").unlink()
    (run_copy / "run.json.copy").unlink()  # which would be put back
    refusal(
        said("run", "verify", run_copy),
        "the request in run.json lacks",
        "the same `mdm run` command again writes it anew",
    )
    assert said(*asked(run_copy))[0] == 0
    assert said("run", "verify", run_copy)[0] == 0
    assert same(run_copy, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "run.json", "other run.json"])
def test_what_disappears_while_it_is_at_work(
    asked, undisturbed, tmp_path, kind, said, monkeypatch
):
    run, rows = tmp_path / "run", itertools.count(1)
    description = (undisturbed / "run.json").read_text()

    def advance(self, *_, **__):
        if next(rows) == 6:
            while not (
                run / "records" / "00000.parquet"
            ).exists():  # what is being written when a folder goes may make another
                time.sleep(0.01)
            if kind == "folder":
                run.rename(tmp_path / "elsewhere")
            elif kind == "run.json":
                (run / "run.json").unlink()
            else:
                (run / "run.json").write_text(description.replace('"seed": 0', '"seed": 5'))

    monkeypatch.setattr(RunBar, "advance", advance)
    sentence = (
        "run.json is another than when this run began"
        if "other" in kind
        else "run.json was removed while the run was"
    )
    refusal(said(*asked(run)), sentence, "the same command")
    monkeypatch.undo()
    if kind == "folder":
        assert not (run / "records").exists()
        (tmp_path / "elsewhere").rename(run)
    assert said(*asked(run))[0] == 0
    assert same(run, undisturbed)


@pytest.mark.slow
def test_records_that_disappear_while_it_is_at_work(
    asked, undisturbed, tmp_path, said, monkeypatch
):
    run, rows = tmp_path / "run", itertools.count(1)

    def advance(self, *_, **__):
        if next(rows) == 6:
            while not (run / "records" / "00000.parquet").exists():
                time.sleep(0.01)
            shutil.rmtree(run / "records")

    monkeypatch.setattr(RunBar, "advance", advance)
    code, out, _ = said(*asked(run))
    assert (code, "the run is not whole: 1 of 3 chunks are missing" in out) == (4, True)
    monkeypatch.undo()
    assert said(*asked(run))[0] == 0
    assert same(run, undisturbed)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="needs root, to become another user",
)
def test_a_folder_of_another_user(run_copy, said):
    os.seteuid(65534)
    try:
        refused = [said("run", command, run_copy) for command in ("status", "verify")]
    finally:
        os.seteuid(0)
    for each in refused:
        refusal(
            each, "cannot be read (Permission denied): check the permissions and the disk"
        )
