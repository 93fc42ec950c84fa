"""What `mdm report` does, without the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mdm_jax import images
from mdm_jax.cli.explain import Result, finite
from mdm_jax.data import open_source
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.data.source import Source
from mdm_jax.errors import InputError
from mdm_jax.progress import Progress
from mdm_jax.runs.reader import Run, open_run
from mdm_jax.views.pages import ImageOrigin, ReportSummary, write_report


def report(
    places: Sequence[str],
    out: Path,
    data: str | None,
    split: str | None,
    limit: int | None,
    progress: Progress,
) -> Result:
    """Write the page of the runs in `places` into `out`; a row of numbers for each.

    `data` and `split` replace what the runs say of their images. Raises InputError for a run or
    images that are not there."""
    if not places:
        raise InputError("no runs: give one or more, for example mdm report mdm-run")
    if limit is not None and limit < 1:
        raise InputError(f"--limit is {limit}: give a whole number from 1")
    runs = [open_run(place) for place in places]
    opened: dict[tuple[str, str], Source] = {}
    albums = [_album(run, data, split, opened) for run in runs]
    written = write_report(runs, albums, out, limit=limit, progress=progress)
    rows = [_row(written, n) for n in range(len(runs))]
    summary = f"{written.images} images, open the page in a browser" + "".join(
        f"\n  {note}" for note in written.notes
    )
    return Result(rows, summary, [images.printable(written.page)])


def _album(
    run: Run, data: str | None, split: str | None, opened: dict[tuple[str, str], Source]
) -> ImageOrigin:
    """Where the images of a run are; a source that several runs share is opened once."""
    request: Mapping[str, Any] = run.description.get("request") or {}
    where, part = data or request.get("data"), split or request.get("split") or "test"
    if where is None:
        raise InputError(
            f"{run.place} was made by a program and does not say where its images are: give --data,"
            " or call mdm_jax.views.pages.write_report with the source"
        )
    if (where, part) not in opened:
        try:
            opened[where, part] = open_source(where, part)
        except InputError as error:
            hint = (
                ""
                if data
                else "; if the images have moved, say with --data and --split where they are"
            )
            raise InputError(
                f"the images of {run.place} cannot be opened: {error}{hint}"
            ) from error
    told = request.get("preprocessing")
    return ImageOrigin(
        opened[where, part], request.get("limit"), None if told is None else _preprocessing(told)
    )


def _preprocessing(told: Mapping[str, Any]) -> Preprocessing:
    """What run.json keeps of it; lists are tuples again."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
    }
    return Preprocessing(**fields)


def _row(written: ReportSummary, number: int) -> dict[str, Any]:
    numbers = written.numbers[number]
    row: dict[str, Any] = {"run": written.names[number], "images": written.explained[number]}
    for title, key, of in (
        ("activation kept (median)", "kept", np.nanmedian),
        ("area kept (mean)", "kept_area", np.nanmean),
    ):
        row[title] = finite(float(of(numbers[key]))) if key in numbers else None
    row["energy in the object (mean)"] = (
        finite(float(np.nanmean(numbers["energy"]))) if "energy" in numbers else None
    )
    return row
