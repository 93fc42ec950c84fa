"""Damaged files of every kind before every reader: is there a sentence, or a traceback?

    python experiments/robustness/fuzz_readers.py                   # 300 damages of each file
    python experiments/robustness/fuzz_readers.py --examples 20     # half a minute

Takes a copy of the folders that the tests keep (tests/fixtures/stored), damages one file at a time
(bits flipped, cut, a piece doubled or zeroed; in JSON a value of another kind, or gone), and reads
it as the commands do. A reader may give what it reads or raise InputError; everything else counts
as a traceback. The suite does the same with a few examples.

Results: `experiments/results/fuzz_readers.json`.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

import mdm_jax
from experiments.record_results import ROOT, write
from mdm_jax import InputError, config_files, images
from mdm_jax.data import open_source
from mdm_jax.evaluation import saved_maps
from mdm_jax.models import find_weights
from mdm_jax.models.model_config import find_config
from mdm_jax.runs import verify
from mdm_jax.runs.store import open_store
from mdm_jax.storage.map_store import MapStore
from mdm_jax.storage.workspace import read_settings
from mdm_jax.sweeps.store import decode
from mdm_jax.training.config import TrainConfig
from mdm_jax.training.prototypes import record
from mdm_jax.training.run_folder import TrainingFolder, read_metrics
from mdm_jax.views.pages.scores import read_scores

STORED = ROOT / "tests" / "fixtures" / "stored"
METHOD = "benchmark/small/integrated_gradients--steps=4"
FOLDER = {
    "folder/classes.json": '{"cat": "Katze", "dog": "Hund"}',
    "folder/boxes.csv": "file,x_min,y_min,x_max,y_max\ncat/0.png,1,2,9,9\ndog/1.png,1,2,9,9\n",
}
NUMBERS: tuple[Any, ...] = (None, True, -1, 0, 2.5, 10**18, 10**400, float("inf"))
STRANGE: tuple[Any, ...] = (*NUMBERS, "", "x", [], {})
NESTED: Any = json.loads("[" * 200 + "]" * 200)


@dataclass(frozen=True)
class Config:
    """How much is tried."""

    examples: int = 300
    """damages of each file"""
    seed: int = 0
    results: str = "fuzz_readers"
    """name of the file in experiments/results that is written; none when empty"""


class Reader(NamedTuple):
    """A file, and what reads it."""

    file: str
    """in the folder of stored folders"""
    read: Callable[[Path], object]
    """takes the folder of stored folders"""


def read_run(name: str) -> Callable[[Path], object]:
    """All that the commands read of a run."""

    def read(root: Path) -> None:
        verify.status(store := open_store(root / name))
        verify.check(store)
        run = mdm_jax.open_run(root / name)
        run.records.to_pylist()
        for array in (*run.mask_vectors, run.saliency_maps):
            if array is not None:
                array[: len(run)]

    return read


def read_network(root: Path) -> None:
    find_config(find_weights.find_weights(root / "networks/resnet"), None)


def read_folder(root: Path) -> None:
    source = open_source(f"folder:{root}/folder", "all")
    for number in range(len(source)):
        source[number]


def read_columns(root: Path) -> None:
    store = MapStore(root / METHOD)
    store.columns("ids", "evaluations", "saliency")
    store.scores("energy:mask")


READERS = {
    "run: run.json": Reader("run/run.json", read_run("run")),
    "run: record": Reader("run/records/00000.parquet", read_run("run")),
    "run: list of arrays": Reader("run/zarr.json", read_run("run")),
    "run: metadata": Reader("run/mask_vectors/8x6/zarr.json", read_run("run")),
    "run: array": Reader("run/mask_vectors/8x6/c/0/0/0", read_run("run")),
    "run: maps": Reader("run_method/saliency/c/0/0/0", read_run("run_method")),
    "explained map": Reader(
        "explained/one-class7.npz", lambda root: saved_maps.read(root / "explained")
    ),
    "array": Reader("maps.npy", lambda root: saved_maps.read(root / "maps.npy")),
    "scores": Reader(
        "scores.npz",
        lambda root: read_scores(root, ["a"], np.zeros(1, int), np.zeros(1, int)),
    ),
    "benchmark: maps": Reader(f"{METHOD}/maps-00000.npz", read_columns),
    "benchmark: settings": Reader(
        f"{METHOD}/method.json",
        lambda root: read_settings(root / METHOD / "method.json", ""),
    ),
    "sweep: point": Reader(
        "sweep/points/148a8accbfa15421.parquet",
        lambda root: decode(root / "sweep/points/148a8accbfa15421.parquet"),
    ),
    "network: config.json": Reader("networks/resnet/config.json", read_network),
    "network: weights": Reader("networks/resnet/model.safetensors", read_network),
    "prototypes.json": Reader(
        "networks/protopnet/prototypes.json",
        lambda root: record.read(root / "networks/protopnet"),
    ),
    "training: metrics": Reader(
        "training/metrics.jsonl",
        lambda root: read_metrics(TrainingFolder(root / "training")),
    ),
    "settings in TOML": Reader(
        "train.toml", lambda root: config_files.load(TrainConfig, root / "train.toml")
    ),
    "photograph": Reader(
        "photos/one.png", lambda root: images.read(root / "photos/one.png")
    ),
    "folder: classes.json": Reader("folder/classes.json", read_folder),
    "folder: boxes.csv": Reader("folder/boxes.csv", read_folder),
}


def prepare(root: Path) -> None:
    """A copy of the stored folders, and of what else is read."""
    shutil.copytree(STORED, root, dirs_exist_ok=True)
    for number, name in enumerate(("cat", "dog")):
        (root / "folder" / name).mkdir(parents=True)
        shutil.copy(root / "photos/one.png", root / "folder" / name / f"{number}.png")
    for file, text in FOLDER.items():
        (root / file).write_text(text)
    np.save(root / "maps.npy", np.zeros((2, 4, 4), np.float32))
    np.savez(root / "scores.npz", ids=np.asarray(["a"]), drop=np.ones(1))


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A file with something wrong."""
    if rng.random() < 0.5:
        try:
            content = json.loads(data)
        except ValueError:
            pass
        else:
            return json.dumps(_swapped(content, rng)).encode()
    at, length = rng.randrange(len(data)), rng.randrange(1, 40)
    kind = rng.choice(("flip", "flip", "flip", "cut", "doubled", "zeroed"))
    if kind == "cut":
        return data[:at]
    if kind == "doubled":
        return data[:at] + data[at : at + length] + data[at:]
    if kind == "zeroed":
        return data[:at] + bytes(len(data[at : at + length])) + data[at + length :]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 10))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _swapped(content: Any, rng: random.Random) -> Any:
    """JSON with one value of another kind, or gone."""
    strange = rng.choice((*STRANGE, NESTED))
    if not content or not isinstance(content, dict | list) or rng.random() < 0.1:
        return strange
    key = (
        rng.choice(list(content))
        if isinstance(content, dict)
        else rng.randrange(len(content))
    )
    if rng.random() < 0.1:
        del content[key]
    else:
        content[key] = _swapped(content[key], rng)
    return content


def outcome(reader: Reader, root: Path, rng: random.Random) -> str:
    """Read a damaged file: "read", "refused" (InputError), or the error that a user would meet."""
    path = root / reader.file
    whole = path.read_bytes()
    path.write_bytes(damaged(whole, rng))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(root)
        return "read"
    except InputError as error:
        return "refused" if "\n" not in str(error) else f"several lines: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        path.write_bytes(whole)


def main(config: Config) -> None:
    values, total = [], 0
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for name, reader in READERS.items():
            rng = random.Random(f"{config.seed} {name}")
            counted = Counter(
                outcome(reader, Path(folder), rng) for _ in range(config.examples)
            )
            told = {each: counted.pop(each, 0) for each in ("read", "refused")}
            print(f"{name}: {told}, tracebacks {dict(counted)}")
            for what, count in (*told.items(), ("tracebacks", counted.total())):
                values.append({"file": name, "quantity": what, "value": count})
                total += count if what == "tracebacks" else 0
    print(f"{total} tracebacks in {config.examples * len(READERS)} damaged files")
    if config.results:
        write(config.results, values)


if __name__ == "__main__":
    main(tyro.cli(Config))
