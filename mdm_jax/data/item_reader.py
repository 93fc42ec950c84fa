"""Items of a source, read ahead and in order.

An item that cannot be read is data: a sentence in place of its image."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Float32

from mdm_jax.data.loader import Fit
from mdm_jax.data.prefetch import read_ahead
from mdm_jax.data.source import HasFiles, Source, read_image
from mdm_jax.errors import InputError
from mdm_jax.images import check_image, printable
from mdm_jax.text_files import file_id, storable_id

# Items read ahead, 19 MB of 224x224 images; processes hold half as many again.
AHEAD = 32

# More would wait for each other; at most half of the processors, which have maps to compute.
MOST_THREADS = 4

# Characters of an error's message.
LONGEST = 500
DIED = (
    "a process that reads images died, perhaps of too little memory, or because a script starts it"
    ' outside of `if __name__ == "__main__":` - use fewer workers, or 0 for threads (the same'
    " command goes on where it was)"
)


class ReadResult(NamedTuple):
    """An item that was read, or could not be."""

    item: int
    index: int  # type: ignore[assignment]  # hides the method of tuples, which nothing calls
    """its place in the source"""
    id: str
    """that of the file, or the number of the item, where it could not be read"""
    image: Float32[np.ndarray, "h w c"] | None
    label: int
    """the data's number of the class, -1 where it is unknown"""
    reason: str
    """why there is no image; empty where there is one"""


def read_items(
    source: Source,
    items: Sequence[tuple[int, int]],
    fit: Fit | None,
    workers: int = 0,
    *,
    shape: tuple[int, ...] | None = None,
    threads: int | None = None,
) -> Generator[ReadResult, None, None]:
    """The items, each (item, index in the source), in order and a bounded number ahead.

    They are read in `threads` of this process, or in so many processes (`workers`); neither changes
    what is read. `fit` None takes the source's own arrays as they are. Reading an item never fails:
    an image that is not float32 [h, w, c] in [0, 1], or of another shape than `shape`, is a result
    with a reason. Raises InputError for a number of workers out of range, a process that died, and
    a source that cannot be sent to processes."""
    if workers < 0:
        raise InputError(
            f"workers is {workers}: give the number of processes, or 0 for threads"
        )
    numbers = np.asarray(items, np.int64).reshape(-1, 2)
    # To send items from a process one by one would be slow.
    group = max(1, AHEAD // (4 * workers)) if workers else 1
    reader = _Reader(source, numbers, fit, shape, group)
    elements = grain.MapDataset.range(math.ceil(len(numbers) / group)).map(reader)
    workers = min(workers, len(elements))
    if workers:
        # No threads: each process reads in its main thread, and so ends at once.
        groups = read_ahead(elements, threads=0, buffer=0, workers=workers, died=DIED)
    else:
        threads = threads or max(1, min(MOST_THREADS, (os.cpu_count() or 1) // 2))
        groups = read_ahead(elements, threads=threads, buffer=AHEAD, died=DIED)
    return _one_by_one(groups, getattr(source, "name", type(source).__name__))


def _one_by_one(
    groups: Generator[list[ReadResult], None, None], name: str
) -> Generator[ReadResult, None, None]:
    try:
        for group in groups:
            yield from group
    except InputError:
        raise
    except Exception as error:
        # Of sending to a process and receiving there: whatever reading raises is data.
        raise InputError(
            f"{name} cannot be sent to other processes ({_reason(error)}): use 0 workers"
        ) from error
    finally:
        groups.close()


@dataclass(frozen=True)
class _Reader:
    """Reads the items of group `number`."""

    source: Source
    items: np.ndarray
    fit: Fit | None
    shape: tuple[int, ...] | None
    group: int

    def __call__(self, number: int) -> list[ReadResult]:
        group = self.items[number * self.group : (number + 1) * self.group]
        return [self._read(int(item), int(index)) for item, index in group]

    def _read(self, item: int, index: int) -> ReadResult:
        id, label = _describe(self.source, index)
        try:
            image: Any
            if self.fit is None:
                example = self.source[index]
                id, label = storable_id(str(example.id)), _label_number(example.label)
                image = example.image
            else:
                found = read_image(self.source, index)
                id, label = storable_id(str(found.id)), _label_number(found.label)
                image = self.fit(found.image)
            image = check_image(image, id)
            if self.shape is not None and image.shape != tuple(self.shape):
                raise InputError(
                    f"{id} has shape {image.shape}, not {tuple(self.shape)}: bring all images to"
                    " one size"
                )
            return ReadResult(item, index, id, image, label, "")
        except BaseException as error:
            # A user's source may even ask to exit. Ctrl-C reaches the main thread alone.
            return ReadResult(item, index, id, None, label, _reason(error))


def _describe(source: Source, index: int) -> tuple[str, int]:
    """Name and label of an item as far as they are known without opening it."""
    with suppress(Exception):  # a user's source may break its own contract
        if isinstance(source, HasFiles):
            return file_id(source.files[index]), _label_number(source.labels[index])
    return storable_id(f"{getattr(source, 'name', type(source).__name__)}/{index:06d}"), -1


def _label_number(label: Any) -> int:
    return -1 if label is None else max(-1, int(label))


def _reason(error: BaseException) -> str:
    """One line of text: the sentence of an InputError, the type and message of any other error."""
    if isinstance(error, InputError):
        return printable(str(error))
    message = " ".join(str(error).split())
    kind = type(error).__name__
    text = printable(f"{kind}: {message}" if message else kind)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
