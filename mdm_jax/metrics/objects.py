"""Localization of several objects: how many of them does the map show, not how much of one?"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Num

from mdm_jax.metrics.localization import box_mask
from mdm_jax.metrics.metric import Metric, Sample
from mdm_jax.types import AnyArray

# Salient pixels per pixel of an object: a map at the scale of blobs covers about twice the strokes
# that it is right about, as the box of a digit does; 1 asks for maps that are fine to the pixel.
FACTOR = 2.0

# Largest fraction of the image that counts as salient: a map without preference then covers at most
# a third of any object.
MAX_FRACTION = 1 / 3

# Fraction of an object's pixels that makes it found.
HALF = 0.5


def object_masks(
    mask: Bool[AnyArray, "h w"] | None, boxes: Num[AnyArray, "k 4"], shape: tuple[int, int]
) -> Bool[np.ndarray, "k h w"]:
    """The pixels of each object in an image of (height, width).

    Those of the mask in the object's box, or all of the box where the mask marks none.
    """
    framed = np.stack([box_mask(box[None], shape) for box in np.asarray(boxes)])
    inside = framed if mask is None else framed & np.asarray(mask)
    return np.where(inside.any(axis=(1, 2), keepdims=True), inside, framed)


def most_salient(saliency: Float[AnyArray, "h w"], count: int) -> Float[np.ndarray, "h w"]:
    """1 for each of the `count` pixels of the highest values, 0 for the others.

    Pixels of equal value at the threshold get equal fractions of the remaining count, so that a
    constant map prefers nothing.
    """
    values = np.asarray(saliency, np.float64)
    threshold = np.sort(values, axis=None)[values.size - count]
    above = values > threshold
    equal = values == threshold
    return above + equal * (count - above.sum()) / equal.sum()


def objects_found(
    saliency: Float[AnyArray, "h w"],
    objects: Bool[AnyArray, "k h w"],
    *,
    factor: float = FACTOR,
) -> Float[np.ndarray, "2"]:
    """How many objects the map shows, and of how many: [found, k].

    An object is found when at least half of its pixels are among the n most salient pixels of the
    image,

        n = min(factor * pixels of all objects together, pixels of the image / 3)

    so that n is the same for every method, a perfect map finds all, and every pixel spent on one
    object, or on the background, is missing for another. A map that is spread over everything holds
    n / (h w) <= 1/3 of an object and finds none. Where objects cover more than a third of the image
    no map could show them all in n pixels: [0, 0], it does not count. A map with a NaN gives NaN.
    On the host.
    """
    saliency, objects = np.asarray(saliency), np.asarray(objects)
    if objects.any(axis=0).sum() > MAX_FRACTION * saliency.size:
        return np.zeros(2)
    if np.isnan(saliency).any():
        return np.full(2, np.nan)
    found = which_found(saliency, objects, factor=factor).sum()
    return np.asarray([found, len(objects)], np.float64)


def which_found(
    saliency: Float[AnyArray, "h w"],
    objects: Bool[AnyArray, "k h w"],
    *,
    factor: float = FACTOR,
) -> Bool[np.ndarray, " k"]:
    """Whether each object is found, as `objects_found` says, of a map without NaN."""
    object_pixels = int(np.any(objects, axis=0).sum())
    count = int(min(factor * object_pixels, MAX_FRACTION * saliency.size))
    salient = most_salient(saliency, max(1, count))
    return np.asarray([salient[each].mean() >= HALF for each in np.asarray(objects)])


def share_found(statistics: Any) -> float:
    """Objects found in all images / objects in all images, of `objects_found` [n, 2].

    NaN where there are no objects.
    """
    found, objects = np.asarray(statistics, np.float64).sum(axis=0)
    if objects == 0:
        return float("nan")
    return float(found / objects)


def _measure(predict: Any, sample: Sample, *, key: Any, factor: float) -> np.ndarray:
    shape = (sample.saliency.shape[0], sample.saliency.shape[1])
    objects = object_masks(sample.mask, np.asarray(sample.boxes), shape)
    return objects_found(sample.saliency, objects, factor=factor)


METRICS = tuple(
    Metric(
        "objects",
        f"half-{factor:g}x",
        partial(_measure, factor=factor),
        "higher",
        "boxes",
        share_found,
        f"Share of the objects of which half lies among {factor:g} x as many most salient pixels as"
        " all objects have.",
        reduces_mean=True,
    )
    for factor in (FACTOR, 1.0)
)
