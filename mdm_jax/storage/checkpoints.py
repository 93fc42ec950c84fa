"""Checkpoints of a training, by Orbax: written whole or not at all, the last two kept.

They are read back as NumPy arrays."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp  # type: ignore[import-untyped]

from mdm_jax.errors import InputError, first_line

# In a folder; should the newest be damaged, the one before it serves.
MAX_CHECKPOINTS = 2

# Listings of a folder in which a training writes meanwhile.
MAX_TRIES = 10
RETRY_SECONDS = 0.05

# Orbax tells of every step it takes.
logging.getLogger("absl").setLevel(logging.ERROR)


class Checkpoint(NamedTuple):
    """What a training wrote at a step."""

    step: int
    tree: dict[str, Any]
    """nested dicts of numpy arrays"""
    notes: dict[str, Any]
    """plain values that JSON can hold"""


def save(
    folder: Path, step: int, tree: dict[str, Any], notes: dict[str, Any] | None = None
) -> None:
    """Write nested dicts of arrays as the checkpoint of a step, then remove all but the last two.

    Killed at any moment it leaves the checkpoints before it as they were. Raises InputError when it
    cannot write."""
    arrays = jax.tree.map(np.asarray, jax.device_get(tree))
    policy = ocp.training.preservation_policies.LatestN(MAX_CHECKPOINTS)
    try:
        options = {"preservation_policy": policy, "cleanup_tmp_directories": True}
        with (
            _without_logs(),
            ocp.training.Checkpointer(folder.absolute(), **options) as opened,
        ):
            # A step that is there already is damaged: else the training would go on from it.
            exists = step in steps(folder)
            opened.save(
                step, arrays, custom_metadata=notes or {}, force=True, overwrite=exists
            )
    # A ValueError is what Orbax makes of a full disk.
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or _short(error)
        raise InputError(
            f"cannot write a checkpoint to {folder} ({reason}): make room for it, then the same"
            " command goes on"
        ) from error


def steps(folder: Path) -> list[int]:
    """Steps with a finished checkpoint, ascending; none for a folder that does not exist."""
    if not folder.is_dir():
        return []
    for _ in range(MAX_TRIES):
        try:
            with ocp.training.Checkpointer(folder.absolute()) as opened:
                return sorted(each.step for each in opened.checkpoints)
        # A training removed an old one while they were listed.
        except (FileNotFoundError, NotADirectoryError):
            time.sleep(RETRY_SECONDS)
    raise InputError(
        f"the checkpoints in {folder} change all the time: try again when the training there has"
        " ended"
    )


def latest(folder: Path) -> int | None:
    """The last step with a finished checkpoint, None where there is none."""
    return max(steps(folder), default=None)


def restore(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read, None where there is none.

    A damaged one is passed over with a warning. Raises InputError when there are checkpoints and
    none can be read."""
    for _ in range(MAX_TRIES):
        found = steps(folder)
        for step in reversed(found):
            try:
                return _read(folder, step)
            # Orbax and what lies below it raise errors of every kind for a damaged folder.
            except Exception as error:
                reason = _short(error)
            if steps(folder) != found:
                break  # a training at work there has written others and removed this one
            warnings.warn(
                f"the checkpoint {folder / str(step)} is damaged and passed over ({reason})",
                stacklevel=2,
            )
        else:
            break
    if found:
        raise InputError(
            f"no checkpoint in {folder} can be read: try again if a training is at work there, else"
            " move it away to begin anew"
        )
    return None


def _read(folder: Path, step: int) -> Checkpoint:
    with _without_logs(), ocp.training.Checkpointer(folder.absolute()) as opened:
        tree = opened.load(step)
        notes = dict(opened.metadata(step).custom_metadata or {})
        return Checkpoint(step, tree, notes)


def restore_model(folder: Path) -> dict[str, np.ndarray]:
    """Weights of the newest checkpoint by timm's names. Raises InputError where there is none."""
    checkpoint = restore(folder)
    if checkpoint is None or "model" not in checkpoint.tree:
        raise InputError(
            f"no checkpoint of a network in {folder}: give the folder checkpoints of a training"
        )
    return dict(checkpoint.tree["model"])


@contextmanager
def _without_logs() -> Iterator[None]:
    """Silence the log of the libraries about an error that is reported anyway."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _short(error: Exception) -> str:
    return first_line(error)[:200]
