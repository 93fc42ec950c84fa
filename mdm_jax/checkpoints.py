"""Checkpoints of a training, by Orbax: written whole or not at all, the last two kept, read back as numpy arrays."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp  # type: ignore[import-untyped]

from mdm_jax.errors import InputError

KEPT = 2
"""checkpoints in a folder; should the newest be damaged, the one before it serves"""

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of every step it takes


class Checkpoint(NamedTuple):
    """What a training wrote at a step."""

    step: int
    tree: dict[str, Any]
    """nested dicts of numpy arrays"""
    notes: dict[str, Any]
    """plain values that JSON can hold"""


def save(folder: Path, step: int, tree: dict[str, Any], notes: dict[str, Any] | None = None) -> None:
    """Write nested dicts of arrays as the checkpoint of a step, then remove all but the last two.

    Killed at any moment it leaves the checkpoints before it as they were. Raises InputError when it cannot write.
    """
    arrays = jax.tree.map(np.asarray, jax.device_get(tree))
    policy = ocp.training.preservation_policies.LatestN(KEPT)
    try:
        with ocp.training.Checkpointer(folder.absolute(), preservation_policy=policy, cleanup_tmp_directories=True) as opened:
            # A step that exists already is a damaged one, or it would have been the one to go on from.
            opened.save(step, arrays, custom_metadata=notes or {}, force=True, overwrite=step in steps(folder))
    except OSError as error:
        raise InputError(f"cannot write a checkpoint to {folder} ({error.strerror or error}): make room for it") from error


def steps(folder: Path) -> list[int]:
    """Steps with a finished checkpoint, ascending; none for a folder that does not exist. Touches nothing."""
    if not folder.is_dir():
        return []
    with ocp.training.Checkpointer(folder.absolute()) as opened:
        return sorted(each.step for each in opened.checkpoints)


def latest(folder: Path) -> int | None:
    """The last step with a finished checkpoint, None where there is none."""
    return max(steps(folder), default=None)


def restore(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read, None where there is none; a damaged one is passed over with a warning.

    Raises InputError when there are checkpoints and none can be read.
    """
    found = steps(folder)
    for step in reversed(found):
        try:
            with ocp.training.Checkpointer(folder.absolute()) as opened:
                return Checkpoint(step, opened.load(step), dict(opened.metadata(step).custom_metadata or {}))
        except Exception as error:  # Orbax and what lies below it raise errors of every kind for a damaged folder
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            warnings.warn(f"the checkpoint {folder / str(step)} is damaged and passed over ({reason})", stacklevel=2)
    if found:
        raise InputError(f"no checkpoint in {folder} can be read: remove the folder to begin anew")
    return None


def restore_model(folder: Path) -> dict[str, np.ndarray]:
    """Weights of the newest checkpoint by timm's names. Raises InputError where there is none."""
    checkpoint = restore(folder)
    if checkpoint is None or "model" not in checkpoint.tree:
        raise InputError(f"no checkpoint of a network in {folder}: give the folder checkpoints of a training")
    return dict(checkpoint.tree["model"])
