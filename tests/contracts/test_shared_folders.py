"""A folder or a file that somebody shared runs no code: what it names is never imported."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import stored_folders as stored

import mdm_jax
from mdm_jax import InputError, plugins
from mdm_jax.cli.main import main
from mdm_jax.data import open_source

PLANTED = """import pathlib
pathlib.Path("planted_was_run").touch()
def f(*_, **__):
    return 0.0
"""
NAMES = ("planted.py:f", "planted:f")
CODE = pytest.mark.parametrize("name", NAMES)

# Commands that read a folder again, and the files there with names of code, or of anything else.
READERS = {
    "verify": (["run", "verify", "run"], ["run/run.json"]),
    "status": (["run", "status", "run"], ["run/run.json"]),
    "evaluate": (["evaluate", "run", "--metrics", "sparseness"], ["run/run.json"]),
    "report": (["report", "run"], ["run/run.json"]),
    "run": ([*stored.RUN, "--dry-run"], ["run/run.json"]),
    "benchmark": (
        [*stored.BENCHMARK, "--limit", "2", "--metrics", "sparseness"],
        [f"benchmark/{each}.json" for each in ("benchmark", "small/model")],
    ),
    "prototypes": (
        stored.REGIONS,
        ["regions/settings.json", "networks/protopnet/prototypes.json"],
    ),
    "train": (stored.TRAIN, ["training/train.json", "training/config.json"]),
    "sweep": (stored.SWEEP, ["sweep/sweep.json"]),
    "network": (
        ["evaluate", "run", "--weights", "networks/resnet", "--metrics", "sparseness"],
        ["networks/resnet/config.json"],
    ),
}

# Files of --config, by verb.
CONFIGS = {
    "node": ("explain", 'node = "{}"'),
    "method": ("explain", 'method = "{}"'),
    "method with settings": ("explain", 'method = "mdm:fill={}"'),
    "fill": ("explain", 'fill = "{}"'),
    "several fills": ("explain", 'fill = ["blur", "{}"]'),
    "term": ("explain", '[objective]\n"{}" = 1.0'),
    "optimizer": ("explain", 'optimizer = "{}"'),
    "run": ("run", 'node = "{}"'),
    "methods": ("benchmark", 'methods = ["{}"]'),
    "metrics": ("benchmark", 'metrics = ["{}"]'),
    "scores": ("evaluate", 'metrics = ["{}"]'),
    "regions": ("prototypes", 'model = "networks/protopnet"\nregions = ["{}"]'),
    "axis": ("sweep", '[axes]\nfill = ["{}"]'),
    "axis of a term": ("sweep", '[axes]\n"objective.{}" = [1.0]'),
    "sweep's node": ("sweep", 'node = "{}"\n[axes]\nsteps = [2]'),
    "training": ("train", '[optimizer]\nname = "{}"'),
    "data": ("train", '[data]\nsource = "{}"'),
    "network": ("train", '[model]\narchitecture = "{}"'),
}
# Texts that stand for nothing of ours, or for one of two words.
NO_CODE = {
    "classes",
    "data_classes",
    "class_names",
    "class_name",
    "label_names",
    "versions",
    "id",
}
NO_CODE |= {
    "preprocessing",
    "pretrained_cfg",
    "dtype",
    "interpolation",
    "crop_mode",
    "checksum",
}
NO_CODE |= {f"network.{name}" for name in ("dtype", "preprocessing.interpolation")}
NO_CODE |= {f"network.{name}" for name in ("weights", "preprocessing.crop_mode")}
NO_CODE |= {"parametrization", "parametrisation", "pixels", "ids", "files"}
ARGUMENTS = {"explain": ["photos/one.png"], "evaluate": ["run"]}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A copy of everything that is stored, with planted code beside it, as the current folder."""
    shutil.copytree(stored.STORED, tmp_path / "stored")
    monkeypatch.chdir(tmp_path / "stored")
    monkeypatch.syspath_prepend(str(tmp_path / "stored"))
    Path("planted.py").write_text(PLANTED)
    yield tmp_path / "stored"
    assert not Path("planted_was_run").exists()
    assert "planted" not in sys.modules


def texts(value, path=()):
    """Where the texts of nested values are, outside of long lists of names."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        for key, each in value.items():
            if key not in NO_CODE:
                yield from texts(each, (*path, key))
    elif isinstance(value, list):
        for number, each in enumerate(value[:2]):
            yield from texts(each, (*path, number))


def poison(file, path, name):
    """A file's text with a name in the place of one of its texts."""
    content = json.loads(file.read_text())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = name
    return json.dumps(content)


def end(command, capsys):
    """How a command ends that may be refused, in one sentence then."""
    code = main(command)
    sentence = capsys.readouterr().err
    assert code in (0, 3) or (code == 2 and "mdm: " in sentence)
    return sentence


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_a_stored_folder_names_no_code(place, reader, capsys):
    command, files = READERS[reader]
    (place / "run" / "records" / "00002.parquet").unlink()  # something to mend
    for file in map(Path, files):
        before = file.read_text()
        paths = list(texts(json.loads(before)))
        if file.name == "run.json":  # deeper settings are compared as they are
            paths = [path for path in paths if path[0] == "request" or len(path) == 2]
        if reader != "verify":  # each command loads a network anew
            paths = paths[:5]
        assert paths
        for number, path in enumerate(paths):
            file.write_text(poison(file, path, NAMES[number % 2]))
            end(command, capsys)
            file.write_text(before)
            assert not Path("planted_was_run").exists(), (reader, path)


def read_run():
    run = mdm_jax.open_run("run")
    return run.records, run.settings, run.saliency(0), run.mask_vectors[0][:1]


PYTHON_READERS = {
    "run": (read_run, "run/run.json"),
    "network": (
        lambda: mdm_jax.load_model("networks/resnet"),
        "networks/resnet/config.json",
    ),
    "training": (lambda: mdm_jax.load_model("training"), "training/config.json"),
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", PYTHON_READERS)
def test_a_stored_folder_names_no_code_to_a_program(place, reader):
    """Without a command there are no words that could name code, and none is imported."""
    read, file = PYTHON_READERS[reader]
    before = Path(file).read_text()
    paths = list(texts(json.loads(before)))
    assert read() is not None
    assert paths
    for number, path in enumerate(paths):
        Path(file).write_text(poison(Path(file), path, NAMES[number % 2]))
        with suppress(InputError):
            read()
        Path(file).write_text(before)
        assert not Path("planted_was_run").exists(), path


@CODE
@pytest.mark.parametrize("part", ["node", "method", "fill", "objective"])
def test_verify_runs_what_is_named_again_alone(place, part, name, capsys):
    run = "run_method" if part == "method" else "run"
    file = Path(run, "run.json")
    content = json.loads(file.read_text())
    request = content["request"]
    if part in request:
        request[part] = name
    else:
        request["settings"][part] = {name: 1.0} if part == "objective" else name
    file.write_text(json.dumps(content))
    sentence = end(["run", "verify", run], capsys)
    assert f"{name!r} is code that only a file names" in sentence
    assert f"with --code {name!r}" in sentence


@CODE
@pytest.mark.parametrize("part", CONFIGS)
def test_a_config_names_no_code(place, part, name, capsys):
    verb, text = CONFIGS[part]
    Path("shared.toml").write_text(text.format(name))
    command = [verb, *ARGUMENTS.get(verb, []), "--config", "shared.toml"]
    assert end(command, capsys)
    nothing_else_holds = "training" not in part and part not in ("data", "network")
    if nothing_else_holds and part not in ("optimizer", "regions"):
        assert "is code that only a file names" in end(command, capsys)


def test_what_the_words_name_is_run_and_nothing_like_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def f(view):\n    return 1.0\n")
    words = {
        "mine.py:f": ["mine.py:f"],
        "--node=mine.py:f": ["mine.py:f"],
        "mdm:fill=[mean, mine.py:f]": ["mine.py:f"],
        "mdm:objective={'mine.py:f'=1}": ["mine.py:f"],
        "mine.py:f:power=2": ["mine.py:f"],
        "mine.py": ["mine.py:f"],
        "not_mine.py:f": [],
        "far/mine.py:f": [],
        "mine.py:f2": [],
        "mine": [],
    }
    for word, named in words.items():
        with plugins.only_named([word]):
            if named:
                plugins.load_function("mine.py:f", "objective term")
            else:
                with pytest.raises(plugins.UnnamedCode):
                    plugins.load_function("mine.py:f", "objective term")
    plugins.load_function("mine.py:f", "objective term")  # a program decides itself


def test_a_tfds_data_set_names_no_code(place, tmp_path, monkeypatch):
    from mdm_jax.data.tfds_builder import build

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    (tmp_path / "images" / "train" / "cat").mkdir(parents=True)
    shutil.copy("photos/one.png", tmp_path / "images" / "train" / "cat")
    build(str(tmp_path / "images"), "cats")
    assert len(open_source("tfds:cats", "train")) == 1
    file = next((tmp_path / "tfds").rglob("features.json"))
    known = file.read_text()
    names = [path for path in texts(json.loads(known)) if "pythonClassName" in path]
    assert len(names) > 2
    for path in names:
        file.write_text(poison(file, path, "planted.Feature"))
        with pytest.raises(
            InputError, match=r"class 'planted\.Feature', and no code is run"
        ):
            open_source("tfds:cats", "train")
    legacy = {"type": "planted.Feature", "content": {}}
    file.write_text(json.dumps(legacy))
    with pytest.raises(InputError, match=r"class 'planted\.Feature', and no code is run"):
        open_source("tfds:cats", "train")
