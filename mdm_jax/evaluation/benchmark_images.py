"""The images of a benchmark: which are used, and which class of each is explained."""

from __future__ import annotations

from collections.abc import Sequence
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
from mdm_jax.storage.arrays import Columns

# Images that cannot be read are named, up to so many.
REASONS = 3


class NoImages(InputError):
    """None of the items read can be used."""


class BenchmarkImage(NamedTuple):
    """An image that is used, with what the network says of it."""

    example: PreparedExample
    label: int
    """the network's number of the true class, -1 where it has none"""
    prediction: int
    target: int
    """the class explained"""


def find_images(
    config: BenchmarkConfig,
    classifier: Classifier,
    source: Source,
    folder: Path,
    progress: Progress,
    name: str,
    indices: Sequence[int] | None = None,
) -> tuple[list[BenchmarkImage], str]:
    """The images that are used for a network, and a sentence about them.

    They are taken from the items `indices`, by default `config.limit` evenly over the source.
    Predictions are stored in the network's folder and not computed again. Raises InputError for an
    image that has changed since maps of it were made, and NoImages where none can be used.
    """
    if indices is None:
        indices = evenly_spaced(len(source), config.limit)
    examples, skipped = _read_examples(classifier, source, progress, name, indices)
    numbers = class_numbers(source.class_names, classifier.class_names)
    labels = [class_number(numbers, example.label) for example in examples]
    path = folder / "items.npz"
    # without maps nothing depends on what is stored
    stored: Columns = {}
    if path.exists() and not workspace.is_empty(folder):
        stored = arrays.read_arrays(path)
    places = _places(stored)
    for example, label in zip(examples, labels):
        place = places.get(example.id)
        if place is None:
            continue
        # the digest is of the pixels, the mask and the boxes
        if (stored["digests"][place], stored["labels"][place]) != (example.digest, label):
            raise InputError(
                f"{example.id} or its truth has changed since maps of it were made in {folder}:"
                " choose another folder (out), or remove that one"
            )
    new = [i for i, example in enumerate(examples) if example.id not in places]
    if new:
        added = [examples[i] for i in new]
        with task(progress, f"{name}: predicting", len(new)):
            pixels = np.stack([example.image for example in added])
            predictions = first_choices(classifier, pixels, config.metric_micro_batch)
        columns = {
            "ids": np.asarray([example.id for example in added]),
            "digests": np.asarray([example.digest for example in added]),
            "labels": np.asarray([labels[i] for i in new]),
            "predictions": predictions,
        }
        if stored:
            # images of earlier runs stay, whose maps are still in the folder
            columns = {
                column: np.concatenate([stored[column], columns[column]])
                for column in columns
            }
        arrays.write_arrays(path, columns)
        stored = columns
        places = _places(stored)
    images = []
    for example, label in zip(examples, labels):
        prediction = int(stored["predictions"][places[example.id]])
        target = label if config.targets == "label" else prediction
        images.append(BenchmarkImage(example, label, prediction, target))
    used = _choose_used(config, images)
    if not used:
        why = f" ({skipped[0].reason})" if skipped else ""
        raise NoImages(
            f"{source.name} gives no image that can be used{why}:"
            " check the data, targets and only_correct"
        )
    return used, _describe(images, used, skipped)


def _read_examples(
    classifier: Classifier,
    source: Source,
    progress: Progress,
    name: str,
    indices: Sequence[int],
) -> tuple[list[PreparedExample], list[SkippedExample]]:
    examples: list[PreparedExample] = []
    skipped: list[SkippedExample] = []
    with task(progress, f"{name}: reading", len(indices)) as advance:
        for example in prepare_examples(source, indices, classifier.preprocessing):
            if isinstance(example, SkippedExample):
                skipped.append(example)
            else:
                examples.append(example)
            advance(len(examples) + len(skipped))
    return examples, skipped


def _places(stored: Columns) -> dict[str, int]:
    """The row of each stored image by its id."""
    return {id: row for row, id in enumerate(stored["ids"].tolist())} if stored else {}


def _choose_used(
    config: BenchmarkConfig, images: Sequence[BenchmarkImage]
) -> list[BenchmarkImage]:
    used = list(images)
    if config.only_correct:
        used = [image for image in used if image.label == image.prediction]
    if config.targets == "label":
        used = [image for image in used if image.label >= 0]
    return used


def _describe(
    images: Sequence[BenchmarkImage],
    used: Sequence[BenchmarkImage],
    skipped: Sequence[SkippedExample],
) -> str:
    """Which images are used, for the foot of a table."""
    plural = "s" if len(used) > 1 else ""
    masks = sum(image.example.mask is not None for image in used)
    boxes = sum(image.example.boxes is not None for image in used)
    sentence = f"{len(used)} image{plural}, {masks} with a mask, {boxes} with boxes"
    labeled = sum(image.label >= 0 for image in images)
    if labeled:
        right = sum(image.label == image.prediction for image in images)
        sentence += f"; the network is right on {right} of {labeled}"
    else:
        sentence += "; it has none of the classes of the data"
    if len(used) < len(images):
        sentence += f", {len(images) - len(used)} left out"
    if skipped:
        reasons = [example.reason for example in skipped[:REASONS]]
        if len(skipped) > REASONS:
            reasons.append("...")
        sentence += f"; {len(skipped)} could not be read ({'; '.join(reasons)})"
    return sentence
