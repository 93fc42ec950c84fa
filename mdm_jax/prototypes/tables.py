"""Results of a survey for programs: JSON of prototypes and decisions, Parquet of regions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mdm_jax.prototypes import regions
from mdm_jax.prototypes.image_sets import ImageRef, Pair
from mdm_jax.prototypes.survey import Decision, Prototype, Survey
from mdm_jax.storage.atomic import write_whole
from mdm_jax.types import Status


def write_tables(survey: Survey, out: Path) -> list[Path]:
    """prototypes.json: prototypes and decisions; prototypes.parquet: a row for each region."""
    items = list(dict.fromkeys(pair.item for pair in survey.pairs))
    ids = {item: seen.id for item, seen in survey.album.readable(items, [])}
    similar = dict(zip(survey.pairs, survey.similarities(survey.pairs)))

    def pair(each: Pair) -> dict[str, Any]:
        return {
            "item": each.item.number,
            "id": ids.get(each.item),
            "similarity": similar[each],
        }

    names = survey.classifier.class_names
    text = {
        "network": survey.classifier.name,
        "prototypes": [_prototype_record(each, pair, names) for each in survey.prototypes],
        "decisions": [_decision_record(each, names) for each in survey.decisions],
        "notes": survey.notes,
    }
    # both are written whole or not at all, so that a reader never sees half
    files = [out / "prototypes.json", out / "prototypes.parquet"]
    write_whole(files[0], lambda file: file.write(json.dumps(text, indent=1).encode()))
    write_whole(files[1], lambda file: pq.write_table(_region_table(survey, ids), file))
    return files


def _prototype_record(
    each: Prototype, pair: Callable[[Pair], Any], names: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "prototype": each.number,
        "class": each.class_index,
        "class_name": None if each.class_index is None else names[each.class_index],
        "weight": each.weight,
        "source": None if each.source is None else pair(each.source),
        "position": each.position,
        "distance": each.distance,
        "nearest": [pair(near) for near in each.nearest],
        "note": each.note,
    }


def _decision_record(each: Decision, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "item": each.item.number,
        "id": each.id,
        "classes": each.classes,
        "prediction": each.reasoning.prediction,
        "target": each.reasoning.target,
        "target_name": names[each.reasoning.target],
        "logit": each.reasoning.logit,
        **each.sum._asdict(),
        "rows": [row._asdict() for row in each.sum.rows],
    }


def _region_table(survey: Survey, ids: dict[ImageRef, str]) -> pa.Table:
    pairs, parts = survey.pairs, []
    for name, kept in survey.regions.items():
        numbers = kept.numbers(pairs)
        there = [pair for pair, known in zip(pairs, numbers.pop("there")) if known]
        columns: dict[str, Any] = {
            "region": [name] * len(there),
            "split": [pair.item.part for pair in there],
            "item": np.asarray([pair.item.number for pair in there], np.int64),
            "id": [ids.get(pair.item, "") for pair in there],
            "prototype": np.asarray([pair.prototype for pair in there], np.int32),
            # of the activations; the columns of similarities are of the similarity
            "node": [str(regions.default_node(name))] * len(there),
            "status": [Status(int(status)).name for status in numbers.pop("status", ())],
        }
        boxes = numbers.pop("box", np.empty((0, 4), np.int32))
        for corner, values in zip(("box_x0", "box_y0", "box_x1", "box_y1"), boxes.T):
            columns[corner] = np.ascontiguousarray(values)
        # a region without pairs is a table of no rows, and concat needs its columns
        parts.append(pa.table(columns | numbers))
    return pa.concat_tables(parts)
