"""Complexity: over how many pixels is an attribution spread?"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.metrics.metric import Metric, Sample
from mdm_jax.metrics.perturbed import unless_nan


def entropy(attribution: Float[Array, "h w"]) -> Float[Array, ""]:
    """H = -sum_i p_i ln p_i with p = |a| / sum|a|, in nats.

    0 for a single pixel, ln(h w) for a constant map. An all-zero map prefers no pixel and counts as
    a constant one; a map with a NaN gives NaN. Bhatt et al., arXiv 2005.00631, equation 6.
    """
    p = _parts_of_sum(attribution)
    return -(p * jnp.log(jnp.where(p == 0, 1.0, p))).sum()


def gini(attribution: Float[Array, "h w"]) -> Float[Array, ""]:
    """G = sum_k (2 k - d - 1) p_(k) / d with p = |a| / sum|a| in ascending order, k = 1 ... d.

    d = h w. 0 for a constant map, and for an all-zero one, which counts as such; 1 - 1/d for a
    single pixel. NaN as for `entropy`. Chalasani et al., arXiv 1810.06583, equation 15, rearranged.
    """
    p = jnp.sort(_parts_of_sum(attribution).ravel())
    d = p.size
    return (((2 * jnp.arange(1, d + 1) - d - 1) / d) * p).sum()


def _parts_of_sum(attribution: Array) -> Array:
    """|a| / sum|a|; equal parts where all is zero."""
    size = jnp.abs(attribution)
    # divided by the maximum first, so that the sum cannot overflow
    largest = size.max()
    size = jnp.where(largest > 0, size / jnp.where(largest > 0, largest, 1.0), 1.0)
    return unless_nan(attribution, size / size.sum())


def _entropy(predict: Any, sample: Sample, *, key: Any) -> Array:
    return entropy(jnp.asarray(sample.attribution))


def _gini(predict: Any, sample: Sample, *, key: Any) -> Array:
    return gini(jnp.asarray(sample.attribution))


METRICS = (
    Metric(
        "complexity",
        "entropy",
        _entropy,
        "lower",
        "map",
        description="Entropy of the absolute attribution as shares of its sum, in nats.",
        reads="attribution",
    ),
    Metric(
        "sparseness",
        "gini",
        _gini,
        "higher",
        "map",
        description="Gini index of the absolute attribution, 0 to 1.",
        reads="attribution",
    ),
)
