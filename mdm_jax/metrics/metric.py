"""A metric: a pure function of one image and its map, under a protocol that fixes every choice.

Two numbers under one name but two protocols cannot be compared, so a metric is identified by its
id, `name:protocol`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mdm_jax import plugins
from mdm_jax.errors import unknown
from mdm_jax.types import AnyArray

NEEDS = ("network", "mask", "boxes", "map", "explain")
BETTER = ("higher", "lower", "none")
READS = ("saliency", "attribution", "ranking")


class Sample(NamedTuple):
    """One image, its map and its truth: everything that a metric may use.

    A method may give up to three maps of one decision. What compares the map with an object, or
    multiplies the image by it, reads the saliency; what adds it up, the attribution; what shows or
    hides pixels in an order, the ranking.
    """

    image: Float[AnyArray, "h w c"]
    """in [0, 1]"""
    saliency: Float[AnyArray, "h w"]
    """in [0, 1]"""
    attribution: Float[AnyArray, "h w"]
    """signed; the saliency itself where the method has none"""
    ranking: Float[AnyArray, "h w"]
    """whose order of pixels counts, and no value; the saliency itself where the method has none"""
    target: Int[Any, ""] | int
    """class explained"""
    mask: Bool[AnyArray, "h w"] | None = None
    """pixels of the object (a box's pixels where only boxes are known)"""
    boxes: Float[AnyArray, "k 4"] | None = None
    """(x0, y0, x1, y1) in pixels of `image`, ends exclusive; for metrics on the host"""
    prepared: AnyArray | None = None
    """what the metric's `prepare` made of the sample"""


def mean(statistics: Any) -> float:
    """The mean over images, NaN if any is: a failure must not hide in an average."""
    return float(np.mean(np.asarray(statistics, np.float64)))


@dataclass(frozen=True)
class Metric:
    """A metric under one protocol: statistics of each image, and their reduction to one number."""

    name: str
    """such as "insertion" """
    protocol: str
    """such as "rise-28": fixes score, fill, steps, ties and normalization; stored with every
    result"""
    measure: Callable[..., Any]
    """`measure(predict, sample, *, key) -> array`, usually a scalar, pure and for one sample; with
    `explain=` too where `needs` is "explain": `explain(image, target, key) -> saliency [h, w]`, the
    method on one image"""
    better: str
    """"higher", "lower" or "none" """
    needs: str = "network"
    """"network" (compiled, vmapped), "mask" (likewise, no network), "map" (likewise, the map
    alone), "boxes" (NumPy, on the host, `predict` ignored) or "explain" (the network and the method
    itself)"""
    reduce: Callable[[Any], float] = mean
    """statistics [n, ...] -> number; not the mean where a threshold is chosen for the whole set"""
    description: str = ""
    """one sentence, for the foot of a table"""
    reduces_mean: bool = False
    """whether `reduce` depends on the mean of the statistics over images only, as `mean` does: then
    intervals are computed from the means of resampled images, which is much faster"""
    parts: tuple[str, ...] = ()
    """names of an image's statistics [parts], such as ("blur", "mean"), where each is a score of
    its own: tables then show every part, and their spread beside the metric's number"""
    reads: str = "saliency"
    """the only one of a method's maps that the number depends on: "saliency", "attribution", or
    "ranking" for an order metric, which shows or hides pixels in an order"""
    prepare: Callable[[Sample], Any] | None = None
    """`prepare(sample) -> array`, in NumPy on the host before `measure`, for what no program can
    do: `measure` finds it as `sample.prepared`; of one shape and type for all images of a shape"""

    @property
    def id(self) -> str:
        """`name:protocol`."""
        return f"{self.name}:{self.protocol}"


def load_metric(text: str) -> Metric:
    """The metric of a function or a `Metric` of your own, such as "my_metrics.py:compactness".

    See `mdm_jax.plugins`. A function is measured on every image with the network, neither side is
    better, and it reads the saliency, unless its attributes `needs`, `better` and `reads` say
    otherwise (`compactness.better = "lower"`); the first line of its docstring describes it. The
    checksum of the file's text is part of the protocol: numbers of two texts are of two metrics.
    Raises InputError for what cannot be a metric.
    """
    thing, name, place, checksum = plugins.load_reference(text)
    if isinstance(thing, Metric):
        return replace(thing, protocol=f"{thing.protocol}-{checksum}")
    function = plugins.check_function(thing, text, "metric")
    told: dict[str, Any] = {}
    for what, default, choices in (
        ("needs", "network", NEEDS),
        ("better", "none", BETTER),
        ("reads", "saliency", READS),
    ):
        told[what] = getattr(function, what, default)
        if told[what] not in choices:
            raise unknown(f"value of {text}.{what}", told[what], choices)
    described = (inspect.getdoc(function) or f"{name} of {place}.").split("\n")[0]
    return Metric(name, f"{place}-{checksum}", function, **told, description=described)
