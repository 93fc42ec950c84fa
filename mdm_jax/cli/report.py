"""`mdm report`: a web page of one run, or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from mdm_jax.cli.console import Result, Terminal, finite
from mdm_jax.cli.options import Options, RecordedImages, positional
from mdm_jax.data.preprocessing import Preprocessing, check_preprocessing
from mdm_jax.data.reading import DataReading
from mdm_jax.data.source import Source
from mdm_jax.errors import InputError
from mdm_jax.runs.reader import Run, open_run
from mdm_jax.runs.store import DESCRIPTION
from mdm_jax.views.pages import ImageOrigin, ReportSummary, write_report


@dataclass(frozen=True, kw_only=True)
class ReportCommand(RecordedImages, Options):
    """A page of a run, or of several side by side on the same images.

    It opens in any browser without a server. It shows every image with its map (overlay, masked,
    each mask on its own), sorts and filters, and draws distributions. OUT is a folder that can be
    moved or put on a web server; it loads nothing from elsewhere. An unfinished run is shown as far
    as it is.

    Examples:
      mdm report runs/photos
      mdm report runs/mdm runs/grad_cam --out compared
      mdm report runs/photos --data folder:elsewhere/photos --limit 500
    """

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], positional("RUN ...")] = ()
    """folders or URLs of runs"""
    object_values: str | None = None
    """values that mark the object in masks of more than two, as in 1,3; those of the run when not
    given"""
    out: Path = Path("mdm-report")
    """folder of the page; a report that lies there is replaced"""

    def run(self, terminal: Terminal) -> Result:
        """Write the page; a row of numbers for each run."""
        if not self.runs:
            raise InputError("no runs: give one or more, for example mdm report mdm-run")
        self.check_limit()
        runs = [open_run(place) for place in self.runs]
        # this reads the records: what is damaged is said before images are opened
        notes = [run.incomplete for run in runs if run.incomplete]
        sources: dict[tuple[str, str, str | None], Source] = {}
        origins = [self._image_origin(run, sources) for run in runs]
        written = write_report(
            runs, origins, self.out, limit=self.limit, progress=terminal.progress
        )
        rows = [_row(written, number) for number in range(len(runs))]
        summary = f"{written.images} images, open the page in a browser"
        notes += written.notes
        return Result(rows, summary, [str(written.page)], out=self.out, notes=notes)

    def _image_origin(
        self, run: Run, sources: dict[tuple[str, str, str | None], Source]
    ) -> ImageOrigin:
        """Where the images of a run are; a source that several runs share is opened once."""
        request: Mapping[str, Any] = run.description.get("request") or {}
        # Images that have moved are divided into the same splits, unlike other data.
        data = self.data or request.get("data")
        split = self.split or request.get("split") or "test"
        if data is None:
            raise InputError(
                f"{run.place} was made by a program and does not say where its images are: give"
                " --data, or call mdm_jax.views.pages.write_report with the source"
            )
        values = self.object_values or request.get("object_values")
        if (data, split, values) not in sources:
            try:
                reading = DataReading(object_values=values)
                sources[data, split, values] = reading.read(data, split)
            except InputError as error:
                hint = ""
                if not self.data:
                    hint = "; if the images have moved, say with --data and --split where they are"
                raise InputError(
                    f"the images of {run.place} cannot be opened: {error}{hint}"
                ) from error
        recorded = request.get("preprocessing")
        preprocessing = None
        if recorded is not None:
            preprocessing = _preprocessing(recorded, f"{run.place}/{DESCRIPTION}")
        return ImageOrigin(
            sources[data, split, values], request.get("limit"), preprocessing
        )


def _preprocessing(recorded: Mapping[str, Any], place: str) -> Preprocessing:
    """What run.json keeps of it; lists are tuples again. Raises InputError for anything else."""
    fields: dict[str, Any] = {}
    for name, value in recorded.items():
        fields[name] = tuple(value) if isinstance(value, list) else value
    try:
        preprocessing = Preprocessing(**fields)
        check_preprocessing(preprocessing, recorded)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{place} is damaged, its request has the preprocessing {dict(recorded)!r:.80}: the"
            " same command again writes it anew"
        ) from error
    return preprocessing


def _row(written: ReportSummary, number: int) -> dict[str, Any]:
    numbers = written.numbers[number]

    def average(key: str, of: Any) -> float | None:
        return finite(float(of(numbers[key]))) if key in numbers else None

    return {
        "run": written.names[number],
        "images": written.explained[number],
        "given up": written.given_up[number],
        "node": written.nodes[number],
        "kept of the node (median)": average("kept", np.nanmedian),
        "area kept (mean)": average("kept_area", np.nanmean),
        "energy in the object (mean)": average("energy", np.nanmean),
    }
