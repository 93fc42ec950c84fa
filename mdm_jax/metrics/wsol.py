"""Localization as weakly supervised localization scores it: MaxBoxAcc, MaxBoxAccV2 and PxAP.

Choe et al., arXiv 2001.07437 and 2007.04178, followed as their evaluation does it: every map is
resized to 224x224 and stretched to [0, 1], and its threshold is chosen once for the whole set of
images, not per image. Boxes come from OpenCV's contours, on the host."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from mdm_jax import masks
from mdm_jax.errors import InputError
from mdm_jax.metrics.metric import Metric, Sample
from mdm_jax.metrics.region_boxes import best_overlaps
from mdm_jax.types import AnyArray

# Pixels a side that maps, masks and boxes are resized to.
SIDE = 224

# Shares of the map's maximum.
THRESHOLDS = np.arange(0, 1, 0.001)
IOUS = (0.3, 0.5, 0.7)

# Bins of PxAP: [0, 0.001), ..., [0.999, 1), and 1 itself.
BINS = len(THRESHOLDS) + 1


def box_hits(
    saliency: Float[AnyArray, "h w"],
    boxes: Num[AnyArray, "k 4"],
    *,
    ious: tuple[float, ...] = IOUS,
    largest: bool = False,
) -> Bool[np.ndarray, "t i"]:
    """Whether a box of the map overlaps a true box by each of `ious`, at each of `THRESHOLDS`.

    At a threshold t the pixels of the 8-bit map above int(t * maximum) make the regions; the boxes
    are those of all contours (MaxBoxAccV2), or of the `largest` by area (MaxBoxAcc). The overlap is
    the intersection over union. True boxes are (x0, y0, x1, y1), ends exclusive, pixels of the
    image, rounded down at 224x224. As the authors', the overlap counts both ends of a box as
    pixels, boxes of regions end at pixel 223 at most, and a constant, all-zero or NaN map has no
    region: it misses everything. Raises InputError for negative or reversed boxes.
    """
    true_boxes = _resize_boxes(np.asarray(boxes, np.float64), saliency.shape)
    gray = (_resize_and_stretch(saliency) * 255).astype(np.uint8)
    levels = (THRESHOLDS * int(gray.max())).astype(int)
    pixels_above = gray.size - np.cumsum(np.bincount(gray.ravel(), minlength=256))
    # two levels with as many pixels above have the same regions, which are found only once
    distinct, of_level = np.unique(pixels_above[levels], return_inverse=True)
    first = [int(levels[np.argmax(of_level == number)]) for number in range(len(distinct))]
    # fewer pixels above at higher levels: turned round, the levels rise
    best = best_overlaps(gray, first[::-1], true_boxes, least=min(ious), largest=largest)[
        ::-1
    ]
    return best[of_level][:, None] >= np.asarray(ious)


def max_box_acc(hits: Any) -> float:
    """Best fraction of images hit at one threshold for all of them, in [0, 1].

    Of `box_hits` [n, thresholds, ious] the mean over the overlaps, each with its own best
    threshold, as the authors take it.
    """
    accuracy = np.asarray(hits).mean(axis=0, dtype=np.float64)
    return float(accuracy.max(axis=0).mean())


def pixel_histograms(
    saliency: Float[Array, "h w"],
    mask: Bool[Array, "h w"],
    ignore: Bool[Array, "h w"] | None = None,
) -> Float[Array, "2 bins"]:
    """How many pixels of the object, and of the background, have a value in each of `BINS` bins.

    Pixels of `ignore` count nowhere. On the device: map and masks are resized as OpenCV does it
    (cubic; nearest pixel), the map stretched to [0, 1]. A constant, all-zero or NaN map is all
    zeros. Edges are blurred where the map is not 224x224 already, so that only there a map equal to
    the object scores exactly 1.
    """
    resized = jnp.matmul(_cubic(saliency.shape[0]), saliency, precision=masks.HIGHEST)
    resized = jnp.matmul(resized, _cubic(saliency.shape[1]).T, precision=masks.HIGHEST)
    # rounding would leave a constant map a texture
    resized = jnp.where(saliency.max() > saliency.min(), resized, 0.0)
    low, high = resized.min(), resized.max()
    value = (resized - low) / jnp.where(high > low, high - low, 1.0)
    number = jnp.clip(jnp.floor(value * (BINS - 1)), 0, BINS - 1).astype(jnp.int32)
    rows, columns = (_nearest(side) for side in saliency.shape)
    truth = mask[rows][:, columns]
    counted = jnp.ones_like(truth) if ignore is None else truth | ~ignore[rows][:, columns]
    flat = jnp.where(truth, 0, BINS) + number
    histograms = (
        jnp.zeros(2 * BINS).at[flat.ravel()].add(counted.ravel().astype(jnp.float32))
    )
    return histograms.reshape(2, BINS)


def pixel_average_precision(histograms: Any) -> float:
    """Area under precision and recall of all images' pixels, in [0, 1].

    sum_l P_l (R_l - R_(l-1)) over falling thresholds, of `pixel_histograms` [n, 2, bins]. Random
    maps get the object's fraction of the pixels. Raises InputError where no image has a pixel of
    the object.
    """
    total = np.asarray(histograms, np.float64).sum(axis=0)
    on, off = total[:, ::-1].cumsum(axis=1)
    if on[-1] <= 0:
        raise InputError("no pixel belongs to an object in any image: PxAP needs masks")
    recall = np.diff(on / on[-1], prepend=0.0)
    pixels = on + off
    # bins above every map's highest value are empty; a mean over images can lie below 1 pixel
    precision = on / np.where(pixels > 0, pixels, 1.0)
    return float((precision * recall).sum())


def _resize_and_stretch(saliency: Float[AnyArray, "h w"]) -> Float[np.ndarray, "224 224"]:
    """The map at 224x224, stretched to [0, 1]; zeros where it is constant or NaN."""
    import cv2

    values = np.asarray(saliency, np.float64)
    if np.isnan(values).any() or values.min() == values.max():
        return np.zeros((SIDE, SIDE))
    resized = cv2.resize(values, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    resized = resized - resized.min()
    return resized / resized.max()


def _resize_boxes(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if (boxes < 0).any() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise InputError(
            "a box is negative or reversed: give x0, y0, x1, y1 in pixels of the image"
        )
    height, width = shape
    return (boxes * SIDE / np.asarray([width, height] * 2, np.float64)).astype(int)


@cache
def _cubic(pixels: int) -> np.ndarray:
    """OpenCV's cubic interpolation to 224 pixels, as a matrix.

    a = -0.75, half-pixel centers, border pixels repeated.
    """
    a = -0.75
    centers = (np.arange(SIDE) + 0.5) * (pixels / SIDE) - 0.5
    centers = centers.astype(np.float32)  # OpenCV rounds here too
    start = np.floor(centers).astype(int)
    matrix = np.zeros((SIDE, pixels), np.float32)
    for tap in range(-1, 3):
        d = np.abs(centers - (start + tap))
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * (d**3 - 5 * d**2 + 8 * d - 4)
        columns = np.clip(start + tap, 0, pixels - 1)
        # `add.at`, because repeated border pixels name one column several times
        np.add.at(matrix, (np.arange(SIDE), columns), np.where(d <= 1, near, far))
    return matrix


@cache
def _nearest(pixels: int) -> np.ndarray:
    """The pixels that OpenCV's INTER_NEAREST takes."""
    return np.minimum((np.arange(SIDE) * (pixels / SIDE)).astype(int), pixels - 1)


def _box_acc(predict: Any, sample: Sample, *, key: Any) -> np.ndarray:
    return box_hits(sample.saliency, sample.boxes, ious=(0.5,), largest=True)


def _box_acc_v2(predict: Any, sample: Sample, *, key: Any) -> np.ndarray:
    return box_hits(sample.saliency, sample.boxes)


def _pixel_histograms(predict: Any, sample: Sample, *, key: Any) -> Array:
    return pixel_histograms(jnp.asarray(sample.saliency), jnp.asarray(sample.mask))


METRICS = (
    Metric(
        "maxboxacc",
        "v1",
        _box_acc,
        "higher",
        "boxes",
        max_box_acc,
        "Share of images where the box of the largest region overlaps a true box by 0.5; one"
        " threshold for the set.",
        reduces_mean=True,
    ),
    Metric(
        "maxboxacc",
        "v2",
        _box_acc_v2,
        "higher",
        "boxes",
        max_box_acc,
        "Share of images where a box of any region overlaps a true box by 0.3, 0.5, 0.7, averaged;"
        " one threshold for the set.",
        reduces_mean=True,
    ),
    Metric(
        "pxap",
        "wsol",
        _pixel_histograms,
        "higher",
        "mask",
        pixel_average_precision,
        "Area under precision and recall of the pixels of all images together.",
        reduces_mean=True,
    ),
)
