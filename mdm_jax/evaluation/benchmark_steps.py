"""The two stages of a benchmark for one method on one network: the maps that lack, then the scores
that lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mdm_jax import explain_batch
from mdm_jax.errors import InputError, NothingToExplain
from mdm_jax.evaluation.benchmark_config import BenchmarkConfig
from mdm_jax.evaluation.benchmark_images import Item
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

DIAGNOSTICS = (
    "target",
    "activation",
    "activation_masked",
    "activation_fill",
    "kept_area",
    "objective",
    "steps",
    "status",
)
"""fields of Info that are kept beside the maps, with evaluations and forwards"""


def explain_missing(
    plan: BenchmarkConfig,
    classifier: Classifier,
    items: Sequence[Item],
    shelf: MapStore,
    explainer: Explainer,
    progress: Progress,
    shown: str,
) -> str:
    """Make the maps that lack, chunk by chunk; returns why the network cannot have them, or
    nothing."""
    there = set(shelf.columns("ids").get("ids", np.zeros(0, str)).tolist())
    missing = [item for item in items if item.framed.id not in there]
    if not missing:
        return ""
    with task(progress, f"{shown}, maps", len(missing)) as done:
        for start in range(0, len(missing), plan.chunk):
            part = missing[start : start + plan.chunk]
            try:
                with stopwatch() as timing:
                    explanation = explain_batch.explain(
                        classifier,
                        np.stack([item.framed.image for item in part]),
                        np.asarray([item.target for item in part]),
                        method=explainer.solve,
                        node=explainer.node,
                        config=explainer.config,
                        key=plan.seed,
                        ids=[item.framed.id for item in part],
                        micro_batch=plan.micro_batch,
                        on_progress=lambda count, start=start: done(start + count),  # type: ignore[misc]
                    )
            except NothingToExplain as nothing:  # of these images; the next chunk may be otherwise
                explanation = nothing.explanation
            except InputError as error:
                return str(error)
            shelf.add(_columns(part, explanation, timing.running / len(part)))
    return ""


def _columns(part: Sequence[Item], explanation: Explanation, seconds: float) -> Columns:
    info = explanation.info
    kept = {
        name: np.asarray(getattr(info, name)) for name in (*DIAGNOSTICS, "evaluations", "forwards")
    }
    signed = {} if explanation.attribution is None else {"attribution": explanation.attribution}
    ids = np.asarray([item.framed.id for item in part])
    return (
        {"ids": ids, "saliency": explanation.saliency, "seconds": np.full(len(part), seconds)}
        | signed
        | kept
    )


def measure_missing(
    plan: BenchmarkConfig,
    asked: Mapping[str, Metric],
    classifier: Classifier,
    items: Sequence[Item],
    shelf: MapStore,
    explainer: Explainer,
    progress: Progress,
    shown: str,
) -> dict[str, str]:
    """Measure every metric on the images that lack it, chunk by chunk; returns why a metric cannot
    be had."""
    wanted = {item.framed.id: item for item in items}
    scores = {name: shelf.scores(name) for name in asked}
    measured = {
        name: set(columns["ids"].tolist()) if columns else set() for name, columns in scores.items()
    }
    notes: dict[str, str] = {}
    total = sum(len(wanted.keys() - have) for have in measured.values())
    if not total:
        return notes
    count = 0
    with task(progress, f"{shown}, metrics", total) as done:
        for path in shelf.chunks():
            ids = arrays.read_arrays(path, ("ids",))["ids"].tolist()
            if not any(id in wanted and id not in measured[name] for id in ids for name in asked):
                continue
            maps = arrays.read_arrays(path, ("saliency", "attribution"))
            for name, metric in asked.items():
                rows = [
                    row for row, id in enumerate(ids) if id in wanted and id not in measured[name]
                ]
                if not rows or name in notes:
                    continue
                part = [wanted[ids[row]] for row in rows]
                try:
                    result = measure(
                        metric,
                        classifier,
                        _scene(part, maps, rows),
                        key=plan.seed,
                        explainer=explainer,
                        micro_batch=(
                            plan.metric_micro_batch
                            if metric.needs != "explain"
                            else plan.micro_batch
                        ),
                    )
                except InputError as error:
                    notes[name] = str(error)
                    continue
                scores[name] = _appended(scores[name], part, result)
                shelf.write_scores(name, scores[name] | {"protocol": np.asarray(metric.id)})
                count += len(rows)
                done(count)
    return notes


def _scene(part: Sequence[Item], maps: Columns, rows: Sequence[int]) -> Scene:
    saliency = maps["saliency"][rows]
    return Scene(
        np.stack([item.framed.image for item in part]),
        saliency,
        maps["attribution"][rows] if "attribution" in maps else saliency,
        np.asarray([item.target for item in part], np.int32),
        [item.framed.mask for item in part],
        [item.framed.boxes for item in part],
        id_numbers(item.framed.id for item in part),
    )


def _appended(before: Columns, part: Sequence[Item], result: Measured) -> Columns:
    """Stored statistics with those of more images; an image without truth is kept as one that does
    not count."""
    counted = np.isin(np.arange(len(part)), result.rows)
    added = {
        "ids": np.asarray([item.framed.id for item in part]),
        "counted": counted,
        "statistics": result.statistics,
    }
    if not before:
        return added
    if not counted.any():
        added["statistics"] = np.zeros((0, *before["statistics"].shape[1:]))
    elif not before["counted"].any():
        before = before | {"statistics": np.zeros((0, *result.statistics.shape[1:]))}
    return {name: np.concatenate([before[name], array]) for name, array in added.items()}
