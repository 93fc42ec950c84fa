"""Metrics of saliency maps: pure functions on one map and its truth, `vmap` outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module

from mdm_jax import plugins
from mdm_jax.errors import InputError, unknown
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.metrics.localization import energy_pointing as energy_pointing
from mdm_jax.metrics.metric import Metric as Metric
from mdm_jax.metrics.metric import Sample as Sample
from mdm_jax.metrics.metric import load_metric

# The files that have metrics, in the order of lists; a new metric is a file and a name here.
FILES = (
    "curves",
    "fill_curves",
    "areas",
    "confidence",
    "road",
    "sensitivity",
    "localization",
    "objects",
    "wsol",
    "salient_objects",
    "complexity",
    "sanity",
)

# Every metric by its id, `name:protocol`; the default protocol of a name comes first.
METRICS: dict[str, Metric] = {
    metric.id: replace(metric, measure=own_settings()(metric.measure))
    for name in FILES
    for metric in import_module(f"mdm_jax.metrics.{name}").METRICS
}


def find(text: str) -> Metric:
    """The metric of an id such as "insertion:rise-28", or of a name alone.

    A name, such as "insertion", means its default protocol. A metric of your own is `file.py:name`
    or `module:name`, see `metric.load_metric`. Raises InputError for another.
    """
    if text in METRICS:
        return METRICS[text]
    same_name = [metric for metric in METRICS.values() if metric.name == text]
    if same_name:
        return same_name[0]
    # "insertion:rise" is a protocol that does not exist, not a module of yours
    names = {metric.name for metric in METRICS.values()}
    if plugins.is_reference(text) and text.partition(":")[0] not in names:
        return load_metric(text)
    raise unknown("metric", text, METRICS)


def find_all(metrics: str | Metric | Sequence[str | Metric]) -> dict[str, Metric]:
    """Metrics by id, of ids, short names or metrics of your own.

    Raises InputError for none, and for an unknown name.
    """
    listed = (metrics,) if isinstance(metrics, str | Metric) else metrics
    if not listed:
        raise InputError(
            "there are no metrics: give one or more, such as insertion deletion"
        )
    metrics_by_id = {}
    for each in listed:
        metric = find(each) if isinstance(each, str) else each
        metrics_by_id[metric.id] = metric
    return metrics_by_id


def look_up(name: str, metrics: Mapping[str, Metric], kind: str = "metric") -> Metric:
    """The metric of an id or a short name among some, such as those that were measured.

    A short name stands for the only metric of that name. Raises InputError for another name, which
    the message calls an unknown `kind`.
    """
    if name in metrics:
        return metrics[name]
    same_name = [metric for metric in metrics.values() if metric.name == name]
    if len(same_name) != 1:
        raise unknown(kind, name, metrics)
    return same_name[0]
