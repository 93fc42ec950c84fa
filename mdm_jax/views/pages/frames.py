"""Where the pictures of runs come from.

Networks that see the images of a source alike share their pictures: a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mdm_jax.data.network_input import (
    PreparedExample,
    SkippedExample,
    evenly_spaced,
)
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
        origins: Sequence[ImageOrigin],
        shape: tuple[int, int],
        images: int,
    ) -> None:
        self.number, self.runs, self.shape = number, tuple(runs), shape
        self.source, _, self.preprocessing = origins[runs[0]]
        # runs of the same limit used the same items, so they share a finder
        finders = {}
        for limit in {origins[run].limit for run in runs}:
            used = evenly_spaced(len(self.source), limit)
            finders[limit] = pictures.Finder(self.source, used)
        self.finders = {run: finders[origins[run].limit] for run in runs}
        self.grid = pictures.grid_for(shape)
        self.there = np.zeros(images, np.uint8)
        self.reasons: dict[str, str] = {}

    def read(self, image: int, joined: JoinedRuns) -> PreparedExample | None:
        """An image of the frame.

        None where none of the runs has it, or where it cannot be read; then the reason is noted.
        """
        # the runs of a frame see an image alike, so any of them will do
        run = next((run for run in self.runs if joined.items[run, image] >= 0), None)
        if run is None:
            return None
        found = self._find(run, joined.ids[image], int(joined.items[run, image]))
        if isinstance(found, SkippedExample):
            self.reasons[str(image)] = found.reason
            return None
        self.there[image] = 1
        return found

    def _find(self, run: int, id: str, item: int) -> PreparedExample | SkippedExample:
        index = self.finders[run].index(id, item)
        if index < 0:
            return SkippedExample(
                f"{self.source.name} has no image of this name: give the data and the split that"
                " hold it"
            )
        found = pictures.read_framed(self.source, index, self.preprocessing, id)
        if isinstance(found, SkippedExample):
            return found
        height, width = found.image.shape[:2]
        if (height, width) != self.shape:
            rows, columns = self.shape
            return SkippedExample(
                f"it has {height}x{width} pixels, where the run saw {rows}x{columns}"
            )
        return found

    def write(
        self, out: Path, joined: JoinedRuns, start: int, stop: int
    ) -> tuple[np.ndarray, list[np.ndarray | None]]:
        """Write the files of images `start` to `stop`.

        Returns what goes beside them, and the object's mask where it is known."""
        packs = np.zeros((stop - start, self.grid.stride), np.uint8)
        truths: list[np.ndarray | None] = []
        for image in range(start, stop):
            framed = self.read(image, joined)
            truths.append(None if framed is None else framed.mask)
            if framed is not None:
                path = self._path(out, image)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pictures.encode_jpeg(framed.image))
                packs[image - start] = pictures.side_bytes(
                    framed.image, framed.mask, self.grid
                )
        return packs, truths

    def _path(self, out: Path, image: int) -> Path:
        # a thousand files a folder, so that no folder is slow to list
        folder = out / "images" / f"f{self.number}" / f"{image // 1000:03d}"
        return folder / f"{image:06d}.{pictures.SUFFIX}"

    @property
    def note(self) -> str:
        """A sentence about the pictures that are missing."""
        some = next(iter(self.reasons.values()))
        return (
            f"{len(self.reasons)} of {len(self.there)} pictures of {self.source.name} cannot be"
            f" shown, such as: {some}"
        )

    def to_json(self) -> dict[str, Any]:
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
    runs: Sequence[RunView], origins: Sequence[ImageOrigin], images: int
) -> list[Frame]:
    """The frames of runs, each with the runs that share it."""
    groups: dict[Any, list[int]] = {}
    shapes = [image_shape(run, origin) for run, origin in zip(runs, origins)]
    for number, origin in enumerate(origins):
        key = (id(origin.source), _geometry(origin.preprocessing), shapes[number])
        groups.setdefault(key, []).append(number)
    frames = []
    for number, members in enumerate(groups.values()):
        frames.append(Frame(number, members, origins, shapes[members[0]], images))
    return frames


def _geometry(how: Preprocessing | None) -> Any:
    """What of a preprocessing changes the picture; mean and std do not."""
    if how is None:
        return None
    return how.channels, how.size, how.crop, how.interpolation, how.crop_mode


def image_shape(run: RunView, origin: ImageOrigin) -> tuple[int, int]:
    """(height, width) of the images as the run's network saw them."""
    known = settings(run).get("image")
    if known is not None:
        return int(known[0]), int(known[1])
    if origin.preprocessing is not None:
        return origin.preprocessing.size
    height, width = origin.source[0].image.shape[:2]
    return int(height), int(width)
