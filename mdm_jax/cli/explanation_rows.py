"""The columns and the sentence that every table of explanations shares."""

from __future__ import annotations

from typing import Any

import numpy as np

from mdm_jax.cli.console import finite
from mdm_jax.execution.timing import Timing
from mdm_jax.types import REASONS, Explanation, Status


def units(node: str, **more: str) -> dict[str, str]:
    """What the columns are counted in; activations are in the unit of their node."""
    return {"before": node, "after": node, "area": "of the image", **more}


def activations(explanation: Explanation, i: int) -> tuple[float | None, float | None]:
    """The node of explanation `i` before and after masking; of a vector node, at the target."""
    info = explanation.info

    def at_target(values: np.ndarray) -> float | None:
        value = values[i] if values.ndim == 1 else values[i][info.target[i]]
        return finite(float(value))

    return at_target(info.activation), at_target(info.activation_masked)


def columns(
    explanation: Explanation, i: int, timing: Timing, **more: float
) -> dict[str, Any]:
    """Explanation `i` as a row of a table, with `more` after its area."""
    info = explanation.info
    before, after = activations(explanation, i)
    return {
        "before": before,
        "after": after,
        "area": finite(float(info.kept_area[i])),
        **more,
        "status": Status(int(info.status[i])).words,
        "evaluations": int(info.evaluations[i]),
        # Batches are timed as a whole: each explanation has the same share.
        "seconds": timing.running / len(explanation.saliency),
    }


def describe_status(explanation: Explanation, i: int, name: str) -> list[str]:
    """A line on explanation `i`, where its status says that its map is not what it usually is."""
    status = Status(int(explanation.info.status[i]))
    return [f"{name}: {REASONS[status]}"] if status in REASONS else []


def describe_time(timing: Timing, count: int) -> str:
    return (
        f"{timing.running:.1f} s for {count} explanations after {timing.compiling:.1f} s of"
        " compilation"
    )
