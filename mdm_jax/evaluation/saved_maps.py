"""Maps from files, matched to images by id.

They are read from an array, a run, a folder of `mdm explain` or a method's folder of a benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mdm_jax.config import shows_evidence
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
from mdm_jax.storage.arrays import open_numpy
from mdm_jax.storage.differences import differences, flat
from mdm_jax.storage.map_store import MapStore
from mdm_jax.text_files import file_id, parse_json
from mdm_jax.types import Status

# Statuses of the rows of a run whose maps are worth scoring.
EXPLAINED = [status.name for status in Status if status != Status.NOT_FINITE]

# What `mdm evaluate` writes, perhaps beside the maps.
SCORES = "scores.npz"

# Images that cannot be read are named in an error, up to so many.
REASONS = 3


class SavedMaps(NamedTuple):
    """Maps that were made before."""

    saliency: np.ndarray
    """[n, h, w]"""
    attribution: np.ndarray | None
    targets: np.ndarray | None
    ids: tuple[str, ...] | None
    """ids or file names of the images; None where the maps are in the order of the data"""
    ranking: np.ndarray | None = None
    """[n, h, w], see `Explanation.ranking`"""
    lost_ranking: bool = False
    """whether the method had rankings that were not kept"""
    incomplete: str = ""
    """that a run has rows that are not there, as a sentence"""


def read(path: Path) -> SavedMaps:
    """The maps at a place. Raises InputError for a place that holds none."""
    name = printable(path)
    if (path / DESCRIPTION).exists():
        return _read_run(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise InputError(f"{name} does not exist: check the path")
    columns = _load_arrays(path)
    # a file of `mdm explain` holds one map [h, w]
    if "image_file" in columns and "saliency" in columns and columns["saliency"].ndim == 2:
        return _join_explained([columns], [path])
    return _check_columns(columns, name)


def _read_run(path: Path) -> SavedMaps:
    """The rows of a run that were explained, one for each image. Raises InputError where there are
    none."""
    run = open_run(path)
    if run.layout.targets > 1:
        raise InputError(
            f"{printable(path)} explains {run.layout.targets} targets of each image:"
            " evaluate a run of one"
        )
    # a run goes on after images that failed; their maps are zeros
    is_explained = pc.is_in(run.records["status"], pa.array(EXPLAINED))
    explained = run.records.filter(is_explained)
    rows = explained["row"].to_pylist()
    saliency = run.saliency_of(rows)
    if not len(saliency):
        raise InputError(
            f"{printable(path)} holds no maps yet: let mdm run finish a chunk first"
        )
    targets, ids = explained["target"].to_numpy(), explained["id"].to_pylist()
    # evidence kept beside a map that is the mask alone is no ranking of the method's
    config = run.settings.get("config") or {}
    gives_ranking = shows_evidence(config.get("schedule", ""), config.get("map"))
    has_ranking = gives_ranking and run.evidence is not None
    ranking = run.ranking_of(rows) if has_ranking else None
    lost_ranking = gives_ranking and not has_ranking
    return SavedMaps(
        saliency, None, targets, tuple(ids), ranking, lost_ranking, run.incomplete
    )


def _read_folder(path: Path) -> SavedMaps:
    """A method's folder of a benchmark, or files of `mdm explain`."""
    name, store = printable(path), MapStore(path)
    if store.chunks():
        return _check_columns(
            store.columns("ids", "saliency", "attribution", "ranking", "target"), name
        )
    files = [file for file in sorted(path.glob("*.npz")) if file.name != SCORES]
    if not files:
        raise InputError(
            f"{name} holds no maps: give a run, a folder of mdm explain,"
            " a method's folder of a benchmark, or an .npz"
        )
    return _join_explained([_load_arrays(file) for file in files], files)


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz, or that of an .npy as saliency. Raises InputError for another file."""
    try:
        with open_numpy(path) as loaded:
            if isinstance(loaded, np.ndarray):
                return {"saliency": loaded}
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise InputError(
            f"{printable(path)} cannot be read ({error.strerror or error}):"
            " check the path and the permissions"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{printable(path)} is damaged, or is no .npz or .npy of plain arrays:"
            " save the maps anew with numpy.savez"
        ) from error


def _join_explained(
    parts: Sequence[dict[str, np.ndarray]], files: Sequence[Path]
) -> SavedMaps:
    """The maps of files of `mdm explain`, one each."""
    for part, file in zip(parts, files):
        if "saliency" not in part or part["saliency"].ndim != 2:
            raise InputError(
                f"{printable(file)} is no map of mdm explain: it holds no saliency [h, w]"
            )
    if len({part["saliency"].shape for part in parts}) > 1:
        raise InputError(
            f"the maps in {printable(files[0].parent)} differ in shape:"
            " evaluate those of one network at a time"
        )
    _check_settings(parts, files)
    ids = []
    for part, file in zip(parts, files):
        if "image_file" in part:
            ids.append(str(part["image_file"]))
        else:  # files of older versions: IMAGE-classNUMBER.npz
            ids.append(file.stem.rpartition("-class")[0])
    saliency = np.stack([part["saliency"] for part in parts])
    attribution, targets = (_stack_all(parts, name) for name in ("attribution", "target"))
    ranking = None
    if any("ranking" in part for part in parts):
        # of several methods perhaps: for those without, the saliency serves
        ranking = np.stack([part.get("ranking", part["saliency"]) for part in parts])
    return SavedMaps(saliency, attribution, targets, tuple(ids), ranking)


def _check_settings(parts: Sequence[dict[str, np.ndarray]], files: Sequence[Path]) -> None:
    """Raise InputError for maps that were not made alike, which no one number could tell of.

    Files of older versions do not say how they were made."""
    known = [str(part["settings"]) for part in parts if "settings" in part]
    try:
        described = [dict(parse_json(each)) for each in dict.fromkeys(known)]
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the settings of maps in {printable(files[0].parent)} are damaged: explain them anew"
        ) from error
    if len(described) > 1:
        first, second = (dict(flat(each)) for each in described[:2])
        raise InputError(
            f"the maps in {printable(files[0].parent)} were made with different settings"
            f" ({', '.join(differences(first, second))}): explain into a folder for each, or"
            " evaluate one file"
        )


def _stack_all(parts: Sequence[dict[str, np.ndarray]], name: str) -> np.ndarray | None:
    """An array that every part has; None where one lacks it."""
    if not all(name in part for part in parts):
        return None
    return np.stack([part[name] for part in parts])


def _check_columns(columns: dict[str, np.ndarray], name: str) -> SavedMaps:
    if "saliency" not in columns:
        raise InputError(
            f"{name} holds no array saliency [n, h, w], but {', '.join(columns) or 'nothing'}:"
            " save the maps under it"
        )
    saliency = columns["saliency"]
    if saliency.ndim != 3:
        raise InputError(
            f"{name} holds saliency of shape {saliency.shape}:"
            " save maps [n, h, w], without channels"
        )
    targets = columns.get("targets", columns.get("target"))
    ids = columns.get("ids")
    attribution, ranking = columns.get("attribution"), columns.get("ranking")
    for what, array in (
        ("saliency", saliency),
        ("ids", ids),
        ("targets", targets),
        ("attribution", attribution),
        ("ranking", ranking),
    ):
        if array is None:
            continue
        if what != "ids" and array.dtype.kind not in "fiub":
            raise InputError(f"{name} holds {what} of {array.dtype.str[1:]}: save numbers")
        count = len(np.atleast_1d(array))
        if count != len(saliency):
            raise InputError(
                f"{name} holds {count} {what} for {len(saliency)} maps: give one each"
            )
    texts = None if ids is None else tuple(map(str, ids.tolist()))
    return SavedMaps(saliency, attribution, targets, texts, ranking)


def match_images(
    maps: SavedMaps,
    source: Source,
    preprocessing: Preprocessing,
    limit: int | None,
    path: Path,
) -> tuple[list[PreparedExample], list[str]]:
    """The image of each map as the network sees it, and why items could not be read.

    Images are found by id, or by the name of the file where only that is known. Maps without ids
    are of the data's items in order, or with `limit` of those that are evenly spaced in it. Raises
    InputError for a map without its image.
    """
    if maps.ids is None:
        return _match_in_order(maps, source, preprocessing, limit, path), []
    by_id: dict[str, PreparedExample] = {}
    by_stem: dict[str, list[PreparedExample]] = {}
    # Older runs know an image by its id as it is printed.
    by_print: dict[str, list[PreparedExample]] = {}
    skipped: list[str] = []
    indices = _choose_indices(maps.ids, source, limit)
    for example in prepare_examples(source, indices, preprocessing):
        if isinstance(example, SkippedExample):
            skipped.append(example.reason)
            continue
        by_id[example.id] = example
        by_stem.setdefault(_stem(example.id), []).append(example)
        by_print.setdefault(printable(example.id), []).append(example)
        # reading the rest of a large data set takes long
        if all(id in by_id for id in maps.ids):
            break
    matched = []
    for id in maps.ids:
        candidates = [by_id[id]] if id in by_id else by_print.get(id, [])
        if not candidates:
            candidates = by_stem.get(_stem(id), [])
        if len(candidates) != 1:
            raise _no_match(id, len(candidates), source.name, skipped, path)
        matched.append(candidates[0])
    return matched, skipped


def _match_in_order(
    maps: SavedMaps,
    source: Source,
    preprocessing: Preprocessing,
    limit: int | None,
    path: Path,
) -> list[PreparedExample]:
    indices = evenly_spaced(len(source), limit)
    if len(maps.saliency) != len(indices):
        raise InputError(
            f"{printable(path)} holds {len(maps.saliency)} maps without ids for"
            f" {len(indices)} images: save `ids` with them, or choose the same images (limit)"
        )
    return list(_readable(prepare_examples(source, indices, preprocessing)))


def _readable(
    examples: Iterator[PreparedExample | SkippedExample],
) -> Iterator[PreparedExample]:
    for example in examples:
        if isinstance(example, SkippedExample):
            raise InputError(
                f"an image of a map cannot be read: {example.reason};"
                " save `ids` with the maps of the others"
            )
        yield example


def _choose_indices(ids: Sequence[str], source: Source, limit: int | None) -> Sequence[int]:
    """The items to read, those first that are likely to be of the maps."""
    indices = evenly_spaced(len(source), limit)
    if isinstance(source, HasFiles):  # files are known by name without reading them
        wanted = {*ids, *map(_stem, ids)}
        chosen = []
        for i in indices:
            id = file_id(source.files[i])
            if not wanted.isdisjoint({id, _stem(id), printable(source.files[i])}):
                chosen.append(i)
        return chosen
    if limit is None:
        # maps may be of a benchmark with a limit, which takes evenly spaced items
        return list(dict.fromkeys([*evenly_spaced(len(source), len(ids)), *indices]))
    return indices


def _no_match(
    id: str, candidates: int, data: str, skipped: Sequence[str], path: Path
) -> InputError:
    name = printable(path)
    if candidates:
        return InputError(
            f"{id} in {name} may be any of {candidates} images of {data}:"
            " save the maps with the ids of the data"
        )
    if skipped:
        return InputError(
            f"{data} has no image {id!r} that can be read, of which {name} holds a map:"
            f" {'; '.join(skipped[:REASONS])}"
        )
    return InputError(
        f"{data} has no image {id!r}, of which {name} holds a map: check data, split and limit"
    )


def _stem(id: str) -> str:
    return PurePosixPath(id).stem
