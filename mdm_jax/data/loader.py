"""Batches from a source, read ahead in threads or processes by grain.

A batch is a pure function of the seed and its number."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import grain
import numpy as np
import PIL.Image
from jaxtyping import Bool, Float32, Int32

from mdm_jax.data.augment import Augment
from mdm_jax.data.prefetch import read_ahead
from mdm_jax.data.source import UNKNOWN, MultiLabel, Source, read_image
from mdm_jax.errors import InputError

# Brings an 8-bit RGB image to the network's size: float32 [h, w, c] in [0, 1].
Fit = Callable[[PIL.Image.Image], np.ndarray]

# Training batches are endless; grain cannot count more of them.
EPOCHS = 2**31
DIED = (
    "a process that loads images died, perhaps of too little memory: lower data.workers (the same"
    " command goes on from the last checkpoint)"
)


class Batch(NamedTuple):
    """Images of the network's size, not normalized, with their labels."""

    images: Float32[np.ndarray, "b h w c"]
    labels: Int32[np.ndarray, " b"] | Float32[np.ndarray, "b classes"]
    """number of the class; of a multi-label source 1 for each class of the image, else 0"""
    valid: Bool[np.ndarray, " b"]
    """False where the slot repeats another image: in place of an item that could not be read, or as
    padding of the last batch"""
    skipped: tuple[str, ...]
    """a sentence for each item that could not be read, which names it"""


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are read; the numbers of workers and threads never change what is in them."""

    batch: int = 64
    """images a batch"""
    workers: int = 0
    """processes that read; 0 reads in threads of this process"""
    seed: int = 0
    """of the order and of the augmentation"""
    limit: int | None = None
    """use only so many items, evenly over the source, since a folder is sorted by class"""

    def check(self) -> None:
        """Raises InputError for a setting out of range."""
        if self.batch < 1:
            raise InputError(f"batch is {self.batch}: give at least 1 image a batch")
        if self.workers < 0:
            raise InputError(
                f"workers is {self.workers}: give the number of processes, or 0 for threads"
            )
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}: give a number from 0 to 2^32 - 1")
        if self.limit is not None and self.limit < 1:
            raise InputError(
                f"limit is {self.limit}: give at least 1 item, or leave it out"
            )


def batches_per_epoch(source: Source, loading: LoaderConfig) -> int:
    """Training batches in an epoch; the incomplete last one is dropped.

    Raises InputError when that leaves none."""
    loading.check()
    items = _count_items(source, loading)
    if items < loading.batch:
        raise InputError(
            f"{source.name} gives {items} items, less than one batch of {loading.batch}: give a"
            " smaller batch"
        )
    return items // loading.batch


def train_batches(
    source: Source,
    loading: LoaderConfig,
    fit: Fit,
    augment: Augment | None = None,
    *,
    start: int = 0,
) -> Iterator[Batch]:
    """Endless batches from number `start` on, reshuffled each epoch, augmented, fitted.

    Batches are counted over epochs from 0. Batch k is a pure function of the seed and k, so a run
    resumes exactly with `start` alone. Items that cannot be read are skipped and named. Raises
    InputError at the call for a source smaller than a batch and settings out of range."""
    used = batches_per_epoch(source, loading) * loading.batch
    if augment is not None:
        augment.check()
    if start < 0:
        raise InputError(f"start is {start}: give the number of the first batch, from 0")
    count = _count_items(source, loading)
    prepare = _Prepare(source, count, fit, augment)
    # Cut before it is repeated: an epoch is whole batches, each shuffled with a seed of its own.
    epoch = grain.MapDataset.range(count).seed(loading.seed).shuffle()[:used]
    items = epoch.repeat(EPOCHS).random_map(prepare)
    stack = partial(_stack, _blank(source, fit), loading.batch)
    batches = items.batch(loading.batch, batch_fn=stack)
    return _read(batches[start:], loading)


def eval_batches(source: Source, loading: LoaderConfig, fit: Fit) -> Iterator[Batch]:
    """Every item once, in order, fitted; the last batch is padded with `valid` False.

    Items that cannot be read are skipped and named. Raises InputError at the call for settings out
    of range or no items."""
    loading.check()
    count = _count_items(source, loading)
    if count == 0:
        raise InputError(f"{source.name} has no items: choose another split or folder")
    items = grain.MapDataset.range(count).map(_Prepare(source, count, fit, None))
    stack = partial(_stack, _blank(source, fit), loading.batch)
    batches = items.batch(loading.batch, batch_fn=stack)
    return _read(batches, loading)


class _Slot(NamedTuple):
    """One place of a batch."""

    image: np.ndarray | None
    label: int | np.ndarray
    reason: str


@dataclass(frozen=True)
class _Prepare:
    """Item `index` of `count` read, augmented with `rng` and fitted.

    An item that cannot be read is a slot without image."""

    source: Source
    count: int
    fit: Fit
    augment: Augment | None

    def __call__(self, index: int, rng: np.random.Generator | None = None) -> _Slot:
        try:
            item = read_image(self.source, index * len(self.source) // self.count)
            label = item.label if item.labels is None else item.labels
            if item.labels is None and label == UNKNOWN:
                raise InputError(f"{item.id} has no label: choose a split that is labeled")
        except InputError as error:
            return _Slot(None, 0, str(error))
        image = item.image
        if self.augment is not None and rng is not None:
            image = self.augment(image, rng)
        return _Slot(self.fit(image), label, "")


def _stack(blank: _Slot, size: int, slots: Sequence[_Slot]) -> Batch:
    """One batch of `size`; a slot without image repeats one that has."""
    slots = list(slots) + [_Slot(None, 0, "")] * (size - len(slots))
    # Repeated, not blank, so that the statistics of batch norms stay those of images.
    good = [slot for slot in slots if slot.image is not None] or [blank]
    filled = []
    for number, slot in enumerate(slots):
        filled.append(slot if slot.image is not None else good[number % len(good)])
    return Batch(
        np.stack([np.asarray(slot.image, np.float32) for slot in filled]),
        np.asarray([slot.label for slot in filled], np.asarray(blank.label).dtype),
        np.asarray([slot.image is not None for slot in slots]),
        tuple(slot.reason for slot in slots if slot.reason),
    )


def _count_items(source: Source, loading: LoaderConfig) -> int:
    return len(source) if loading.limit is None else min(loading.limit, len(source))


def _blank(source: Source, fit: Fit) -> _Slot:
    """What stands in a batch of which nothing could be read."""
    label: np.ndarray = np.zeros((), np.int32)
    if isinstance(source, MultiLabel):
        label = np.zeros(len(source.class_names), np.float32)
    # A `fit` that cannot work fails here, before any reading.
    image = fit(PIL.Image.new("RGB", (64, 64)))
    return _Slot(np.zeros_like(image), label, "")


def _read(batches: grain.MapDataset, loading: LoaderConfig) -> Iterator[Batch]:
    # Processes read with one thread each: PIL already keeps a core busy.
    threads = 1 if loading.workers else min(16, os.cpu_count() or 1)
    buffer = threads + 1  # in batches: grain's 500 fill the memory
    return read_ahead(
        batches, threads=threads, buffer=buffer, workers=loading.workers, died=DIED
    )
