"""What maps cost, and how many of them say nothing."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mdm_jax.types import Status


class Cost(NamedTuple):
    """What a map cost, mean over images."""

    evaluations: float
    """network evaluations with a gradient"""
    forwards: float
    """network evaluations without"""
    seconds: float = math.nan
    """running, compilation not counted"""

    @property
    def equivalent(self) -> float:
        """The cost in forward evaluations; one with a gradient counts as three."""
        # a backward pass costs about two forward passes
        return self.forwards + 3 * self.evaluations


def count_failures(statuses: np.ndarray) -> dict[str, int]:
    """How many images have no explanation, or masks that are none, by the name of their status."""
    counts = {}
    for status in (Status.NOT_FINITE, Status.CONSTANT, Status.LOST, Status.EMPTY):
        count = int((statuses == status).sum())
        if count:
            counts[status.name] = count
    return counts
