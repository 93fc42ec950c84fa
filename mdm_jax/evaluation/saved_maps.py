"""Maps from files: an array, a run, a folder of `mdm explain` or a method's folder of a benchmark;
matched to images by id."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mdm_jax.data.network_input import (
    PreparedExample,
    SkippedExample,
    evenly_spaced,
    prepare_examples,
)
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.data.source import HasFiles, Source
from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.runs.reader import open_run
from mdm_jax.runs.store import DESCRIPTION
from mdm_jax.storage.map_store import MapStore
from mdm_jax.types import Status

EXPLAINED = [status.name for status in Status if status != Status.NOT_FINITE]
"""statuses of the rows of a run whose maps are worth scoring"""
SCORES = "scores.npz"
"""what `mdm evaluate` writes, perhaps beside the maps"""


class Saved(NamedTuple):
    """Maps that were made before."""

    saliency: np.ndarray
    """[n, h, w]"""
    attribution: np.ndarray | None
    targets: np.ndarray | None
    ids: tuple[str, ...] | None
    """ids or file names of the images; None where the maps are in the order of the data"""


def read(path: Path) -> Saved:
    """The maps at a place. Raises InputError for a place that holds none."""
    shown = printable(path)
    if (path / DESCRIPTION).exists():
        return _of_run(path)
    if path.is_dir():
        if (shelf := MapStore(path)).chunks():
            columns = shelf.columns("ids", "saliency", "attribution", "target")
            return _saved(columns | {"targets": columns["target"]}, shown)
        files = [file for file in sorted(path.glob("*.npz")) if file.name != SCORES]
        if not files:
            raise InputError(
                f"{shown} holds no maps: give a run, a folder of mdm explain, a method's folder of"
                " a benchmark, or an .npz"
            )
        return _of_explain([_arrays(file, printable(file)) for file in files], files)
    if not path.exists():
        raise InputError(f"{shown} does not exist: check the path")
    arrays = _arrays(path, shown)
    if (
        "image_file" in arrays and "saliency" in arrays and arrays["saliency"].ndim == 2
    ):  # one file of mdm explain
        return _of_explain([arrays], [path])
    return _saved(
        {"targets" if name == "target" else name: array for name, array in arrays.items()}, shown
    )


def _of_run(path: Path) -> Saved:
    """The rows of a run that were explained, one for each image. Raises InputError where there are
    none."""
    run = open_run(path)
    if run.layout.targets > 1:
        raise InputError(
            f"{printable(path)} explains {run.layout.targets} targets of each image: evaluate a run"
            " of one"
        )
    explained = run.records.filter(pc.is_in(run.records["status"], pa.array(EXPLAINED)))
    saliency = run.saliency_of(explained["row"].to_pylist())
    if not len(saliency):
        raise InputError(f"{printable(path)} holds no maps yet: let mdm run finish a chunk first")
    return Saved(saliency, None, explained["target"].to_numpy(), tuple(explained["id"].to_pylist()))


def _arrays(path: Path, shown: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz, or that of an .npy as saliency. Raises InputError for another file."""
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            return (
                {"saliency": found}
                if isinstance(found, np.ndarray)
                else {name: found[name] for name in found.files}
            )
    except OSError as error:
        raise InputError(
            f"{shown} cannot be read ({error.strerror or error}): check the path and the"
            " permissions"
        ) from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{shown} is damaged, or is no .npz or .npy of plain arrays: save the maps anew with"
            " numpy.savez"
        ) from error


def matched(
    found: Saved, source: Source, preprocessing: Preprocessing, limit: int | None, path: Path
) -> tuple[list[PreparedExample], list[str]]:
    """The image of each map in the network's frame, and sentences for the items that could not be
    read.

    By id, or by the name of the file where only that is known; maps without ids are of the data's
    items in order (with `limit` of those that it spreads). Raises InputError for a map without its
    image."""
    shown = printable(path)
    indices = evenly_spaced(len(source), limit)
    if found.ids is None:
        if len(found.saliency) != len(indices):
            raise InputError(
                f"{shown} holds {len(found.saliency)} maps without ids for {len(indices)} images:"
                " save `ids` with them, or choose the same images with --limit"
            )
        read_items = list(prepare_examples(source, indices, preprocessing))
        for each in read_items:
            if isinstance(each, SkippedExample):
                raise InputError(
                    f"an image of a map cannot be read: {each.reason}; save `ids` with the maps of"
                    " the others"
                )
        return [each for each in read_items if isinstance(each, PreparedExample)], []
    if isinstance(source, HasFiles):  # only those that are needed are opened
        wanted = {*found.ids, *map(_stem, found.ids)}
        indices = [
            i for i in indices if source.files[i] in wanted or _stem(source.files[i]) in wanted
        ]
    elif (
        limit is None
    ):  # where maps are of a benchmark with a limit, those that it spread come first
        indices = list(dict.fromkeys([*evenly_spaced(len(source), len(found.ids)), *indices]))
    by_id: dict[str, PreparedExample] = {}
    by_stem: dict[str, list[PreparedExample]] = {}
    skipped = []
    for each in prepare_examples(source, indices, preprocessing):
        if isinstance(each, SkippedExample):
            skipped.append(each.reason)
            continue
        by_id[each.id] = each
        by_stem.setdefault(_stem(each.id), []).append(each)
        if all(id in by_id for id in found.ids):
            break
    return [_one(id, by_id, by_stem, shown, source.name, skipped) for id in found.ids], skipped


def _one(
    id: str,
    by_id: dict[str, PreparedExample],
    by_stem: dict[str, list[PreparedExample]],
    shown: str,
    data: str,
    skipped: Sequence[str],
) -> PreparedExample:
    if id in by_id:
        return by_id[id]
    near = by_stem.get(_stem(id), [])
    if len(near) == 1:
        return near[0]
    if near:
        raise InputError(
            f"{id} in {shown} may be any of {len(near)} images of {data}: save the maps with the"
            " ids of the data"
        )
    if skipped:
        raise InputError(
            f"{data} has no image {id!r} that can be read, of which {shown} holds a map:"
            f" {'; '.join(skipped[:3])}"
        )
    raise InputError(
        f"{data} has no image {id!r}, of which {shown} holds a map: check --data, --split and"
        " --limit"
    )


def _stem(id: str) -> str:
    return PurePosixPath(id).stem


def _of_explain(parts: Sequence[dict[str, np.ndarray]], files: Sequence[Path]) -> Saved:
    for part, file in zip(parts, files):
        if "saliency" not in part or part["saliency"].ndim != 2:
            raise InputError(
                f"{printable(file)} is no map of mdm explain: it holds no saliency [h, w]"
            )
    if len({part["saliency"].shape for part in parts}) > 1:
        raise InputError(
            f"the maps in {printable(files[0].parent)} differ in shape: evaluate those of one"
            " network at a time"
        )
    ids = [
        str(part["image_file"]) if "image_file" in part else file.stem.rpartition("-class")[0]
        for part, file in zip(parts, files)
    ]
    signed = (
        np.stack([part["attribution"] for part in parts])
        if all("attribution" in part for part in parts)
        else None
    )
    targets = (
        np.asarray([part["target"] for part in parts])
        if all("target" in part for part in parts)
        else None
    )
    return Saved(np.stack([part["saliency"] for part in parts]), signed, targets, tuple(ids))


def _saved(columns: dict[str, np.ndarray], shown: str) -> Saved:
    if "saliency" not in columns:
        raise InputError(
            f"{shown} holds no array saliency [n, h, w], but {', '.join(columns) or 'nothing'}:"
            " save the maps under it"
        )
    if columns["saliency"].ndim != 3:
        raise InputError(
            f"{shown} holds saliency of shape {columns['saliency'].shape}: save maps [n, h, w],"
            " without channels"
        )
    n = len(columns["saliency"])
    for name in ("ids", "targets", "attribution"):
        if name in columns and len(np.atleast_1d(columns[name])) != n:
            raise InputError(
                f"{shown} holds {len(np.atleast_1d(columns[name]))} {name} for {n} maps: give one"
                " each"
            )
    ids = tuple(map(str, columns["ids"].tolist())) if "ids" in columns else None
    return Saved(columns["saliency"], columns.get("attribution"), columns.get("targets"), ids)
