"""Rows of several runs side by side: those of one image, by its id, and of one target's rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from mdm_jax.data.network_input import evenly_spaced
from mdm_jax.errors import InputError


class JoinedRuns(NamedTuple):
    """Images, and entries: an entry is one image explained for one target, a card of the page."""

    ids: tuple[str, ...]
    """of each image"""
    labels: tuple[str, ...]
    """the data's name of each image's true class, "" where it is not known"""
    items: Int[np.ndarray, "runs images"]
    """number of each image among those that a run used, -1 where it used it not"""
    image: Int[np.ndarray, " entries"]
    """ascending"""
    rank: Int[np.ndarray, " entries"]
    rows: Int[np.ndarray, "runs entries"]
    """place of each entry in a run's records, -1 where it has none"""


def join_runs(records: Sequence[pa.Table], limit: int | None = None) -> JoinedRuns:
    """The images of all runs, in the order of the first that has them.

    `limit` of them, spread evenly over all. Images of one id within a run are told apart by their
    order. Raises InputError where there is no image."""
    images: dict[tuple[str, int], int] = {}
    labels: list[str] = []
    places = [_place_rows(table, images, labels) for table in records]
    if not images:
        raise InputError(
            "nothing to show: no chunk of the run is committed yet; start or go on with mdm run"
        )
    used = np.asarray(evenly_spaced(len(images), limit))
    number = np.full(len(images), -1)
    number[used] = np.arange(len(used))
    pairs = set()
    for place in places:
        for image, rank, _ in place:
            if number[image] >= 0:
                pairs.add((int(number[image]), rank))
    entries = sorted(pairs)
    where = {entry: position for position, entry in enumerate(entries)}
    rows = np.full((len(records), len(entries)), -1)
    items = np.full((len(records), len(used)), -1)
    for run, place in enumerate(places):
        for row, (image, rank, item) in enumerate(place):
            if number[image] >= 0:
                rows[run, where[int(number[image]), rank]] = row
                items[run, number[image]] = item
    ids = [id for id, _ in images]
    shown_image, shown_rank = np.asarray(entries).T
    return JoinedRuns(
        ids=tuple(ids[n] for n in used),
        labels=tuple(labels[n] for n in used),
        items=items,
        image=shown_image,
        rank=shown_rank,
        rows=rows,
    )


def _place_rows(
    table: pa.Table, images: dict[tuple[str, int], int], labels: list[str]
) -> list[tuple[int, int, int]]:
    """(image, rank, item) of each row; images that are new are added."""
    seen: dict[str, dict[int, int]] = {}
    place = []
    names = ("id", "rank", "item", "label_name")
    columns: list[list[Any]] = [table[name].to_pylist() for name in names]
    for id, rank, item, label in zip(*columns):
        # an image that could not be read may have no id
        id = id or f"item {item}"
        same = seen.setdefault(id, {})  # items of this id in this run
        key = id, same.setdefault(item, len(same))
        image = images.setdefault(key, len(images))
        # the first row of a new image
        if image == len(labels):
            labels.append(label or "")
        # a run that could not read the image does not know its label
        labels[image] = labels[image] or label or ""
        place.append((image, rank or 0, item))
    return place
