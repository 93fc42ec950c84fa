"""A survey of a network's prototypes: their origins, decisions on images, and all regions shown.

In the order of the work: the origin of every prototype (`find_origins`), the decisions on some
images (`survey_decisions`), and the regions of every pair of an image and a prototype that is shown
(`search_regions`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mdm_jax.models.classifier import Classifier
from mdm_jax.progress import Progress, task
from mdm_jax.prototypes import regions
from mdm_jax.prototypes.image_sets import TRAIN, ImageRef, ImageSets, Pair
from mdm_jax.prototypes.reasoning import (
    Reasoning,
    RoundedSum,
    explain_decisions,
    last_layer,
    round_sum,
)
from mdm_jax.prototypes.region_store import RegionStore
from mdm_jax.prototypes.retained_similarity import measure_similarities
from mdm_jax.prototypes.search import find_regions, prototype_classes
from mdm_jax.storage import arrays
from mdm_jax.training.prototypes import projection
from mdm_jax.training.prototypes.record import PushedPrototype, PushRecord

# Pairs in a file: what is lost at most when a search is stopped.
PAIRS_PER_FILE = 64

# Images that are held at a time.
IMAGES_AT_ONCE = 32


class Prototype(NamedTuple):
    """A prototype and where it comes from."""

    number: int
    class_index: int | None
    """None for a network that does not tell"""
    weight: float | None
    """what a similarity of 1 gives to its class"""
    source: Pair | None
    """in the training image that it is a part of; None where there is none, for the `note`"""
    position: tuple[int, int] | None
    """(row, column) in the feature grid"""
    distance: float | None
    """from the prototype to that part: before the push, or where it was searched for, now"""
    nearest: tuple[Pair, ...]
    """in the training images, of any class, that have the parts most like it"""
    note: str = ""


class Decision(NamedTuple):
    """An image and why the network says what it says."""

    item: ImageRef
    id: str
    classes: tuple[int, ...] | None
    """the true classes by the network's numbers, one but in multi-label data; None where they are
    not known"""
    reasoning: Reasoning
    sum: RoundedSum
    """the logit as it is written"""
    multi_label: bool = False
    """whether each label is decided by its own score, so that no other is a rival"""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """the image with the prototype of each row"""
        return tuple(Pair(self.item, row.prototype) for row in self.sum.rows)

    @property
    def rival(self) -> tuple[int, float] | None:
        """The best other class and its logit; None where there is none, and in multi-label data."""
        logits = self.reasoning.logits.astype(np.float64)
        if len(logits) < 2 or self.multi_label:
            return None
        # the class itself is no rival
        logits[self.reasoning.target] = -np.inf
        return int(logits.argmax()), float(logits.max())


class Survey(NamedTuple):
    """Everything that is shown of a network; images and regions are read when they are drawn."""

    classifier: Classifier
    album: ImageSets
    prototypes: tuple[Prototype, ...]
    decisions: tuple[Decision, ...]
    regions: dict[str, RegionStore]
    """in the order in which they are shown; figures take the first"""
    notes: tuple[str, ...]
    """what is left out, a sentence each"""

    @property
    def pairs(self) -> list[Pair]:
        """every pair that is shown, each once"""
        return all_pairs(self.prototypes, self.decisions)

    def similarities(self, pairs: Sequence[Pair]) -> list[float | None]:
        """The similarity of each pair in the whole image; None for a pair without regions."""
        found: list[float | None] = [None] * len(pairs)
        for kept in self.regions.values():
            numbers = kept.numbers(pairs)
            for place, value in zip(
                np.flatnonzero(numbers["there"]), numbers.get("similarity", ())
            ):
                # NaN cannot be written as JSON
                found[place] = float(value) if np.isfinite(value) else None
        return found


def all_pairs(prototypes: Sequence[Prototype], decisions: Sequence[Decision]) -> list[Pair]:
    """Every pair that is shown, each once: sources, then decisions, then nearest images."""
    # sources first: they are what a page shows first, if a search is stopped
    sources = [each.source for each in prototypes if each.source is not None]
    rows = [pair for each in decisions for pair in each.pairs]
    near = [pair for each in prototypes for pair in each.nearest]
    return list(dict.fromkeys([*sources, *rows, *near]))


def find_origins(
    classifier: Classifier,
    album: ImageSets,
    record: PushRecord | None,
    out: Path,
    *,
    count: int,
    limit: int | None,
    settings: Mapping[str, Any],
    progress: Progress,
) -> tuple[tuple[Prototype, ...], list[str]]:
    """Every prototype with its source and `count` nearest training images, and notes.

    The source is what the push recorded, or without a record the nearest part of an image of the
    prototype's own class. Both are looked for among `limit` items, spread evenly, of the training
    part. What was found before is read again where `settings`, which tell the network and the data,
    were the same."""
    classes, notes = prototype_classes(classifier), []
    kernel, _ = last_layer(classifier)
    how: dict[str, Any] = {
        "limit": limit,
        "made": json.dumps(settings, sort_keys=True),
        "progress": progress,
    }
    if record is not None:
        pushed = record.pushed
    else:
        found = _nearest(classifier, album, out, 1, own=True, **how)
        pushed = projection.push_records(
            found, album.sources[TRAIN], classes or (), classifier.class_names
        )
        notes.append(
            "no push is recorded: a prototype's source is the nearest part of a training image of"
            " its class"
        )
    near = None
    if count:
        near = _nearest(classifier, album, out, count, own=False, **how)
    return tuple(_prototype(one, classes, kernel, near) for one in pushed), notes


def _prototype(
    one: PushedPrototype, classes: Any, kernel: np.ndarray, near: projection.Nearest | None
) -> Prototype:
    j = one.prototype
    class_index = None if classes is None else classes[j]
    # -1 stands where there are fewer images than asked for
    items = [] if near is None else [int(item) for item in near.items[j] if item >= 0]
    return Prototype(
        number=j,
        class_index=class_index,
        weight=None if class_index is None else float(kernel[j, class_index]),
        source=None if one.item is None else Pair(ImageRef(TRAIN, one.item), j),
        position=one.position,
        distance=one.distance,
        nearest=tuple(Pair(ImageRef(TRAIN, item), j) for item in items),
        note=one.reason,
    )


def _nearest(
    classifier: Classifier,
    album: ImageSets,
    out: Path,
    count: int,
    *,
    own: bool,
    limit: int | None,
    made: str,
    progress: Progress,
) -> projection.Nearest:
    """The nearest images of every prototype, read again if found before with settings `made`."""
    source = album.sources[TRAIN]
    path = out / ("nearest_own.npz" if own else "nearest.npz")
    request = np.asarray([count, min(limit or len(source), len(source))])
    if path.exists():
        columns = arrays.read_arrays(path)
        if (
            np.array_equal(columns.pop("asked"), request)
            and str(columns.pop("made", "")) == made
        ):
            return projection.Nearest(**columns, skipped=())
    with task(progress, "searching the training images", int(request[1])) as done:
        found = projection.find_nearest(
            classifier,
            source,
            k=count,
            own_class=own,
            limit=limit,
            on_batch=lambda part, whole: done(part),
        )
    columns = {name: value for name, value in found._asdict().items() if name != "skipped"}
    arrays.write_arrays(path, columns | {"asked": request, "made": np.asarray(made)})
    return found


def survey_decisions(
    classifier: Classifier,
    album: ImageSets,
    items: Sequence[ImageRef],
    *,
    rows: int,
    progress: Progress,
) -> tuple[tuple[Decision, ...], list[str]]:
    """The decision on each image, in `rows` rows, and a note for each that cannot be read."""
    notes: list[str] = []
    found = []
    with task(progress, "reasoning", len(items)) as done:
        for start in range(0, len(items), IMAGES_AT_ONCE):
            stop = min(start + IMAGES_AT_ONCE, len(items))
            part = list(album.readable(items[start:stop], notes))
            reasons: list[Reasoning] = []
            if part:
                images = np.stack([seen.image for _, seen in part])
                reasons = explain_decisions(classifier, images)
            for (item, seen), reasoning in zip(part, reasons):
                total = round_sum(reasoning, rows)
                found.append(
                    Decision(
                        item, seen.id, seen.classes, reasoning, total, seen.multi_label
                    )
                )
            done(stop)
    return tuple(found), notes


def search_regions(
    classifier: Classifier,
    album: ImageSets,
    kept: dict[str, RegionStore],
    pairs: Sequence[Pair],
    *,
    configs: dict[str, Any],
    key: int,
    micro_batch: int | None,
    progress: Progress,
) -> tuple[int, list[str]]:
    """Find and store the missing regions of pairs, `PAIRS_PER_FILE` at a time.

    `configs` holds the config of a region where it is not the default one. Returns how many were
    found, and a note for each image that cannot be read, whose pairs are left out."""
    notes: list[str] = []
    todo = {name: each.missing(pairs) for name, each in kept.items()}
    total = sum(len(missing) for missing in todo.values())
    finished = 0
    with task(progress, "searching regions", total) as done:
        for name, missing in todo.items():
            config = configs.get(name)
            # a default config may take a search of its own, such as that of receptive fields
            if config is None and missing:
                config = regions.config_for(name, classifier, album.shape)
            for start in range(0, len(missing), PAIRS_PER_FILE):
                part = missing[start : start + PAIRS_PER_FILE]
                items = list(dict.fromkeys(pair.item for pair in part))
                images = {item: seen.image for item, seen in album.readable(items, notes)}
                part = [pair for pair in part if pair.item in images]
                if not part:
                    continue
                stacked = np.stack([images[pair.item] for pair in part])
                numbers = np.asarray([pair.prototype for pair in part])
                found = find_regions(
                    classifier,
                    stacked,
                    numbers,
                    regions=[name],
                    configs={name: config},
                    key=key,
                    ids=[pair.key for pair in part],
                    micro_batch=micro_batch,
                    on_progress=partial(_advance, done, finished),
                )[name]
                similarities = measure_similarities(
                    classifier, stacked, found.saliency, numbers
                )
                kept[name].add(part, found, similarities)
                finished += len(part)
    return finished, list(dict.fromkeys(notes))


def _advance(done: Callable[[int], None], before: int, _: str, count: int) -> None:
    done(before + count)
