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

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import numpy as np

from mdm_jax.data.source import Source
from mdm_jax.evaluation.benchmark_budget import work_in_time
from mdm_jax.evaluation.benchmark_config import BenchmarkConfig
from mdm_jax.evaluation.benchmark_images import BenchmarkImage
from mdm_jax.evaluation.benchmark_parts import METHOD_FILE, NetworkWork, Part, open_store
from mdm_jax.evaluation.cost import Cost, count_failures
from mdm_jax.evaluation.statistics import Measured, Scores
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.methods import ConfiguredMethod
from mdm_jax.metrics import Metric
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.fingerprint import argument_defaults, network_fingerprint
from mdm_jax.progress import NullProgress, Progress
from mdm_jax.storage import arrays, claims, workspace
from mdm_jax.storage.arrays import Columns

NOT_REACHED = "the budget ended before it: give more minutes"

SETTINGS = "benchmark.json"


def _is_benchmark(folder: Path) -> bool:
    if not claims.has_settings(folder / SETTINGS, ("data", "seed", "targets")):
        return False
    # The three names alone may be another's; a network's record was written with them.
    return any(
        claims.has_settings(path, ("weights",)) for path in folder.glob("*/model.json")
    )


# With the tables and figures of `mdm benchmark`.
BENCHMARK = claims.Kind(
    "benchmark",
    (
        *(SETTINGS, "table.md", "table.csv", "win_matrix.md", "win_matrix.csv"),
        *("win_matrix.png", ".lock", claims.options_file("benchmark")),
        *("*/model.json", "*/items.npz", "*/table.png", "*/cost.png", "*/maps.png"),
        *("*/worst.png", f"*/*/maps-{claims.NUMBER}.npz", f"*/*/{METHOD_FILE}"),
        "*/*/scores/*.npz",
    ),
    _is_benchmark,
)


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
    has_ranking: bool = False
    """whether the method gives a ranking, which order metrics read"""


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


@own_settings()
def run(
    config: BenchmarkConfig,
    models: Mapping[str, Callable[[], Classifier]],
    source: Source,
    *,
    data: str = "",
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Results:
    """Compute what is missing in `config.out` and return all results.

    `models` load the networks by label; `data` names the source in the folder; `clock` tells the
    seconds by which a budget is kept. A method that a network cannot have is an entry with a note.
    Raises InputError for what cannot be used, and for a folder that holds other data, weights,
    seeds or settings.
    """
    start = clock()
    methods, metrics = config.resolve()
    # all networks first, so that a mistake in the last one costs nothing
    classifiers = {name: load() for name, load in models.items()}
    progress = progress or NullProgress()
    record = {"data": data or source.name, "seed": config.seed, "targets": config.targets}
    # limit, methods and metrics are not recorded: they may change between two runs
    with workspace.open_workspace(config.out, BENCHMARK) as out:
        workspace.record_settings(out, SETTINGS, record, "a benchmark")
        works = []
        for name, classifier in classifiers.items():
            folder = out / arrays.file_name(name)
            identity = network_fingerprint(classifier)
            defaults = argument_defaults(identity)
            workspace.record_settings(
                folder, "model.json", identity, "maps", defaults=defaults
            )
            works.append(NetworkWork(name, classifier, folder, config, source, progress))
        if config.nested:
            notes = work_in_time(works, methods, metrics, start, clock)
        else:
            notes = [_work_through(work, methods, metrics) for work in works]
        entries = [
            _read_entry(work, part, metrics) for work in works for part in work.parts
        ]
    images = {work.name: work.images for work in works}
    return Results(tuple(entries), metrics, tuple(notes), images, config)


def _work_through(
    work: NetworkWork, methods: Sequence[ConfiguredMethod], metrics: Mapping[str, Metric]
) -> str:
    """Every method on every image of a network; a sentence about the images."""
    work.read_images()
    for method in methods:
        work.add_part(method, metrics).work_through()
    return f"{work.name}: {work.note}"


def stored_maps(
    results: Results, model: str, method: str, ids: Sequence[str]
) -> np.ndarray | None:
    """Stored saliency maps [n, h, w] of some images; None where the method has none of one."""
    store = open_store(results.config.out / arrays.file_name(model), method)
    stored = store.columns("ids", "saliency")
    places = _places(stored)
    if not places or not all(id in places for id in ids):
        return None
    return stored["saliency"][[places[id] for id in ids]]


def _read_entry(work: NetworkWork, part: Part, metrics: Mapping[str, Metric]) -> Entry:
    """What is stored of one method on the images that are used, or on the first of them."""
    if part.reason:
        return Entry(work.name, part.label, notes={"": part.reason})
    every_id = [image.example.id for image in work.images]
    stored = part.run.store.columns("ids", "evaluations", "forwards", "seconds", "status")
    places = _places(stored)
    # a budget may have ended before the last images of a costly method
    ids = list(takewhile(places.__contains__, every_id))
    if not ids:
        return Entry(work.name, part.label, notes={"": NOT_REACHED})
    # maps of earlier runs, on more images, do not count
    rows = [places[id] for id in ids]
    cost = Cost(
        evaluations=float(np.mean(stored["evaluations"][rows])),
        forwards=float(np.mean(stored["forwards"][rows])),
        seconds=float(np.mean(stored["seconds"][rows])),
    )
    measured = {}
    notes = dict(part.notes)
    for name in metrics:
        if name not in notes:
            columns = part.run.store.scores(name)
            if columns:
                measured[name] = _read_measured(columns, ids)
            else:
                notes[name] = NOT_REACHED
    scores = Scores(tuple(ids), {name: metrics[name] for name in measured}, measured)
    failures = count_failures(stored["status"][rows])
    has_ranking = part.run.store.has("ranking")
    return Entry(work.name, part.label, cost, scores, notes, failures, has_ranking)


def _read_measured(stored: Columns, ids: Sequence[str]) -> Measured:
    """Stored statistics in the order of the images that are used."""
    places = _places(stored)
    # statistics have a row for each image that counts only
    statistics_row = np.cumsum(stored["counted"]) - 1
    rows = [i for i, id in enumerate(ids) if id in places and stored["counted"][places[id]]]
    chosen = [statistics_row[places[ids[i]]] for i in rows]
    return Measured(stored["statistics"][np.asarray(chosen, int)], np.asarray(rows, int))


def _places(stored: Columns) -> dict[str, int]:
    """The row of each stored image by its id."""
    return {id: row for row, id in enumerate(stored["ids"].tolist())} if stored else {}
