"""The parts of a benchmark: each method on each network, with its images and what it has taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from mdm_jax import plugins, renamed_settings
from mdm_jax.data.source import Source
from mdm_jax.evaluation.benchmark_config import BenchmarkConfig
from mdm_jax.evaluation.benchmark_images import BenchmarkImage, find_images
from mdm_jax.evaluation.benchmark_steps import MethodRun, explain_missing, measure_missing
from mdm_jax.evaluation.cost import Cost
from mdm_jax.evaluation.measure import Explainer
from mdm_jax.execution.timing import stopwatch
from mdm_jax.methods import ConfiguredMethod
from mdm_jax.metrics import Metric
from mdm_jax.models.classifier import Classifier
from mdm_jax.progress import Progress
from mdm_jax.storage import arrays, part_names, workspace
from mdm_jax.storage.map_store import MapStore

MAPS = "maps"

# The settings of a method, in the folder of its maps.
METHOD_FILE = "method.json"


@dataclass
class Part:
    """One method on one network, and the seconds that it has taken."""

    label: str
    run: MethodRun
    metrics: Mapping[str, Metric]
    progress: Progress
    reason: str = ""
    """why the network cannot have the method"""
    notes: dict[str, str] = field(default_factory=dict)
    """why a metric cannot be had, by its id"""
    done: int = 0
    """the first so many images have a map and every metric"""
    cost: float = 0.0
    """of a map in forward evaluations, counted on those that are stored"""
    worked: int = 0
    """of them, those that were worked on by this process"""
    seconds: dict[str, float] = field(default_factory=dict)
    """that these took, compilation not counted, by `MAPS` or the id of a metric"""

    def look_up(self) -> None:
        """See what is stored: how many images are done, and what they cost."""
        self.done = self._count_done()
        stored = self.run.store.columns("evaluations", "forwards")
        if stored:
            means = (float(np.mean(stored[name])) for name in ("evaluations", "forwards"))
            self.cost = Cost(*means).equivalent

    @property
    def seconds_per_image(self) -> float:
        """Of a map and every metric; 0 while it is not known."""
        return sum(self.seconds.values()) / self.worked if self.worked else 0.0

    def work_through(self) -> None:
        """Every image, chunk by chunk, first the maps."""
        self.reason = explain_missing(self.run, self.progress)
        if not self.reason:
            self.notes = measure_missing(self.run, self.metrics, self.progress)

    def work(self, count: int, clock: Callable[[], float]) -> None:
        """Maps and every metric of the first `count` images, timed."""
        run = dataclasses.replace(self.run, images=self.run.images[:count])
        before = self.done
        self.reason = self._time(MAPS, clock, partial(explain_missing, run, self.progress))
        for name, metric in self.metrics.items():
            if not self.reason and name not in self.notes:
                measure = partial(measure_missing, run, {name: metric}, self.progress)
                self.notes |= self._time(name, clock, measure)
        self.look_up()
        self.worked += self.done - before

    def _time(self, name: str, clock: Callable[[], float], work: Callable[[], Any]) -> Any:
        start = clock()
        with stopwatch() as timing:
            result = work()
        taken = max(0.0, clock() - start - timing.compiling)
        self.seconds[name] = self.seconds.get(name, 0.0) + taken
        return result

    def _count_done(self) -> int:
        """The first so many images that have a map and every metric."""
        stored = [self.run.store.columns("ids")]
        stored += [
            self.run.store.scores(name) for name in self.metrics if name not in self.notes
        ]
        ids = [set(columns["ids"].tolist() if columns else []) for columns in stored]
        complete = set.intersection(*ids)
        every_id = (image.example.id for image in self.run.images)
        return sum(1 for _ in takewhile(complete.__contains__, every_id))


@dataclass
class NetworkWork:
    """One network of a benchmark: its images, and its methods."""

    name: str
    classifier: Classifier
    folder: Path
    config: BenchmarkConfig
    source: Source
    progress: Progress
    images: list[BenchmarkImage] = field(default_factory=list)
    note: str = ""
    """a sentence about the images"""
    parts: list[Part] = field(default_factory=list)

    usable_share: float = 1.0
    """of the items that were read, the share that is used"""

    def read_images(self, indices: Sequence[int] | None = None) -> None:
        """Read the images of these items, or of `config.limit`, for all methods."""
        self.images, self.note = find_images(
            self.config,
            self.classifier,
            self.source,
            self.folder,
            self.progress,
            self.name,
            indices,
        )
        if indices is not None:
            self.usable_share = len(self.images) / len(indices)
        for part in self.parts:
            part.run = dataclasses.replace(part.run, images=self.images)

    def add_part(self, method: ConfiguredMethod, metrics: Mapping[str, Metric]) -> Part:
        """One more method, whose settings are written down.

        Raises InputError where its stored maps were made with others.
        """
        run = MethodRun(
            self.config,
            self.classifier,
            self.images,
            Explainer(method.explain, method.default_node, method.config),
            open_store(self.folder, method.label),
            f"{self.name}: {method.label}",
        )
        _record_method(method, run)
        part = Part(method.label, run, metrics, self.progress)
        self.parts.append(part)
        return part


def open_store(folder: Path, label: str) -> MapStore:
    """Where a method's maps lie in the folder of a network.

    Of an older preset of MDM that may be where its maps lay when that was the preset."""
    # a label such as fill:FILE.py:NAME is no name of a folder
    store = MapStore(folder / arrays.file_name(label))
    for text in renamed_settings.without_older_preset(label):
        record = folder / arrays.file_name(text) / METHOD_FILE
        if store.folder.exists() or not record.exists():
            continue
        settings = workspace.read_settings(record, "remove it to compute it again")
        names = [name.removeprefix("config.") for name in settings]
        if renamed_settings.is_older_mdm(dict.fromkeys(names)):
            return MapStore(record.parent)
    return store


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
        run.store.folder, METHOD_FILE, record, "maps", defaults=defaults
    )
