"""The two steps of a benchmark for one method on one network: missing maps, then missing scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mdm_jax import explain_batch
from mdm_jax.errors import InputError, NothingToExplain
from mdm_jax.evaluation.benchmark_config import BenchmarkConfig
from mdm_jax.evaluation.benchmark_images import BenchmarkImage
from mdm_jax.evaluation.measure import Explainer, measure
from mdm_jax.evaluation.scene import Scene
from mdm_jax.evaluation.statistics import Measured
from mdm_jax.execution.keys import id_numbers
from mdm_jax.execution.timing import stopwatch
from mdm_jax.metrics import Metric
from mdm_jax.models.classifier import Classifier
from mdm_jax.progress import Progress, task
from mdm_jax.storage import arrays
from mdm_jax.storage.arrays import Columns
from mdm_jax.storage.map_store import MapStore
from mdm_jax.types import Explanation

# Maps that some methods have beside the saliency, which serves for them where a method has none.
OTHER_MAPS = ("attribution", "ranking")

# Fields of Info that are stored beside the maps.
DIAGNOSTICS = (
    "target",
    "activation",
    "activation_masked",
    "activation_fill",
    "kept_area",
    "objective",
    "steps",
    "status",
    "evaluations",
    "forwards",
)


@dataclass(frozen=True)
class MethodRun:
    """One method on one network: what it works on, and where its maps and scores are stored."""

    config: BenchmarkConfig
    classifier: Classifier
    images: Sequence[BenchmarkImage]
    explainer: Explainer
    store: MapStore
    title: str
    """such as "resnet: mdm", for the progress"""


def explain_missing(run: MethodRun, progress: Progress) -> str:
    """Make the missing maps, chunk by chunk.

    Returns why the network cannot have them, or "".
    """
    stored = set(run.store.columns("ids").get("ids", np.zeros(0, str)).tolist())
    missing = [image for image in run.images if image.example.id not in stored]
    if not missing:
        return ""
    with task(progress, f"{run.title}, maps", len(missing)) as advance:
        for start in range(0, len(missing), run.config.chunk):
            chunk = missing[start : start + run.config.chunk]
            try:
                columns = _explain(run, chunk, partial(_advance, advance, start))
            except InputError as error:
                return str(error)
            run.store.add(columns)
    return ""


def _advance(advance: Callable[[int], None], before: int, done: int) -> None:
    advance(before + done)


def _explain(
    run: MethodRun, images: Sequence[BenchmarkImage], on_progress: Callable[[int], None]
) -> Columns:
    """The columns to store of some images."""
    ids = [image.example.id for image in images]
    try:
        with stopwatch() as timing:
            explanation = explain_batch.explain(
                run.classifier,
                np.stack([image.example.image for image in images]),
                np.asarray([image.target for image in images]),
                method=run.explainer.solve,
                node=run.explainer.node,
                config=run.explainer.config,
                key=run.config.seed,
                ids=ids,
                micro_batch=run.config.micro_batch,
                on_progress=on_progress,
            )
    except NothingToExplain as nothing:
        # of these images; those of the next chunk may have an explanation
        explanation = nothing.explanation
    return _to_columns(ids, explanation, timing.running / len(images))


def _to_columns(ids: Sequence[str], explanation: Explanation, seconds: float) -> Columns:
    columns = {
        "ids": np.asarray(ids),
        "saliency": explanation.saliency,
        "seconds": np.full(len(ids), seconds),
    }
    for name in OTHER_MAPS:
        if getattr(explanation, name) is not None:
            columns[name] = getattr(explanation, name)
    for name in DIAGNOSTICS:
        columns[name] = np.asarray(getattr(explanation.info, name))
    return columns


def measure_missing(
    run: MethodRun, metrics: Mapping[str, Metric], progress: Progress
) -> dict[str, str]:
    """Measure every metric on the stored maps that lack it, chunk by chunk.

    Returns why a metric cannot be had, by its id.
    """
    images = {image.example.id: image for image in run.images}
    scores = {name: run.store.scores(name) for name in metrics}
    missing = {
        name: images.keys() - set(columns["ids"].tolist() if columns else [])
        for name, columns in scores.items()
    }
    notes: dict[str, str] = {}
    total = sum(map(len, missing.values()))
    if not total:
        return notes
    done = 0
    with task(progress, f"{run.title}, metrics", total) as advance:
        # maps of a chunk are read once for all metrics
        for path in run.store.chunks():
            ids = arrays.read_arrays(path, ("ids",))["ids"].tolist()
            if not any(missing[name].intersection(ids) for name in metrics):
                continue
            maps = arrays.read_arrays(path, ("saliency", *OTHER_MAPS))
            for name, metric in metrics.items():
                rows = [row for row, id in enumerate(ids) if id in missing[name]]
                if not rows or name in notes:
                    continue
                chunk = [images[ids[row]] for row in rows]
                try:
                    measured = _measure(run, metric, _make_scene(chunk, maps, rows))
                except InputError as error:
                    notes[name] = str(error)
                    continue
                scores[name] = _append_scores(scores[name], chunk, measured)
                run.store.write_scores(
                    name, scores[name] | {"protocol": np.asarray(metric.id)}
                )
                done += len(rows)
                advance(done)
    return notes


def _measure(run: MethodRun, metric: Metric, scene: Scene) -> Measured:
    config = run.config
    # a metric that runs the method again needs the memory of the method
    explains = metric.needs == "explain"
    return measure(
        metric,
        run.classifier,
        scene,
        key=config.seed,
        explainer=run.explainer,
        micro_batch=config.micro_batch if explains else config.metric_micro_batch,
    )


def _make_scene(
    images: Sequence[BenchmarkImage], maps: Columns, rows: Sequence[int]
) -> Scene:
    attribution, ranking = (maps.get(name, maps["saliency"]) for name in OTHER_MAPS)
    return Scene(
        np.stack([image.example.image for image in images]),
        maps["saliency"][rows],
        attribution[rows],
        ranking[rows],
        np.asarray([image.target for image in images], np.int32),
        [image.example.mask for image in images],
        [image.example.boxes for image in images],
        id_numbers(image.example.id for image in images),
    )


def _append_scores(
    before: Columns, images: Sequence[BenchmarkImage], measured: Measured
) -> Columns:
    """Stored statistics with those of more images.

    An image without truth is stored as one that does not count, so that it is not measured again.
    """
    counted = np.isin(np.arange(len(images)), measured.rows)
    added = {
        "ids": np.asarray([image.example.id for image in images]),
        "counted": counted,
        "statistics": measured.statistics,
    }
    if not before:
        return added
    # without an image that counts the statistics are [0], whatever shape the metric has
    if not counted.any():
        added["statistics"] = np.zeros((0, *before["statistics"].shape[1:]))
    elif not before["counted"].any():
        before = before | {"statistics": np.zeros((0, *measured.statistics.shape[1:]))}
    return {name: np.concatenate([before[name], added[name]]) for name in added}
