"""Scalars of a training for TensorBoard, beside its checkpoints: those of metrics.jsonl.

Each process that trains writes one file anew, which begins with what was measured before it. So
what a killed training had measured after its last checkpoint stands nowhere, no step twice, and a
training that was begun without them has them all. By tensorboardX, which needs no TensorFlow."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mdm_jax.errors import InputError
from mdm_jax.storage import claims

FOLDER = "tensorboard"
PACKAGE = "tensorboardX"

# As tensorboardX names its files.
FILES = f"{FOLDER}/events.out.tfevents.*"

# Keys of a line that are no scalars: they say where a scalar belongs.
PLACES = ("epoch", "step", "stage")


def check_installed() -> None:
    """Raises InputError where the package is missing."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise InputError(
            f"scalars for TensorBoard need the package {PACKAGE}: pip install {PACKAGE}, or leave"
            " them out",
            setting="tensorboard",
        )


def scalars(line: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Tags and values of a line of metrics.jsonl.

    A tag is quantity/split, as in "loss/train", and for a prototype network quantity/split/stage,
    so that TensorBoard shows both splits and all stages of a quantity side by side."""
    for name, value in line.items():
        if name in PLACES or value is None:
            continue
        split, _, quantity = name.partition("_")
        tag = f"{quantity}/{split}" if split in ("train", "eval") else name
        if "stage" in line:
            tag += f"/{line['stage'].replace(' ', '_')}"
        yield tag, float(value)


class ScalarWriter:
    """Writes one file of events; `before` are the lines that were measured already."""

    def __init__(
        self, folder: Path, before: Sequence[dict[str, Any]], seconds: float
    ) -> None:
        from tensorboardX import SummaryWriter

        # Times are those of the training alone, so that a pause shows no gap.
        self._began = time.time() - seconds
        claims.clear(folder, [FILES])
        # A TensorBoard that is open has read the former file: this tells it to forget that.
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=0)
        for line in before:
            self.write(line)

    def write(self, line: dict[str, Any]) -> None:
        """Add the scalars of a line of metrics.jsonl, at its step, to the file at once."""
        for tag, value in scalars(line):
            self._writer.add_scalar(tag, value, line["step"], self._began + line["seconds"])
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
