"""The command line as a person meets it: what it prints, writes and returns."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from flax import nnx

from mdm_jax.cli.main import VERBS, load_verb, main
from mdm_jax.data import Digits
from mdm_jax.models import weights
from mdm_jax.models.resnet import ResNet


@pytest.fixture(autouse=True, scope="module")
def quick_config(tmp_path_factory):
    """Few steps, so that the commands are tested and not the method."""
    path = tmp_path_factory.mktemp("config") / "quick.toml"
    path.write_text(
        "steps = 3\nsizes = [4, [8, 8]]\n[objective]\nsquared = 1.0\narea = 2.0\n"
    )
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two digits as files of one name in two folders, the second larger and not square."""
    folder = tmp_path_factory.mktemp("photographs")
    paths = [folder / "one" / "digit.png", folder / "two" / "digit.png"]
    for i, path in enumerate(paths):
        path.parent.mkdir()
        image = PIL.Image.fromarray((Digits("test")[i].image * 255).astype(np.uint8))
        image.resize((64, 64) if i == 0 else (300, 200)).save(path)
    return [str(path) for path in paths]


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_demo_writes_a_figure_an_animation_and_results(capsys, tmp_path, quick_config):
    code, out, _ = run(
        capsys, "demo", "--limit", 3, "--out", tmp_path / "demo", "--config", quick_config
    )
    assert code == 0
    assert "mean energy inside the digit" in out
    for word in (
        "label",
        "prediction",
        "before",
        "after",
        "area",
        "energy",
        "status",
        "evaluations",
        "seconds",
    ):
        assert word in out
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == [
        ".mdm_jax.json",
        "demo.png",
        "learning.gif",
        "mdm-demo.toml",
        "results.json",
    ]
    with PIL.Image.open(tmp_path / "demo" / "learning.gif") as animation:
        assert animation.n_frames == 3
    rows = json.loads((tmp_path / "demo" / "results.json").read_text())["rows"]
    assert [row["id"] for row in rows] == [f"digits/test/{i:05d}" for i in range(3)]
    assert all(row["evaluations"] == 3 for row in rows)


@pytest.mark.slow
def test_explain_writes_overlay_masks_and_arrays(
    capsys, tmp_path, photographs, quick_config
):
    code, out, _ = run(
        capsys,
        "explain",
        *photographs,
        "--out",
        tmp_path,
        "--json",
        "--config",
        quick_config,
    )
    assert code == 0
    result = json.loads(out)
    assert len(result["rows"]) == 2
    assert len(result["files"]) == 6
    target = result["rows"][1]["class"]
    with PIL.Image.open(tmp_path / f"digit-2-class{target}-overlay.png") as overlay:
        # The whole photograph of 300x200, at 384x256, and what is said of it.
        assert overlay.width > 384
        assert overlay.height > 256
    with np.load(tmp_path / f"digit-2-class{target}.npz") as arrays:
        assert arrays["saliency"].shape == arrays["image"].shape[:2] == (64, 64)
        assert arrays["mask_vector_1"].shape == (8, 8)
        assert arrays["target"] == target
        assert arrays["ranking"].shape == arrays["evidence"].shape == (64, 64)
        assert {
            "activation",
            "activation_masked",
            "kept_area",
            "status",
            "term_area",
            "term_squared",
        } <= set(arrays)


@pytest.mark.slow
def test_explain_top_and_target(capsys, tmp_path, photographs, quick_config):
    common = ("--out", tmp_path, "--json", "--config", quick_config)
    _, out, _ = run(capsys, "explain", photographs[0], "--top", 2, *common)
    first, second = json.loads(out)["rows"]
    assert first["class"] != second["class"]
    assert first["before"] > second["before"]
    # by its name, with a file that cannot be read beside it
    missing = tmp_path / "none.png"
    named = ("--target", "7", "--node", "logit")
    code, out, _ = run(capsys, "explain", missing, photographs[0], *named, *common)
    assert code == 3
    result = json.loads(out)
    assert [row["class"] for row in result["rows"]] == [7]
    assert "left out: " in result["summary"]
    assert "none.png does not exist" in result["summary"]
    assert "no network was named" in result["summary"]


@pytest.mark.slow
def test_seed_repeats_and_table_is_printed(capsys, tmp_path, photographs):
    config = tmp_path / "noise.toml"
    config.write_text('steps = 2\nsizes = [4]\nfill = "noise"')
    maps = []
    for run_number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(run_number)
        code, out, _ = run(
            capsys,
            "explain",
            photographs[0],
            "--out",
            folder,
            "--seed",
            seed,
            "--config",
            config,
        )
        assert code == 0
        assert "digit.png" in out
        with np.load(next(folder.glob("*.npz"))) as arrays:
            maps.append(arrays["mask_vector_0"])
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


@pytest.mark.slow
def test_names_of_any_kind_and_no_result_over_another(capsys, tmp_path, quick_config):
    scene = PIL.Image.fromarray((Digits("test")[0].image * 255).astype(np.uint8))
    names = [
        "a.png",
        "d/a.png",
        "a-2.png",
        "$_$.png",
        "\u732b.png",
        os.fsdecode(b"caf\xe9.png"),
        "x" * 240 + ".png",
    ]
    (tmp_path / "d").mkdir()
    for name in names:
        scene.save(tmp_path / name)
    paths = [tmp_path / name for name in names]
    code, out, err = run(
        capsys,
        "explain",
        *paths,
        "--out",
        tmp_path / "out",
        "--json",
        "--config",
        quick_config,
    )
    assert (code, err) == (0, "")
    files = json.loads(out)["files"]
    assert len(files) == len(set(files)) == 3 * len(names)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert len(written) == len(files) + 1
    assert "mdm-explain.toml" in written


def bad_calls(tmp_path, photograph):
    def file(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    other = tmp_path / "resnet"
    other.mkdir()
    return {
        "no files": (["explain"], "no image files"),
        "missing": (["explain", tmp_path / "none.png"], "does not exist"),
        "folder": (["explain", other], "is a folder"),
        "empty": (["explain", file("empty.jpg", b"")], "is empty"),
        "text": (["explain", file("text.jpg", b"hello")], "not an image"),
        "two bad": (
            ["explain", tmp_path / "none.png", tmp_path / "empty.jpg"],
            "none.png does not exist: check the path; ",
        ),
        "target": (
            ["explain", photograph, "--target", 10],
            "--target 10 is out of range: the network has 10 classes, 0 to 9",
        ),
        "class": (["explain", photograph, "--target", "cat"], "has no class 'cat'"),
        "negative target": (
            ["explain", photograph, "--target", -1],
            "--target -1 is out of range",
        ),
        "top": (["explain", photograph, "--top", 11], "--top 11 is out of range"),
        "both": (["explain", photograph, "--top", 2, "--target", 3], "exclude each other"),
        "preset": (["explain", photograph, "--preset", "papr"], "did you mean 'paper'"),
        "node": (["explain", photograph, "--node", "logits2"], "did you mean 'logits'"),
        "option": (["explain", photograph, "--sed", 3], "did you mean --seed?"),
        "weights": (
            ["explain", photograph, "--weights", tmp_path / "nowhere"],
            "no weights at",
        ),
        "pickle": (
            ["explain", photograph, "--weights", file("net.pth", b"x")],
            "is a pickle",
        ),
        "no config": (
            ["explain", photograph, "--config", tmp_path / "none.toml"],
            "cannot read the config",
        ),
        "bad toml": (
            ["explain", photograph, "--config", file("bad.toml", b"steps = = 3")],
            "not valid TOML",
        ),
        "setting": (
            ["explain", photograph, "--config", file("step.toml", b"step = 3")],
            "did you mean 'steps'",
        ),
        "sizes": (
            ["explain", photograph, "--config", file("sizes.toml", b"sizes = [100]")],
            "does not fit",
        ),
        "zero size": (
            ["explain", photograph, "--config", file("zero.toml", b"sizes = [0]")],
            "does not fit",
        ),
        "weight": (
            [
                "explain",
                photograph,
                "--config",
                file("w.toml", b"[objective]\nabsolute=1\narea=-1"),
            ],
            "not negative",
        ),
        "steps": (
            ["explain", photograph, "--config", file("steps.toml", b"steps = -5")],
            "steps is -5",
        ),
        "type": (
            ["explain", photograph, "--config", file("type.toml", b"steps = 'many'")],
            "the setting steps is 'many': write a whole number",
        ),
        "limit": (["demo", "--limit", 0], "--limit is 0"),
        "long name": (["explain", "x" * 300 + ".png"], "cannot be read"),
        "long weights": (["explain", photograph, "--weights", "x" * 300], "no weights at"),
        "seed": (["demo", "--seed", 10**20], "the seed is 1000"),
        "command": (["explan", photograph], "did you mean 'explain'"),
        "out is a file": (
            ["explain", photograph, "--out", file("taken", b"")],
            "cannot write to",
        ),
        "out below a file": (
            ["demo", "--out", tmp_path / "taken2.txt" / "x"],
            "cannot write to",
        ),
        "micro batch": (["demo", "--micro-batch", 0], "micro_batch is 0"),
    }


CASES = [
    *(
        "no files",
        "missing",
        "folder",
        "empty",
        "text",
        "two bad",
        "target",
        "class",
        "negative target",
        "top",
        "both",
    ),
    *(
        "preset",
        "node",
        "option",
        "weights",
        "pickle",
        "no config",
        "bad toml",
        "setting",
        "sizes",
        "zero size",
        "weight",
    ),
    *(
        "steps",
        "type",
        "limit",
        "long name",
        "long weights",
        "seed",
        "command",
        "out is a file",
        "out below a file",
    ),
    "micro batch",
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_sentence_and_code_2(
    capsys, tmp_path, photographs, case, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken2.txt").write_text("")
    calls = bad_calls(tmp_path, photographs[0])
    assert calls.keys() == set(CASES)
    arguments, message = calls[case]
    before = set(tmp_path.rglob("*"))
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.startswith("mdm: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not set(tmp_path.rglob("*")) - before


@pytest.mark.slow
def test_a_network_of_nan_is_refused(capsys, tmp_path, photographs):
    from mdm_jax.models import pretrained
    from mdm_jax.models.weights import load_file, save_file

    source = pretrained.EMBEDDED["resnet"]
    arrays = load_file(source / "model.safetensors")
    arrays["fc.weight"][0, 0] = np.nan
    save_file(arrays, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    code, _, err = run(capsys, "explain", photographs[0], "--weights", tmp_path)
    assert (code, "'fc.weight' holds NaN" in err) == (2, True)
    arrays["fc.weight"][:] = 0.0
    save_file(arrays, tmp_path / "model.safetensors")
    code, _, err = run(
        capsys, "explain", photographs[0], "--weights", tmp_path, "--out", tmp_path / "out"
    )
    assert (code, "nothing to explain" in err) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 5])
def test_networks_of_other_channels(capsys, tmp_path, photographs, quick_config, channels):
    network = ResNet(
        num_classes=2, widths=(4, 8), depths=(1, 1), channels=channels, rngs=nnx.Rngs(0)
    )
    weights.save(network, tmp_path / "model.safetensors")
    cfg = {"input_size": [channels, 16, 16], "interpolation": "bilinear", "crop_pct": 1.0}
    cfg |= {"mean": [0.5] * channels, "std": [0.5] * channels}
    arguments = {"widths": [4, 8], "depths": [1, 1]}
    description = {
        "architecture": "resnet",
        "num_classes": 2,
        "model_args": arguments,
        "pretrained_cfg": cfg,
    }
    (tmp_path / "config.json").write_text(json.dumps(description))
    call = (
        "explain",
        photographs[0],
        "--weights",
        tmp_path,
        "--out",
        tmp_path / "out",
        "--config",
        quick_config,
    )
    code, _, err = run(capsys, *call)
    if channels == 1:
        assert (code, err) == (0, "")
    else:
        assert (code, err.count("\n")) == (2, 1)
        assert "takes 5 channels" in err


@pytest.mark.parametrize("command", VERBS)
def test_help_has_examples_and_every_option(capsys, command):
    with pytest.raises(SystemExit) as exit:
        main([*command.split(), "--help"])
    out = capsys.readouterr().out
    assert exit.value.code == 0
    assert f"mdm {command}" in out.split("Examples:")[1]
    assert max(map(len, out.splitlines())) <= 100
    positional = {
        "explain": "files",
        "evaluate": "maps",
        "train": "file",
        "report": "runs",
        "prototypes": "model",
        "view": "photo",
    }
    positional |= {"run status": "place", "run verify": "place", "sweep": "file"}
    hidden = {"mdm", "axes", "points", "quality"}
    hidden |= {"method", "node"} if command == "demo" else set()
    for field in dataclasses.fields(load_verb(command)):
        if field.name in hidden:
            assert f"--{field.name} " not in out.partition("options")[2]
            continue
        assert (
            field.name == positional.get(command)
            or f"--{field.name.replace('_', '-')}" in out
        )


def test_wrong_command_and_wrong_type_exit_with_2(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["demo", "--limit", "x"])
    assert exit.value.code == 2
    assert main([]) == 2
    assert "mdm VERB" in capsys.readouterr().err


def test_tensorflow_is_never_imported():
    unwanted = ("tensorflow", "tensorflow_datasets", "grain", "torch")
    code = (
        "import sys, mdm_jax.cli.main; sys.exit(any(module in sys.modules for module in"
        f" {unwanted}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
