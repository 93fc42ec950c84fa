"""The quality of a point: a weighted sum of metrics, higher is better."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mdm_jax.errors import InputError
from mdm_jax.metrics import Metric, look_up

# Metric -> weight; the quality is the weighted sum of the metrics' values.
Quality = Mapping[str, float | int]

# The sign of a weight that rewards what is better; any sign is right where neither side is.
SIGNS = {"higher": 1.0, "lower": -1.0, "none": 0.0}
KIND = "metric of this sweep"


def default_quality(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Weight 1 for every metric where higher is better, -1 where lower is."""
    return {
        name: SIGNS[metric.better]
        for name, metric in metrics.items()
        if metric.better != "none"
    }


def check_quality(weights: Quality, metrics: Mapping[str, Metric]) -> None:
    """Check that every weight is of a measured metric and rewards its better side.

    Raises InputError for an empty quality, for a metric that is not among `metrics`, and for a
    weight that is not finite or has the wrong sign.
    """
    if not weights:
        raise InputError(
            'the quality has no metrics: give a weight for one or more, such as {"insertion": 1}'
        )
    for name, weight in weights.items():
        better = look_up(name, metrics, KIND).better
        if not np.isfinite(weight):
            raise InputError(
                f"the weight of {name} in the quality is {weight}: give a number"
            )
        # a weight of the wrong sign is a slip, and the sweep would choose the worst point
        if weight * SIGNS[better] < 0:
            side = "above" if better == "higher" else "below"
            raise InputError(
                f"the weight of {name} in the quality is {weight}: {better} is better,"
                f" give one {side} zero"
            )


def formula(weights: Quality, metrics: Mapping[str, Metric]) -> str:
    """The quality as text, such as "insertion - deletion + 0.5 energy"."""
    parts = []
    for name, weight in weights.items():
        sign = "-" if weight < 0 else "+"
        factor = "" if abs(weight) == 1 else f"{abs(weight):g} "
        parts.append(f"{sign} {factor}{look_up(name, metrics, KIND).name}")
    return " ".join(parts).removeprefix("+ ")
