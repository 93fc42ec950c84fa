"""The commands behind the folders in fixtures/stored, and what the folders say in plain numbers.

Every command runs inside a copy of fixtures/stored, so that all paths are relative.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import safetensors.numpy

import mdm_jax
from mdm_jax.cli.main import main

STORED = Path(__file__).parent / "fixtures" / "stored"
EXPECTED = STORED / "expected.json"

NETWORK = ["--weights", "networks/resnet"]
# What MDM did by default when the folders were made; the commands of then named no preset.
PRESET = "fast-2026-11"
RUN = ["run", "--data", "digits", "--limit", "6", "--chunk", "2", *NETWORK, "--out", "run"]
RUN += ["--config", "momentum.toml", "--preset", PRESET]
RUN_OWN = [
    "run",
    "--data",
    "digits",
    "--limit",
    "2",
    "--chunk",
    "1",
    *NETWORK,
    "--out",
    "run_own",
]
RUN_OWN += ["--config", "own.toml", "--node", "parts.py:margin", "--saliency"]
RUN_OWN += ["--code", "parts.py:checkerboard", "parts.py:edges"]
RUN_OWN += ["--preset", PRESET]
RUN_METHOD = ["run", "--data", "digits", "--limit", "4", "--chunk", "2", *NETWORK]
RUN_METHOD += ["--out", "run_method", "--method", "integrated_gradients:steps=4"]
METHODS = [f"mdm:preset={PRESET},steps=3,sizes=[4],optimizer=nesterov"]
METHODS += ["integrated_gradients:steps=4"]
METRICS = ["--metrics", "average_drop", "energy"]
COMPARED = ["benchmark", "--models", "small=networks/resnet", "--data", "digits", *METRICS]
COMPARED += ["--grid", "0", "--chunk", "2", "--micro-batch", "2", "--out", "benchmark"]
BENCHMARK_BEGUN = [*COMPARED, "--limit", "2", "--methods", *METHODS]
BENCHMARK = [*COMPARED, "--limit", "4", "--methods", *METHODS, "gradient"]
SHOWN = [
    "prototypes",
    "networks/protopnet",
    "--limit",
    "10",
    "--nearest",
    "1",
    "--top",
    "2",
]
SHOWN += ["--config", "node.toml", "--out", "regions", "--regions", "mdm", "activation_map"]
REGIONS_BEGUN = [*SHOWN, "--images", "1"]
REGIONS = [*SHOWN, "receptive_field", "--images", "2"]
SWEPT = ["--micro-batch", "2", "--base", PRESET, "--code", "parts.py"]
SWEEP_BEGUN = ["sweep", "sweep_begun.toml", *SWEPT]
SWEEP = ["sweep", "sweep.toml", *SWEPT]
TRAIN = ["train", "train.toml"]
TRAIN_PROTOTYPES = ["train", "train_prototypes.toml"]
EXPLAIN = [
    "explain",
    "photos/one.png",
    "photos/two.png",
    *NETWORK,
    "--config",
    "momentum.toml",
]
EXPLAIN += ["--out", "explained"]
SCORED = ["--metrics", "average_drop", "sparseness", "--out", "scored"]
EVALUATE = {
    "run": ["evaluate", "run", *SCORED],
    "run_own": ["evaluate", "run_own", *SCORED],
    "run_method": ["evaluate", "run_method", *SCORED],
    "explained": ["evaluate", "explained", "--data", "files:photos", *NETWORK, *SCORED],
    "benchmark": ["evaluate", "benchmark/small/*", "--data", "digits", *NETWORK, *SCORED],
}
"""what scores the maps of each kind of folder"""
KINDS = ("run", "run_own", "run_method", "run_python", "benchmark", "sweep", "regions")
KINDS = (*KINDS, "training", "training_prototypes", "explained")
KEPT = {
    "run": ("records/*", "mask_vectors/*/c/**/*"),
    "run_own": ("records/*", "mask_vectors/*/c/**/*", "saliency/c/**/*"),
    "run_method": ("records/*", "saliency/c/**/*"),
    "run_python": ("records/*", "mask_vectors/*/c/**/*"),
    "benchmark": ("**/maps-*.npz",),
    "sweep": ("points/*",),
    "regions": ("nearest*.npz", "regions/*/maps-*.npz"),
}
"""files that hold what was computed, which nobody may write again"""


def said(arguments: list[str]) -> dict:
    """What a command says on standard output, as JSON. Raises AssertionError where it fails."""
    out = StringIO()
    with redirect_stdout(out):
        code = main([*arguments, "--json"])
    assert code == 0, (arguments, code)
    return json.loads(out.getvalue())


def parts():
    """The module `parts.py` of the current folder."""
    spec = importlib.util.spec_from_file_location("stored_parts", Path("parts.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_python(share=(0, 1), **changed):
    """Do the run that a program made: network, optimizer and a term are functions of `parts.py`."""
    own = parts()
    objective = (
        mdm_jax.consistency("share"),
        mdm_jax.area(5.0),
        mdm_jax.term(own.edges, 0.5),
    )
    settings = {"sizes": (4,), "steps": 3, "fill": 0.25, "optimizer": own.momentum}
    config = replace(mdm_jax.PRESETS[PRESET], objective=objective, **(settings | changed))
    asked = mdm_jax.RunConfig(config=config, node=own.margin, limit=4, chunk=2, seed=3)
    with warnings.catch_warnings():
        # It has two classes, and it is said that digits has more.
        warnings.filterwarnings("ignore", ".*are none of the network's")
        return mdm_jax.run(own.corners, "digits", "run_python", asked, share=share)


RESUME = {
    "run": lambda: said(RUN),
    "run_own": lambda: said(RUN_OWN),
    "run_method": lambda: said(RUN_METHOD),
    "run_python": run_python,
    "benchmark": lambda: said(BENCHMARK),
    "sweep": lambda: said(SWEEP),
    "regions": lambda: said(REGIONS),
    "training": lambda: said(TRAIN),
    "training_prototypes": lambda: said(TRAIN_PROTOTYPES),
}
"""what goes on with each folder"""


def evaluated(kind: str) -> dict:
    """The metrics of a folder's maps, by name."""
    command, maps, *rest = EVALUATE[kind]
    if "*" in maps:
        maps = str(
            sorted(each for each in Path().glob(maps) if (each / "method.json").exists())[1]
        )
    return {row["metric"]: row["value"] for row in said([command, maps, *rest])["rows"]}


def told(kind: str) -> dict:
    """A folder in plain values."""
    if kind.startswith("run"):
        return told_run(kind)
    if kind.startswith("training"):
        return told_training(Path(kind))
    return {"benchmark": told_benchmark, "sweep": told_sweep}.get(
        kind, lambda: told_maps(kind)
    )()


def told_run(kind: str) -> dict:
    """A run's records, and a few numbers of its arrays."""
    run = mdm_jax.open_run(kind)
    rows = run.records.to_pylist()
    maps = [run.saliency(row["row"]) for row in rows]
    first = len(run.layout.rows_of(0))
    return {
        "status": said(["run", "status", kind])["rows"],
        "rows": rows,
        "masks": [sums(each[:first]) for each in run.mask_vectors],
        "saliency": [sums(each) for each in maps],
    }


def told_training(folder: Path) -> dict:
    """A training's epochs, and the weights that it ended with."""
    lines = [
        json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    free = ("images_per_second", "seconds")
    epochs = [
        {name: value for name, value in line.items() if name not in free} for line in lines
    ]
    found = {"epochs": epochs}
    if (folder / "model.safetensors").exists():
        stored = safetensors.numpy.load_file(folder / "model.safetensors")
        found["weights"] = {name: sums(array) for name, array in sorted(stored.items())}
    if (folder / "prototypes.json").exists():
        found["prototypes"] = json.loads((folder / "prototypes.json").read_text())
    return found


def told_benchmark() -> dict:
    """What every method of a benchmark gave."""
    found = {}
    for folder in sorted(
        each.parent for each in Path("benchmark/small").glob("*/method.json")
    ):
        files = [*sorted(folder.glob("maps-*.npz")), *sorted(folder.glob("scores/*.npz"))]
        for file in files:
            with np.load(file) as opened:
                names = [name for name in opened.files if name != "seconds"]
                found[str(file)] = {name: plain(opened[name]) for name in sorted(names)}
    return found


def told_maps(kind: str) -> dict:
    """Every array of a folder."""
    found = {}
    for file in sorted(Path(kind).glob("**/*.npz")):
        with np.load(file) as opened:
            found[str(file)] = {name: plain(opened[name]) for name in sorted(opened.files)}
    return found


def told_sweep() -> dict:
    """Every point of a sweep by its settings, with its diagnostics and metrics."""
    found = {}
    for file in sorted(Path("sweep/points").glob("*.parquet")):
        table = pq.read_table(file, partitioning=None)
        settings = json.loads(table.schema.metadata[b"mdm_jax"])["settings"]
        found[json.dumps(settings, sort_keys=True)] = {
            "file": file.name
        } | table.to_pydict()
    return found


def plain(array: np.ndarray) -> list:
    """An array as a list: small ones whole, of large ones a few numbers."""
    return array.tolist() if array.size <= 16 else sums(array)


def sums(array: np.ndarray) -> list:
    """A few numbers of an array: its shape, mean, spread and a sum in which every place counts."""
    if array.dtype.kind not in "fiub":
        return [*array.shape, *array.ravel()[:4].tolist()]
    values = np.nan_to_num(np.asarray(array, np.float64)).ravel()
    weights = np.cos(np.arange(values.size))
    return [
        *array.shape,
        values.mean(),
        values.std(),
        float((values * weights).sum() / values.size),
    ]
