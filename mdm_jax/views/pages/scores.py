"""Metrics that `mdm evaluate` measured before: `scores.npz` in a run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from mdm_jax.evaluation.saved_maps import SCORES
from mdm_jax.metrics import METRICS
from mdm_jax.storage.arrays import open_numpy
from mdm_jax.views.pages.columns import Number


def read_scores(
    place: str | Path,
    ids: Sequence[str],
    image: Int[np.ndarray, " entries"],
    rank: Int[np.ndarray, " entries"],
) -> tuple[list[Number], str]:
    """Each metric that has one number an image, at each entry; and why the file is not used, or "".

    Values are matched by id; of several values of an id, the first is of rank 0, the next of rank
    1."""
    path = Path(place) / SCORES
    try:
        if not path.is_file():
            return [], ""
        with open_numpy(path) as file:
            arrays = {name: file[name] for name in file.files}
        measured = [str(id) for id in arrays.pop("ids").tolist()]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        note = f"{SCORES} of {path.parent.name} is damaged, its metrics are left out: measure again"
        return [], f"{note} with mdm evaluate"
    if not set(measured) & set(ids):
        return (
            [],
            f"{SCORES} of {path.parent.name} is of other images, its metrics are left out",
        )
    where: dict[tuple[str, int], int] = {}
    count: dict[str, int] = {}
    for row, id in enumerate(measured):
        where[id, count.setdefault(id, 0)] = row
        count[id] += 1
    # rank 0 of an image is the first value of its id, and so on
    rows = np.asarray([where.get((ids[n], int(k)), -1) for n, k in zip(image, rank)])
    found = []
    for name, values in arrays.items():
        # curves and other arrays an image have no place in a column
        if values.shape != (len(measured),) or values.dtype.kind not in "fiub":
            continue
        taken = np.where(rows >= 0, values[rows].astype(np.float64), np.nan).astype(
            np.float32
        )
        if np.isfinite(taken).any():
            better = METRICS[name].better if name in METRICS else "none"
            found.append(Number(f"metric:{name}", name, "number", taken, better=better))
    return found, ""
