"""Writing the page of runs: a folder that opens from file://, made in bounded memory.

index.html, assets/            the page and its scripts
data/index.js                  the numbers of all images, as columns
data/rN/CCCCC.js               mask vectors of run N, a block of images a file, loaded when one
                               of them is shown
data/fN/CCCCC.js, images/fN/   pictures of frame N, and what goes beside them
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
from matplotlib import colormaps
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.progress import NullProgress, Progress, task
from mdm_jax.storage import claims
from mdm_jax.storage.atomic import unwritable
from mdm_jax.views.pages import columns, kept, maps, pictures, run_view
from mdm_jax.views.pages.columns import Number, pack
from mdm_jax.views.pages.frames import Frame, ImageOrigin, group_frames
from mdm_jax.views.pages.join_runs import JoinedRuns, join_runs
from mdm_jax.views.pages.run_view import RunView
from mdm_jax.views.pages.scores import read_scores

FORMAT = 1

# Mask data of a block of images: small, so that a screen of images from all over the data loads at
# once.
BLOCK_BYTES = 196_608

# Fewest and most images in a block.
BLOCK = (16, 200)
COLORS = ("inferno", "viridis", "cividis")

# What `mdm evaluate` calls the energy of a page.
ENERGY_METRIC = "metric:energy:mask"

# By which a page of an earlier version is known.
GENERATOR = '<meta name="generator" content="mdm report">'
FOLDERS = ("data", "images", "assets")
STATIC = resources.files("mdm_jax.views.pages") / "static" / "report"
SCRIPTS = (STATIC / "scripts.txt").read_text(encoding="utf-8").split()
ASSETS = ("page.css", *SCRIPTS)
PAGE = (
    *("index.html", "data/index.js", f"data/[fr][0-9]*/{claims.NUMBER}.js"),
    f"images/f[0-9]*/[0-9][0-9][0-9]/[0-9]{claims.NUMBER}.{pictures.SUFFIX}",
    *(f"assets/{name}" for name in ASSETS),
)
REPORT = claims.Kind(
    "report",
    (*PAGE, claims.options_file("report")),
    lambda folder: claims.begins_with(folder / "index.html", GENERATOR),
    alone=True,
)


class ReportSummary(NamedTuple):
    """What was written."""

    page: Path
    images: int
    entries: int
    """images times targets: cards of the page"""
    pictures: tuple[int, ...]
    """images of each frame that could be read"""
    names: tuple[str, ...]
    """of each run"""
    explained: tuple[int, ...]
    """entries that each run has a result of"""
    given_up: tuple[int, ...]
    """entries of each run whose map explains nothing, see `run_view.GIVEN_UP`"""
    nodes: tuple[str, ...]
    """the name of each run's node"""
    numbers: tuple[dict[str, np.ndarray], ...]
    """of each run, by key, one of each entry"""
    notes: tuple[str, ...]
    """what was left out, a sentence each"""


def write_report(
    runs: Sequence[RunView],
    albums: Sequence[ImageOrigin],
    out: Path | str,
    *,
    names: Sequence[str] | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> ReportSummary:
    """Write the page of runs, side by side on the same images, into the folder `out`.

    `albums` says for each run where its images come from. `limit` images at most, spread evenly.
    Energy is measured where the source knows the object. An image that cannot be read is shown as
    that. Raises InputError where nothing is committed, or `out` cannot be written or holds
    something else."""
    out = Path(out)
    names = tuple(
        map(printable, names or run_view.short_names([run.place for run in runs]))
    )
    joined = join_runs([run.records for run in runs], limit)
    frames = group_frames(runs, albums, len(joined.ids))
    numbers, notes = [], []
    for run, rows in zip(runs, joined.rows):
        measured, note = read_scores(run.place, joined.ids, joined.image, joined.rank)
        read = columns.read_numbers(run.records, rows, run_view.settings(run))
        numbers.append([*read, *measured])
        notes += [note] if note else []
    _clear_folder(out)
    try:
        energies, unread = _write_blocks(
            runs, frames, joined, out, progress or NullProgress()
        )
        notes += [f"{names[number]}: {note}" for number, note in unread]
        notes += [frame.note for frame in frames if frame.reasons]
        for number, energy in enumerate(energies):
            left_out = run_view.given_up(runs[number], joined.rows[number])
            if note := _leave_out(energy, left_out):
                notes.append(f"{names[number]}: {note}")
            numbers[number] = _with_energy(numbers[number], energy)
        _write_index(out, runs, frames, joined, names, numbers, notes)
        _write_page(out, names, len(joined.ids))
    except OSError as error:
        raise InputError(
            f"cannot write the report to {out} ({error.strerror}): make room or choose another"
            " folder",
            setting="out",
        ) from error
    found = tuple({number.key: number.values for number in each} for each in numbers)
    there = tuple(int(frame.there.sum()) for frame in frames)
    explained = tuple(
        int(np.isfinite(each.get("kept_area", np.empty(0))).sum()) for each in found
    )
    lost = [run_view.given_up(run, rows) for run, rows in zip(runs, joined.rows)]
    return ReportSummary(
        out / "index.html",
        len(joined.ids),
        len(joined.image),
        there,
        names,
        explained,
        tuple(int(each.sum()) for each in lost),
        tuple(kept.node_name(run_view.settings(run)) for run in runs),
        found,
        tuple(notes),
    )


def _leave_out(energy: np.ndarray, left_out: np.ndarray) -> str:
    """Forget the energy of maps that explain nothing; a note on how many there were, or ""."""
    count = int(np.isfinite(energy[left_out]).sum())
    energy[left_out] = np.nan
    if not count:
        return ""
    what = "map that was" if count == 1 else "maps that were"
    return (
        f"the energy in the object leaves out {count} {what} given up, as they explain nothing:"
        " the filter of images given up shows them"
    )


def _with_energy(numbers: Sequence[Number], energy: np.ndarray) -> list[Number]:
    """A run's numbers in order, with the energy where there is any."""
    found = list(numbers)
    if np.isfinite(energy).any():
        for n, each in enumerate(found):
            # the same, measured by `mdm evaluate`
            found[n] = each._replace(repeats=each.repeats or each.key == ENERGY_METRIC)
        title, kind = columns.TITLES["energy"]
        better = columns.BETTER["energy"]
        found.append(Number("energy", title, kind, energy, better=better))
    return sorted(found, key=columns.order_key)


def _write_blocks(
    runs: Sequence[RunView],
    frames: Sequence[Frame],
    joined: JoinedRuns,
    out: Path,
    progress: Progress,
) -> tuple[list[np.ndarray], list[tuple[int, str]]]:
    """Write pictures and maps of all images.

    Returns the energy of each entry in each run, and (run, note) on what could not be read."""
    block = _images_per_block(runs, joined)
    count = len(joined.ids)
    # NaN until measured: an image may have no object
    energies = [np.full(len(joined.image), np.nan, np.float32) for _ in runs]
    notes = []
    # the products are small: threads would spend their time waiting for each other
    with (
        task(progress, "drawing the report", count) as done,
        threadpool_limits(1, user_api="blas"),
    ):
        for start in range(0, count, block):
            stop = min(start + block, count)
            number = start // block
            low, high = np.searchsorted(joined.image, [start, stop])
            for frame in frames:
                packs, truths = frame.write(out, joined, start, stop)
                _write_block(out, f"f{frame.number}", number, packs)
                objects = [truths[image - start] for image in joined.image[low:high]]
                for n in frame.runs:
                    stored, note = _read_maps(runs[n], joined.rows[n, low:high])
                    if note:
                        notes.append((n, f"maps of images {start + 1} to {stop} {note}"))
                    if stored:
                        _write_block(out, f"r{n}", number, _pack_maps(runs[n], stored))
                        energies[n][low:high] = _energies(
                            runs[n], stored, objects, frame.shape, block
                        )
            done(stop)
    return energies, notes


def _pack_maps(run: RunView, stored: list[np.ndarray]) -> np.ndarray:
    cells = stored if run_view.draws_masks(run) else [maps.reduce_maps(stored[0])]
    return np.concatenate([maps.quantize(each) for each in cells], axis=1)


def _read_maps(run: RunView, places: np.ndarray) -> tuple[list[np.ndarray], str]:
    """The maps of some of a run's records (-1: none), and why they cannot be read, else ""."""
    # records and arrays may be ordered differently
    rows = columns.take_rows(run.records["row"].to_numpy(), places, -1)
    arrays = run_view.map_arrays(run)
    try:
        return [maps.read_rows(array, rows, tuple(array.shape[1:])) for array in arrays], ""
    except InputError:
        raise  # other values than those that were committed: nothing is shown as if it were them
    except (
        Exception
    ) as error:  # a damaged store may raise anything; the rest is still worth seeing
        empty = [
            np.full((len(rows), *array.shape[1:]), np.nan, np.float32) for array in arrays
        ]
        return (
            empty,
            f"cannot be read ({type(error).__name__}): mdm run verify tells more",
        )


def _energies(
    run: RunView,
    stored: Sequence[np.ndarray],
    objects: Sequence[np.ndarray | None],
    shape: tuple[int, int],
    block: int,
) -> np.ndarray:
    """Part of each map's energy on the object, NaN without a map or an object."""
    found = np.full(len(objects), np.nan, np.float32)
    there, known = [], []
    for n, each in enumerate(objects):
        if each is not None and all(np.isfinite(values[n]).all() for values in stored):
            there.append(n)
            known.append(each)
    if not there:
        return found
    parts = [each[there] for each in stored]
    masked = run_view.draws_masks(run)
    full = parts[0]
    if masked:
        full = maps.stack_masks(parts, shape, run_view.settings(run).get("stack_weights"))
    # maps of another size than the object's say nothing of it
    if full.shape[1:] == shape:
        found[there] = maps.energies(full, np.stack(known), block, stretch=masked)
    return found


def _images_per_block(runs: Sequence[RunView], joined: JoinedRuns) -> int:
    """Images in a block, so that its file has about `BLOCK_BYTES`."""
    ranks = 1 + int(joined.rank.max())
    fewest, most = BLOCK
    largest = 1
    for run in runs:
        largest = max(largest, sum(8 + h * w for h, w in run_view.map_sizes(run)) * ranks)
    return max(fewest, min(most, BLOCK_BYTES // largest))


def _write_block(out: Path, kind: str, number: int, values: np.ndarray) -> None:
    folder = out / "data" / kind
    folder.mkdir(exist_ok=True)
    text = columns.script_call("Mdm.take", kind, number, pack(values))
    (folder / f"{number:05d}.js").write_bytes(text)


def _write_index(
    out: Path,
    runs: Sequence[RunView],
    frames: Sequence[Frame],
    joined: JoinedRuns,
    names: Sequence[str],
    numbers: Sequence[Sequence[Number]],
    notes: Sequence[str],
) -> None:
    # a run is in exactly one frame
    frame_of = {run: frame.number for frame in frames for run in frame.runs}
    described = [
        run_view.run_to_json(names[n], run, frame_of[n], joined.rows[n], numbers[n])
        for n, run in enumerate(runs)
    ]
    tables = {}
    for name in COLORS:
        colors = colormaps[name](np.arange(256))[:, :3]
        tables[name] = pack(np.round(colors * 255).astype(np.uint8))
    index = {
        "format": FORMAT,
        "block": _images_per_block(runs, joined),
        "ids": joined.ids,
        "labels": columns.encode_texts(joined.labels),
        "image": pack(joined.image.astype("<i4")),
        "rank": pack(joined.rank.astype("<i4")),
        "frames": [frame.to_json() for frame in frames],
        "runs": described,
        "given_up": run_view.GIVEN_UP,
        "colors": tables,
        "notes": notes,
    }
    (out / "data" / "index.js").write_bytes(columns.script_call("Mdm.receive", index))


def _clear_folder(out: Path) -> None:
    """Make an empty folder, or remove an earlier report.

    Raises InputError for a folder that holds something else."""
    claims.claim(out, REPORT)
    try:
        claims.clear(out, PAGE)  # the page first: none while its data are incomplete
        for folder in FOLDERS:
            (out / folder).mkdir(exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from error


def _write_page(out: Path, names: Sequence[str], count: int) -> None:
    """Write the scripts, and last the page itself: whoever sees it sees a whole report."""
    for name in ASSETS:
        (out / "assets" / name).write_bytes((STATIC / name).read_bytes())
    template = (STATIC / "page.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template)
    text = page.render(names=names, count=count, scripts=SCRIPTS)
    (out / "index.html").write_text(text, encoding="utf-8")
