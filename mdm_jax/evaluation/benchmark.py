"""The benchmark: methods x networks x images, every map and score computed once and stored.

For each network: its predictions of all images; for each method: maps in chunks, then each metric
over these. What is stored is not computed again, so the same command resumes where it was stopped,
and one more method, metric or image costs only itself.

The folder:

- benchmark.json: the data, the seed and the targets
- MODEL/model.json: a checksum of the weights and the preprocessing
- MODEL/METHOD/method.json: the settings of the method
- MODEL/METHOD/: maps and scores, see `storage.map_store`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mdm_jax import plugins
from mdm_jax.data.source import Source
from mdm_jax.evaluation.benchmark_config import BenchmarkConfig
from mdm_jax.evaluation.benchmark_images import BenchmarkImage, find_images
from mdm_jax.evaluation.benchmark_steps import MethodRun, explain_missing, measure_missing
from mdm_jax.evaluation.cost import Cost, count_failures
from mdm_jax.evaluation.measure import Explainer
from mdm_jax.evaluation.statistics import Measured, Scores
from mdm_jax.methods import ConfiguredMethod
from mdm_jax.metrics import Metric
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.fingerprint import network_fingerprint
from mdm_jax.progress import NullProgress, Progress
from mdm_jax.storage import arrays, part_names, workspace
from mdm_jax.storage.arrays import Columns
from mdm_jax.storage.map_store import MapStore


@dataclass(frozen=True)
class Entry:
    """One method on one network."""

    model: str
    method: str
    """its label, as written in the settings"""
    cost: Cost | None = None
    scores: Scores | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    """why there is nothing: by metric id, or under "" for the method as a whole"""
    failures: Mapping[str, int] = field(default_factory=dict)
    """images without an explanation, by the name of the status"""


@dataclass(frozen=True)
class Results:
    """All entries of a benchmark, and what to say about the images."""

    entries: tuple[Entry, ...]
    metrics: Mapping[str, Metric]
    """by id"""
    notes: tuple[str, ...]
    """a sentence for each network: images, accuracy, what was left out"""
    images: Mapping[str, Sequence[BenchmarkImage]]
    """by network"""
    config: BenchmarkConfig


def run(
    config: BenchmarkConfig,
    models: Mapping[str, Callable[[], Classifier]],
    source: Source,
    *,
    data: str = "",
    progress: Progress | None = None,
) -> Results:
    """Compute what is missing in `config.out` and return all results.

    `models` load the networks by label; `data` names the source in the folder. A method that a
    network cannot have is an entry with a note. Raises InputError for what cannot be used, and for
    a folder that holds other data, weights, seeds or settings.
    """
    methods, metrics = config.resolve()
    # all networks first, so that a mistake in the last one costs nothing
    classifiers = {name: load() for name, load in models.items()}
    progress = progress or NullProgress()
    record = {"data": data or source.name, "seed": config.seed, "targets": config.targets}
    entries, notes, images = [], [], {}
    # limit, methods and metrics are not recorded: they may change between two runs
    with workspace.open_workspace(config.out, "benchmark") as out:
        workspace.record_settings(out, "benchmark.json", record, "a benchmark")
        for name, classifier in classifiers.items():
            folder = out / arrays.file_name(name)
            workspace.record_settings(
                folder, "model.json", network_fingerprint(classifier), "maps"
            )
            images[name], note = find_images(
                config, classifier, source, folder, progress, name
            )
            notes.append(f"{name}: {note}")
            for method in methods:
                method_run = MethodRun(
                    config,
                    classifier,
                    images[name],
                    Explainer(method.explain, method.default_node, method.config),
                    _open_store(folder, method.label),
                    f"{name}: {method.label}",
                )
                _record_method(method, method_run)
                entries.append(
                    _make_entry(name, method.label, method_run, metrics, progress)
                )
    return Results(tuple(entries), metrics, tuple(notes), images, config)


def stored_maps(
    results: Results, model: str, method: str, ids: Sequence[str]
) -> np.ndarray | None:
    """Stored saliency maps [n, h, w] of some images; None where the method has none of one."""
    store = _open_store(results.config.out / arrays.file_name(model), method)
    stored = store.columns("ids", "saliency")
    places = _places(stored)
    if not places or not all(id in places for id in ids):
        return None
    return stored["saliency"][[places[id] for id in ids]]


def _open_store(folder: Path, label: str) -> MapStore:
    # a label such as fill:FILE.py:NAME is no name of a folder
    return MapStore(folder / arrays.file_name(label))


def _record_method(method: ConfiguredMethod, run: MethodRun) -> None:
    """Write down the settings of a method, or check that they are those of its stored maps."""
    node, config = run.explainer.node, method.config
    record = {
        "method": method.name,
        "node": part_names.describe(node),
        "config": part_names.describe({} if config is None else config),
        "outside": plugins.reference_checksums(method.name, node, config),
    }
    defaults = part_names.defaults_of(config, "config.")
    workspace.record_settings(
        run.store.folder, "method.json", record, "maps", defaults=defaults
    )


def _make_entry(
    model: str,
    label: str,
    run: MethodRun,
    metrics: Mapping[str, Metric],
    progress: Progress,
) -> Entry:
    """One method: its missing maps, then the missing scores; then what is stored of its images."""
    reason = explain_missing(run, progress)
    if reason:
        return Entry(model, label, notes={"": reason})
    notes = measure_missing(run, metrics, progress)
    ids = [image.example.id for image in run.images]
    stored = run.store.columns("ids", "evaluations", "forwards", "seconds", "status")
    places = _places(stored)
    # maps of earlier runs, on more images, do not count
    rows = [places[id] for id in ids]
    cost = Cost(
        evaluations=float(np.mean(stored["evaluations"][rows])),
        forwards=float(np.mean(stored["forwards"][rows])),
        seconds=float(np.mean(stored["seconds"][rows])),
    )
    had = {name: metric for name, metric in metrics.items() if name not in notes}
    measured = {name: _read_measured(run.store.scores(name), ids) for name in had}
    scores = Scores(tuple(ids), had, measured)
    return Entry(model, label, cost, scores, notes, count_failures(stored["status"][rows]))


def _read_measured(stored: Columns, ids: Sequence[str]) -> Measured:
    """Stored statistics in the order of the images that are used."""
    places = _places(stored)
    # statistics have a row for each image that counts only
    statistics_row = np.cumsum(stored["counted"]) - 1
    rows = [i for i, id in enumerate(ids) if stored["counted"][places[id]]]
    chosen = [statistics_row[places[ids[i]]] for i in rows]
    return Measured(stored["statistics"][np.asarray(chosen, int)], np.asarray(rows, int))


def _places(stored: Columns) -> dict[str, int]:
    """The row of each stored image by its id."""
    return {id: row for row, id in enumerate(stored["ids"].tolist())} if stored else {}
