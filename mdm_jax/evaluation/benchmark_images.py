"""The images of a benchmark: which are used, what the network says of them, and which class is
explained."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mdm_jax.data.class_mapping import class_number, class_numbers
from mdm_jax.data.network_input import (
    PreparedExample,
    SkippedExample,
    evenly_spaced,
    prepare_examples,
)
from mdm_jax.data.source import Source
from mdm_jax.errors import InputError
from mdm_jax.evaluation.benchmark_config import BenchmarkConfig
from mdm_jax.evaluation.measure import first_choices
from mdm_jax.models.classifier import Classifier
from mdm_jax.progress import Progress, task
from mdm_jax.storage import arrays, workspace


class Item(NamedTuple):
    """An image that is used, with what the network says of it."""

    framed: PreparedExample
    label: int
    """the network's number of the true class, -1 where it has none"""
    prediction: int
    target: int
    """the class explained"""


def used_items(
    plan: BenchmarkConfig,
    classifier: Classifier,
    source: Source,
    place: Path,
    progress: Progress,
    name: str,
) -> tuple[list[Item], str]:
    """The images that are used, and a sentence about them; predictions that are on disk are not
    computed again."""
    numbers = class_numbers(source.class_names, classifier.class_names)
    path = place / "items.npz"
    known = arrays.read_arrays(path) if path.exists() and not workspace.is_empty(place) else {}
    before = {id: row for row, id in enumerate(known["ids"].tolist())} if known else {}
    indices = evenly_spaced(len(source), plan.limit)
    framed: list[PreparedExample] = []
    skipped: list[SkippedExample] = []
    with task(progress, f"{name}: reading", len(indices)) as done:
        for count, each in enumerate(
            prepare_examples(source, indices, classifier.preprocessing), 1
        ):
            if isinstance(each, SkippedExample):
                skipped.append(each)
            else:
                framed.append(each)
            done(count)
    for each in framed:
        row = before.get(each.id)
        if row is not None and (known["digests"][row], known["labels"][row]) != (
            each.digest,
            class_number(numbers, each.label),
        ):
            raise InputError(
                f"{each.id} or its truth has changed since maps of it were made in {place}: choose"
                " another folder with --out, or remove that one"
            )
    new = [each for each in framed if each.id not in before]
    if new:
        with task(progress, f"{name}: predicting", len(new)):
            predicted = first_choices(
                classifier, np.stack([each.image for each in new]), plan.metric_micro_batch
            )
        added = {
            "ids": np.asarray([each.id for each in new]),
            "digests": np.asarray([each.digest for each in new]),
            "labels": np.asarray([class_number(numbers, each.label) for each in new]),
            "predictions": predicted,
        }
        known = {
            column: np.concatenate([known[column], added[column]]) if known else added[column]
            for column in added
        }
        arrays.write_arrays(path, known)
        before = {id: row for row, id in enumerate(known["ids"].tolist())}
    items = []
    for each in framed:
        label, prediction = (
            int(known[column][before[each.id]]) for column in ("labels", "predictions")
        )
        items.append(
            Item(each, label, prediction, label if plan.targets == "label" else prediction)
        )
    return _used(plan, items, skipped, source)


def _used(
    plan: BenchmarkConfig, items: list[Item], skipped: list[SkippedExample], source: Source
) -> tuple[list[Item], str]:
    right, labeled = sum(i.label == i.prediction for i in items), sum(i.label >= 0 for i in items)
    used = [i for i in items if not plan.only_correct or i.label == i.prediction]
    if plan.targets == "label":
        used = [i for i in used if i.label >= 0]
    if not used:
        why = f" ({skipped[0].reason})" if skipped else ""
        raise InputError(
            f"{source.name} gives no image that can be used{why}: check the data, --targets and"
            " --only-correct"
        )
    masks, boxes = (
        sum(getattr(i.framed, truth) is not None for i in used) for truth in ("mask", "boxes")
    )
    sentence = f"{len(used)} image{'s' * (len(used) > 1)}, {masks} with a mask, {boxes} with boxes"
    sentence += (
        f"; the network is right on {right} of {labeled}"
        if labeled
        else "; it has none of the classes of the data"
    )
    if len(used) < len(items):
        sentence += f", {len(items) - len(used)} left out"
    if skipped:
        named = "; ".join(each.reason for each in skipped[:3])
        sentence += (
            f"; {len(skipped)} could not be read ({named}{'; ...' if len(skipped) > 3 else ''})"
        )
    return used, sentence
