"""The benchmark: methods x networks x images, every map and every score computed once and kept on
disk.

For each network: its predictions of all images; for each method: maps in chunks, then each metric
over these. What is there already is not computed again, so the same command goes on where it was
stopped, and a method, a metric or an image more costs only itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mdm_jax import plugins
from mdm_jax.data.source import Source
from mdm_jax.evaluation.benchmark_config import BenchmarkConfig
from mdm_jax.evaluation.benchmark_images import Item, used_items
from mdm_jax.evaluation.benchmark_steps import explain_missing, measure_missing
from mdm_jax.evaluation.measure import Explainer
from mdm_jax.evaluation.statistics import Measured, Scores
from mdm_jax.methods import ConfiguredMethod
from mdm_jax.metrics import Metric
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.fingerprint import network_fingerprint
from mdm_jax.progress import NullProgress, Progress
from mdm_jax.storage import arrays, part_names, workspace
from mdm_jax.storage.map_store import MapStore
from mdm_jax.types import Status


class Cost(NamedTuple):
    """What a map cost, mean over images."""

    evaluations: float
    """network evaluations with a gradient"""
    forwards: float
    """network evaluations without"""
    seconds: float = math.nan
    """running, compilation not counted"""

    @property
    def equivalent(self) -> float:
        """In forward evaluations; one with a gradient counts as three."""
        return self.forwards + 3 * self.evaluations


@dataclass(frozen=True)
class Entry:
    """One method on one network."""

    model: str
    method: str
    """its label, as it was asked for"""
    cost: Cost | None = None
    scores: Scores | None = None
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """why there is nothing: by metric id, or under "" for the method as a whole"""
    failures: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """images without an explanation, by the name of the status"""


@dataclass(frozen=True)
class Results:
    """All entries, and what to say about the images."""

    entries: tuple[Entry, ...]
    metrics: Mapping[str, Metric]
    notes: tuple[str, ...]
    """a sentence for each network: images, accuracy, what was left out"""
    items: Mapping[str, Sequence[Item]]
    """by network"""
    plan: BenchmarkConfig


def run(
    plan: BenchmarkConfig,
    models: Mapping[str, Callable[[], Classifier]],
    source: Source,
    *,
    data: str = "",
    progress: Progress | None = None,
) -> Results:
    """Compute what is missing in `plan.out` and return everything that was asked for.

    `models` load the networks by label; `data` names the source in the folder. Raises InputError
    for what cannot be used and for a folder that holds other data, weights, seeds or settings; a
    method that a network cannot have is an entry with a note."""
    chosen, asked = plan.resolve()
    loaded = {
        name: load() for name, load in models.items()
    }  # first, so that a mistake in the last costs nothing
    progress = progress or NullProgress()
    record = {"data": data or source.name, "seed": plan.seed, "targets": plan.targets}
    entries, notes, items = [], [], {}
    with workspace.open_workspace(plan.out, "benchmark") as folder:
        workspace.record_settings(folder, "benchmark.json", record, "a benchmark")
        for name, classifier in loaded.items():
            place = folder / arrays.file_name(name)
            workspace.record_settings(place, "model.json", network_fingerprint(classifier), "maps")
            items[name], note = used_items(plan, classifier, source, place, progress, name)
            notes.append(f"{name}: {note}")
            for each in chosen:
                entries.append(
                    _entry(plan, asked, classifier, items[name], place, each, progress, name)
                )
    return Results(tuple(entries), asked, tuple(notes), items, plan)


def maps_of(results: Results, model: str, method: str, ids: Sequence[str]) -> np.ndarray | None:
    """Stored saliency maps [n, h, w] of some images; None where the method has none."""
    stored = _shelf(results.plan.out / arrays.file_name(model), method).columns("ids", "saliency")
    places = {id: row for row, id in enumerate(stored.get("ids", np.zeros(0, str)).tolist())}
    return (
        stored["saliency"][[places[id] for id in ids]]
        if all(id in places for id in ids) and places
        else None
    )


def _entry(
    plan: BenchmarkConfig,
    asked: Mapping[str, Metric],
    classifier: Classifier,
    items: Sequence[Item],
    place: Path,
    chosen: ConfiguredMethod,
    progress: Progress,
    name: str,
) -> Entry:
    """One method: its missing maps, then the missing scores. What the network cannot have is a
    note."""
    explainer = Explainer(chosen.explain, chosen.default_node, chosen.config)
    shelf = _shelf(place, chosen.label)
    record = {
        "method": chosen.name,
        "node": part_names.describe(explainer.node),
        "config": part_names.describe({} if chosen.config is None else chosen.config),
        "outside": plugins.reference_checksums(chosen.name, explainer.node, chosen.config),
    }
    defaults = part_names.defaults_of(chosen.config, "config.")
    workspace.record_settings(shelf.folder, "method.json", record, "maps", defaults=defaults)
    reason = explain_missing(
        plan, classifier, items, shelf, explainer, progress, f"{name}: {chosen.label}"
    )
    if reason:
        return Entry(name, chosen.label, notes={"": reason})
    notes = measure_missing(
        plan, asked, classifier, items, shelf, explainer, progress, f"{name}: {chosen.label}"
    )
    return _collected(asked, items, shelf, name, chosen.label, notes)


def _shelf(place: Path, label: str) -> MapStore:
    return MapStore(place / arrays.file_name(label))


def _collected(
    asked: Mapping[str, Metric],
    items: Sequence[Item],
    shelf: MapStore,
    model: str,
    label: str,
    notes: Mapping[str, str],
) -> Entry:
    """What is on disk of the images that are used, in their order."""
    ids = [item.framed.id for item in items]
    stored = shelf.columns("ids", "evaluations", "forwards", "seconds", "status")
    place = {id: row for row, id in enumerate(stored["ids"].tolist())}
    rows = [place[id] for id in ids]
    cost = Cost(
        *(float(np.mean(stored[name][rows])) for name in ("evaluations", "forwards", "seconds"))
    )
    measured = {}
    for name in asked:
        if name not in notes:
            columns = shelf.scores(name)
            place = {id: row for row, id in enumerate(columns["ids"].tolist())}
            among = np.cumsum(columns["counted"]) - 1  # a row's place among the statistics
            counted = [i for i, id in enumerate(ids) if columns["counted"][place[id]]]
            chosen = [among[place[ids[i]]] for i in counted]
            measured[name] = Measured(
                columns["statistics"][np.asarray(chosen, int)], np.asarray(counted, int)
            )
    scores = Scores(tuple(ids), {name: asked[name] for name in measured}, measured)
    return Entry(model, label, cost, scores, notes, failures(stored["status"][rows]))


def failures(statuses: np.ndarray) -> dict[str, int]:
    """How many images have no explanation, by the name of their status."""
    counted = {
        each.name: int((statuses == each).sum()) for each in (Status.NOT_FINITE, Status.CONSTANT)
    }
    return {name: count for name, count in counted.items() if count}
