"""Where the pictures of runs come from. Networks that see the images of a source alike share their
pictures: a frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mdm_jax.data.network_input import PreparedExample, SkippedExample, evenly_spaced
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.data.source import Source
from mdm_jax.views.pages import pictures
from mdm_jax.views.pages.columns import pack
from mdm_jax.views.pages.join_runs import JoinedRuns
from mdm_jax.views.pages.run_view import RunView, settings


class ImageOrigin(NamedTuple):
    """Where the images of a run come from, and how its network sees them."""

    source: Source
    limit: int | None
    """of the run: which items of the source it used"""
    preprocessing: Preprocessing | None
    """None where the source's own arrays were used as they are"""


class Frame:
    """The pictures that some runs share, and what could not be read of them."""

    def __init__(
        self,
        number: int,
        runs: Sequence[int],
        albums: Sequence[ImageOrigin],
        shape: tuple[int, int],
        images: int,
    ) -> None:
        self.number, self.runs, self.shape = number, tuple(runs), shape
        self.source, _, self.preprocessing = albums[runs[0]]
        used = {
            albums[run].limit: evenly_spaced(len(self.source), albums[run].limit) for run in runs
        }
        finders = {limit: pictures.Finder(self.source, items) for limit, items in used.items()}
        self.finders = {run: finders[albums[run].limit] for run in runs}
        self.grid = pictures.grid_for(shape)
        self.there = np.zeros(images, np.uint8)
        self.reasons: dict[str, str] = {}

    def read(self, image: int, joined: JoinedRuns) -> PreparedExample | None:
        """An image of the frame; None, and the reason kept, where it cannot be read or none of the
        runs has it."""
        run = next((run for run in self.runs if joined.items[run, image] >= 0), None)
        if run is None:
            return None
        id = joined.ids[image]
        index = self.finders[run].index(id, int(joined.items[run, image]))
        found: PreparedExample | SkippedExample
        if index < 0:
            found = SkippedExample(
                f"{self.source.name} has no image of this name: say with --data and --split where"
                " it is"
            )
        else:
            found = pictures.read_framed(self.source, index, self.preprocessing, id)
        if isinstance(found, PreparedExample) and found.image.shape[:2] != self.shape:
            found = SkippedExample(
                "it has {}x{} pixels, where the run saw {}x{}".format(
                    *found.image.shape[:2], *self.shape
                )
            )
        if isinstance(found, SkippedExample):
            self.reasons[str(image)] = found.reason
            return None
        self.there[image] = 1
        return found

    def write(
        self, out: Path, joined: JoinedRuns, start: int, stop: int
    ) -> tuple[np.ndarray, list[np.ndarray | None]]:
        """Write the files of images `start` to `stop`; returns what goes beside them, and the
        object's mask where known."""
        packs = np.zeros((stop - start, self.grid.stride), np.uint8)
        truths: list[np.ndarray | None] = []
        for image in range(start, stop):
            framed = self.read(image, joined)
            truths.append(None if framed is None else framed.mask)
            if framed is not None:
                path = (
                    out
                    / "images"
                    / f"f{self.number}"
                    / f"{image // 1000:03d}"
                    / f"{image:06d}.{pictures.SUFFIX}"
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pictures.encode_jpeg(framed.image))
                packs[image - start] = pictures.side_bytes(framed.image, framed.mask, self.grid)
        return packs, truths

    @property
    def note(self) -> str:
        """A sentence about the pictures that are missing."""
        some = next(iter(self.reasons.values()))
        return (
            f"{len(self.reasons)} of {len(self.there)} pictures of {self.source.name} cannot be"
            f" shown, such as: {some}"
        )

    def plain(self) -> dict[str, Any]:
        """The frame as the page knows it."""
        return {
            "size": self.shape,
            "fill": self.grid.fill,
            "truth": self.grid.truth,
            "stride": self.grid.stride,
            "suffix": pictures.SUFFIX,
            "sigma": pictures.SIGMA,
            "there": pack(self.there),
            "reasons": self.reasons,
        }


def group_frames(
    runs: Sequence[RunView], albums: Sequence[ImageOrigin], images: int
) -> list[Frame]:
    """The frames of runs, each with the runs that share it."""
    groups: dict[Any, list[int]] = {}
    shapes = [shape_of(run, album) for run, album in zip(runs, albums)]
    for number, album in enumerate(albums):
        how = album.preprocessing
        seen = (
            None
            if how is None
            else (how.channels, how.size, how.crop, how.interpolation, how.crop_mode)
        )
        groups.setdefault((id(album.source), seen, shapes[number]), []).append(number)
    return [
        Frame(n, members, albums, shapes[members[0]], images)
        for n, members in enumerate(groups.values())
    ]


def shape_of(run: RunView, album: ImageOrigin) -> tuple[int, int]:
    """(height, width) of the images as the run's network saw them."""
    if (known := settings(run).get("image")) is not None:
        return int(known[0]), int(known[1])
    if album.preprocessing is not None:
        return album.preprocessing.size
    height, width = album.source[0].image.shape[:2]
    return int(height), int(width)
