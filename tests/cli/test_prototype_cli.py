"""`mdm prototypes` as a person meets it: what is written, what is not done twice, and what is said
when it cannot be."""

from __future__ import annotations

import json
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO

import filelock
import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from mdm_jax.cli.main import main
from mdm_jax.cli.prototypes import PrototypesCommand, _describe_work
from mdm_jax.data import open_source
from mdm_jax.data.source import read_image
from mdm_jax.models import weights
from mdm_jax.models.architectures import build
from mdm_jax.models.pretrained import load_model
from mdm_jax.prototypes import survey
from mdm_jax.training.prototypes import projection, record

pytestmark = pytest.mark.slow

CLASSES = ("bad", "good")
BACKBONE = {"widths": [4, 8], "depths": [1, 1]}


def write_model(folder, family="protopnet"):
    """A prototype network of random weights on 32x32 images, one class more than the images
    have."""
    folder.mkdir()
    arguments = (
        {"backbone_arguments": BACKBONE, "prototypes_per_class": 2, "width": 6}
        if family != "resnet"
        else BACKBONE
    )
    weights.save(
        build(family, num_classes=3, size=(32, 32), rngs=nnx.Rngs(0), **arguments),
        folder / "model.safetensors",
    )
    fit = {
        "input_size": [3, 32, 32],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    told = {
        "architecture": family,
        "num_classes": 3,
        "model_args": arguments,
        "label_names": [*CLASSES, "a <b>third</b>"],
    }
    (folder / "config.json").write_text(json.dumps(told | {"pretrained_cfg": fit}))
    return folder


def write_photos(folder):
    """Gray images, bright in one place, a folder for each split and class."""
    for number in range(14):
        rng = np.random.default_rng(number)
        image = rng.uniform(0.0, 0.3, (32, 32, 3))
        y, x = rng.integers(0, 24, 2)
        image[y : y + 8, x : x + 8] += 0.6
        path = (
            folder
            / ("train" if number < 8 else "test")
            / CLASSES[number % 2]
            / f"image-{number}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray((image * 255).astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model with the record of a push, images, and MDM of two steps."""
    root = tmp_path_factory.mktemp("prototypes")
    write_photos(root / "photos")
    write_model(root / "model")
    classifier, source = (
        load_model(root / "model"),
        open_source(f"folder:{root / 'photos'}", "train"),
    )
    found = projection.find_nearest(classifier, source, batch=8)
    pushed = projection.push_records(
        found, source, classifier.network.prototype_classes, classifier.class_names
    )
    record.write(
        root / "model", record.PushRecord(f"folder:{root / 'photos'}", "train", pushed, 7)
    )
    (root / "quick.toml").write_text("sizes = [4, 8]\nsteps = 2\n")
    return root


def said(*arguments):
    """Exit code and the lines of the output."""
    output = StringIO()
    with redirect_stdout(output):
        code = main([*map(str, arguments)])
    return code, output.getvalue()


def command(place, out, *more, model="model"):
    quick = ["--config", place / "quick.toml", "--regions", "mdm", "activation_map"]
    return said(
        "prototypes",
        place / model,
        "--nearest",
        "1",
        "--images",
        "2",
        "--top",
        "2",
        "--out",
        out,
        *quick,
        *more,
    )


@pytest.fixture(scope="module")
def done(place):
    """The command once, and its result."""
    code, text = command(place, place / "out", "--json")
    assert code == 0
    return place / "out", json.loads(text)


def test_everything_is_written_and_told(place, done):
    out, result = done
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {
        "index.html",
        "prototypes.json",
        "prototypes.parquet",
        "settings.json",
        "data/index.js",
        "nearest.npz",
    } <= files
    assert {"regions/mdm/maps-00000.npz", "regions/activation_map/maps-00000.npz"} <= files
    figures = sorted(path for path in files if path.startswith("figures/"))
    assert len(figures) == 2
    assert [row["image"] for row in result["rows"]] == [
        "test/bad/image-10.png",
        "test/good/image-11.png",
    ]
    assert result["rows"][1]["is"] == "good"
    told = json.loads((out / "prototypes.json").read_text())
    assert [each["class_name"] for each in told["prototypes"][:4]] == [
        "bad",
        "bad",
        "good",
        "good",
    ]
    for each in told["prototypes"][:4]:
        assert each["source"]["id"].startswith(f"train/{each['class_name']}/")
        assert len(each["nearest"]) == 1
        assert each["source"]["similarity"] <= each["nearest"][0]["similarity"] + 1e-5
    assert_similarities(place, told)
    assert told["prototypes"][4]["source"] is None
    assert "no image of the class" in told["prototypes"][4]["note"]
    table = pq.read_table(out / "prototypes.parquet").to_pandas()
    assert set(table["region"]) == {"mdm", "activation_map"}
    assert len(table) == len(
        table.drop_duplicates(["region", "split", "item", "prototype"])
    )
    assert table["retained"].notna().all()
    with np.load(out / "regions" / "mdm" / "maps-00000.npz") as stored:
        assert stored["saliency"].shape[1:] == (32, 32)
        assert stored["saliency"].dtype == np.float16
    assert "6 prototypes of model" in result["summary"]


def assert_similarities(place, told):
    """What is told of pairs is what the network says of the images, whatever node their regions are
    of."""
    classifier, train = (
        load_model(place / "model"),
        open_source(f"folder:{place / 'photos'}", "train"),
    )
    for each in told["prototypes"]:
        for pair in [each["source"], *each["nearest"]]:
            if pair is not None:
                _, out = classifier(
                    classifier.preprocess(read_image(train, pair["item"]).image)[None]
                )
                np.testing.assert_allclose(
                    pair["similarity"], out["similarities"][0, each["prototype"]], rtol=1e-4
                )


def test_a_search_is_not_done_twice_and_more_images_cost_only_themselves(
    place, done, tmp_path, monkeypatch
):
    out = shutil.copytree(done[0], tmp_path / "out")
    asked = []
    real = survey.find_regions

    def counted(classifier, images, prototypes, **options):
        asked.append(options["ids"])
        return real(classifier, images, prototypes, **options)

    monkeypatch.setattr(survey, "find_regions", counted)
    monkeypatch.setattr(projection, "find_nearest", None)  # as was done before
    code, text = command(place, out)
    assert code == 0
    assert "0 regions found" in text
    assert asked == []
    code, text = command(place, out, "--images", "0")
    assert code == 0
    assert not list((out / "figures").glob("*.png"))
    assert asked == []
    code, text = command(place, out, "--images", "3", "--share", "0.2")
    new = {key for keys in asked for key in keys}
    assert code == 0
    assert new
    assert {key.split("#")[0] for key in new} <= {"test/0", "test/2", "test/4"}
    assert len(list((out / "figures").glob("*.png"))) == 3


def test_images_that_another_network_found_are_not_its_own(
    place, done, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    shutil.copytree(done[0], out)
    shutil.rmtree(out / "regions")  # as when it was stopped before the first
    shutil.copytree(place / "model", tmp_path / "model")
    arrays = load_file(tmp_path / "model" / "model.safetensors")
    save_file(
        arrays | {"prototypes": arrays["prototypes"][::-1].copy()},
        tmp_path / "model" / "model.safetensors",
    )
    real, asked = projection.find_nearest, []
    monkeypatch.setattr(
        projection,
        "find_nearest",
        lambda *given, **how: asked.append(how["own_class"]) or real(*given, **how),
    )
    assert (
        command(place, out, "--images", "0", "--regions", "cell", model=tmp_path / "model")[
            0
        ]
        == 0
    )
    assert asked == [False]
    assert (
        command(place, out, "--images", "0", "--regions", "cell", model=tmp_path / "model")[
            0
        ]
        == 0
    )
    assert asked == [False]


def test_a_damaged_record_is_said_whichever_entry_it_is_in(place, tmp_path, capsys):
    shutil.copytree(place / "model", tmp_path / "model")
    path = tmp_path / "model" / record.FILE
    whole = path.read_text()
    other = next(
        each["item"]
        for each in json.loads(whole)["pushed"]
        if each["item"] != json.loads(whole)["pushed"][1]["item"]
    )
    cases = [
        ({"item": 99}, "prototype 1 is from item 99"),
        ({"item": -1}, "the item or position of prototype 1 is negative"),
        ({"item": other}, "give the --data and --train-split of the training"),
        ({"position": [0, -1]}, "the item or position of prototype 1 is negative"),
        ({"distance": float("nan")}, "the distance of prototype 1 is nan"),
        (
            {"class_index": 2},
            "prototype 1 is of class 2 by prototypes.json, of class 0 by the network",
        ),
    ]
    for change, sentence in cases:
        told = json.loads(whole)
        told["pushed"][1] |= change
        path.write_text(json.dumps(told))
        code, _ = command(place, tmp_path / "out", model=tmp_path / "model")
        error = capsys.readouterr().err
        assert code == 2, change
        assert sentence in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_data_are_cut_as_they_were_in_training(place, tmp_path, capsys):
    shutil.copytree(place / "model", tmp_path / "model")
    told = record.read(place / "model")
    record.write(tmp_path / "model", replace(told, source=f"cropped:{told.source}"))
    code, _ = command(
        place, tmp_path / "out", "--data", told.source, model=tmp_path / "model"
    )
    assert code == 2
    assert (
        f"was trained on images cut to their boxes: give --data cropped:{told.source}"
        in capsys.readouterr().err
    )
    code, _ = command(place, tmp_path / "out", "--data", f"cropped:{told.source}")
    assert code == 2
    assert (
        f"was trained on images not cut to their boxes: give --data {told.source}"
        in capsys.readouterr().err
    )


def test_what_is_found_before_ctrl_c_is_kept(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(survey, "PAIRS_PER_FILE", 3)
    real, calls = survey.find_regions, []

    def stopped(*arguments, **options):
        calls.append(options["ids"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(survey, "find_regions", stopped)
    out = tmp_path / "out"
    code, _ = command(place, out, "--nearest", "0")
    assert code == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert not (out / "index.html").exists()
    first = calls[0]
    code, _ = command(place, out, "--nearest", "0")
    assert code == 0
    assert (out / "index.html").exists()
    again = [key for keys in calls[2:] for key in keys]
    assert sum(key in first for key in again) == len(
        first
    )  # once more for the other way of finding regions only


def test_a_result_is_the_same_whatever_was_there(place, done, tmp_path):
    command(place, tmp_path / "out", "--images", "1", "--nearest", "0")
    command(place, tmp_path / "out")
    pairs = [
        pq.read_table(folder / "prototypes.parquet").to_pandas()
        for folder in (done[0], tmp_path / "out")
    ]
    one, other = (
        table.sort_values(["region", "split", "item", "prototype"]).reset_index(drop=True)
        for table in pairs
    )
    for name in (
        "region",
        "id",
        "prototype",
        "activation",
        "activation_masked",
        "kept_area",
    ):
        np.testing.assert_array_equal(one[name], other[name])


def test_without_a_record_the_nearest_part_of_the_own_class_is_the_source(
    place, done, tmp_path
):
    shutil.copytree(place / "model", tmp_path / "model")
    (tmp_path / "model" / record.FILE).unlink()
    code, text = command(
        place,
        tmp_path / "out",
        "--data",
        f"folder:{place / 'photos'}",
        model=tmp_path / "model",
    )
    assert code == 0
    assert "no push is recorded" in text
    told, before = (
        json.loads((out / "prototypes.json").read_text())["prototypes"]
        for out in (tmp_path / "out", done[0])
    )
    assert [each["source"] and each["source"]["id"] for each in told] == [
        each["source"] and each["source"]["id"] for each in before
    ]


def test_an_xprotonet_shows_its_occurrence_maps(place, tmp_path):
    write_model(tmp_path / "x", "xprotonet")
    data = ["--data", f"folder:{place / 'photos'}", "--images", "1", "--nearest", "0"]
    code, _ = said(
        "prototypes",
        tmp_path / "x",
        *data,
        "--regions",
        "occurrence_map",
        "--out",
        tmp_path / "out",
    )
    assert code == 0
    assert '"key":"occurrence_map"' in (tmp_path / "out" / "data" / "index.js").read_text()
    code, _ = said(
        "prototypes",
        tmp_path / "x",
        *data,
        "--regions",
        "activation_map",
        "--out",
        tmp_path / "out",
    )
    assert code == 2


def test_a_source_that_is_gone_is_said_on_the_page(place, tmp_path):
    shutil.copytree(place / "photos", tmp_path / "photos")
    gone = record.read(place / "model").pushed[0]
    (tmp_path / "photos" / gone.id).write_bytes(b"no image")
    code, text = command(
        place, tmp_path / "out", "--data", f"folder:{tmp_path / 'photos'}", "--nearest", "0"
    )
    assert code == 0
    assert f"{gone.id}" in text
    told = json.loads((tmp_path / "out" / "prototypes.json").read_text())
    assert told["prototypes"][gone.prototype]["source"]["similarity"] is None


def test_what_cannot_be_is_said_in_one_sentence(place, done, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    write_model(tmp_path / "plain", "resnet")
    damaged = shutil.copytree(place / "model", tmp_path / "damaged")
    (damaged / record.FILE).write_text("{}")
    moved = shutil.copytree(place / "photos", tmp_path / "moved")
    (moved / "train" / "bad" / "aaa.png").write_bytes(
        (moved / "train" / "bad" / "image-0.png").read_bytes()
    )
    out = tmp_path / "out"
    cases = [
        (["--images", "-1"], {}, out, "--images is -1: give a whole number from 0"),
        (["--share", "1"], {}, out, "--share is 1.0: give a share"),
        (["--regions", "mmd"], {}, out, "unknown region 'mmd': did you mean 'mdm'?"),
        (
            ["--preset", "nix"],
            {},
            out,
            "unknown --preset 'nix': choose from best, best-2026-11, fast, fast-2026-11, node,"
            " paper",
        ),
        (
            ["--regions", "occurrence_map"],
            {},
            out,
            "this network has no occurrence_map: choose from",
        ),
        (["--regions", "mdm", "mdm"], {}, out, "a region is given twice"),
        (
            [],
            {"model": tmp_path / "plain"},
            out,
            "has no prototypes: give a network that returns",
        ),
        ([], {"model": tmp_path / "nowhere"}, out, "nowhere"),
        ([], {"model": damaged}, out, "prototypes.json is damaged"),
        ([], {}, tmp_path / "full", "full holds other files, such as "),
        (
            [],
            {},
            tmp_path / "full" / "letter.txt",
            "letter.txt is a file: choose a folder",
        ),
        (
            ["--data", f"folder:{moved}"],
            {},
            out,
            "give the --data and --train-split of the training",
        ),
        (["--split", "nights"], {}, done[0], "unknown split"),
        (
            ["--seed", "1"],
            {},
            done[0],
            "regions of mdm made with other settings (seed 0 -> 1)",
        ),
        (["--split", "train"], {}, done[0], "a prototype search made with other settings"),
    ]
    for more, how, folder, sentence in cases:
        code, _ = command(place, folder, *more, **how)
        error = capsys.readouterr().err
        assert code == 2, more
        assert sentence in error
        assert error.count("\n") == 1
    assert not out.exists()


def test_another_search_at_work_in_the_folder_is_said(place, done, capsys):
    with filelock.FileLock(done[0] / ".lock"):
        code, _ = command(place, done[0])
    assert code == 2
    assert "another prototype search is at work in" in capsys.readouterr().err


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        main(["prototypes", "--help"])
    text = capsys.readouterr().out
    assert "mdm prototypes runs/birds" in text
    assert "similarity x weight = points" in text


def test_a_first_look_is_a_choice_of_defaults():
    quick = PrototypesCommand(model="protopnet", quick=True, images=7).resolve_quick()
    assert (quick.images, quick.top, quick.nearest) == (7, 3, 0)
    usual = PrototypesCommand(model="protopnet")
    assert usual.resolve_quick() is usual
    sentence = _describe_work(1060, 212, ("mdm", "activation_map"), usual)
    assert sentence.startswith("1,060 regions to find: 212 pairs")
    assert "--quick" in sentence
    assert "--quick" not in _describe_work(1060, 212, ("mdm",), quick)
