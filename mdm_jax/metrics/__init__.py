"""Metrics of saliency maps: pure functions on one map and its truth, `vmap` outside."""

from __future__ import annotations

from mdm_jax import plugins
from mdm_jax.errors import unknown
from mdm_jax.metrics import (
    complexity,
    confidence,
    curves,
    localization,
    objects,
    road,
    sanity,
    sensitivity,
    wsol,
)
from mdm_jax.metrics.localization import energy_pointing as energy_pointing
from mdm_jax.metrics.metric import Metric as Metric
from mdm_jax.metrics.metric import Sample as Sample
from mdm_jax.metrics.metric import from_outside

_FILES = (curves, confidence, road, sensitivity, localization, objects, wsol, complexity, sanity)
METRICS: dict[str, Metric] = {metric.id: metric for file in _FILES for metric in file.METRICS}
"""every metric by its id, `name:protocol`; the default protocol of a name comes first"""


def find(text: str) -> Metric:
    """The metric of an id such as "insertion:rise-28"; a name alone, such as "insertion", means its
    default protocol.

    A metric of your own is `file.py:name` or `module:name`, see `metric.from_outside`. Raises
    InputError for another."""
    if text in METRICS:
        return METRICS[text]
    named = [metric for metric in METRICS.values() if metric.name == text]
    if named:
        return named[0]
    if plugins.is_name(text) and text.partition(":")[0] not in {
        metric.name for metric in METRICS.values()
    }:
        return from_outside(text)
    raise unknown("metric", text, METRICS)
