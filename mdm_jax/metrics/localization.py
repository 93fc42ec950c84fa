"""Localization: does the map lie on the object?"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Num

from mdm_jax.errors import InputError
from mdm_jax.metrics.metric import Metric, Sample
from mdm_jax.metrics.perturbed import unless_nan
from mdm_jax.types import AnyArray, Scalar

# Pixels that TorchRay forgives, whatever the image's size.
TOLERANCE = 15

# Pixels that a box may stand out of its image: what rounding leaves.
BOX_SLACK = 0.01


def energy_pointing(
    saliency: Float[Array, "h w"], mask: Bool[Array, "h w"]
) -> Float[Array, ""]:
    """Fraction of the map's energy inside the object, sum(S * mask) / sum(S), in [0, 1].

    0 for an all-zero map. Energy-based pointing game of Score-CAM (arXiv 1910.01279), with the
    exact mask in place of its box. Chance, and so the score of a constant map, is the mask's area.
    A map with a NaN gives NaN.
    """
    total = saliency.sum()
    energy = jnp.where(
        total > 0, (saliency * mask).sum() / jnp.where(total > 0, total, 1.0), 0.0
    )
    return unless_nan(saliency, energy)


def pointing(
    saliency: Float[Array, "h w"],
    mask: Bool[Array, "h w"],
    *,
    tolerance: Scalar = TOLERANCE,
) -> Float[Array, ""]:
    """Whether the map's maximum p hits the object: 1 if min_{q in object} |p - q| < tolerance.

    Else 0; the distance is Euclidean, in pixels. A tolerance of 0 asks for a pixel of the object
    itself. Of equal maxima the first in row-major order counts, so a constant or all-zero map
    points at the top left pixel. A map with a NaN gives NaN. Pointing game (Zhang et al., arXiv
    1608.00507) as TorchRay's `PointingGame.evaluate`, whose map has the size of the image.
    """
    height, width = saliency.shape
    row, column = jnp.divmod(jnp.argmax(saliency), width)
    squared = (jnp.arange(height)[:, None] - row) ** 2 + (
        jnp.arange(width)[None, :] - column
    ) ** 2
    accepted = (squared < tolerance**2) | (squared == 0)
    return unless_nan(saliency, (mask & accepted).any().astype(jnp.float32))


def class_mean(hits: Float[AnyArray, " n"], classes: Integer[AnyArray, " n"]) -> float:
    """Mean over classes of the mean over each class's images: how TorchRay reduces its hits.

    Classes without images are left out. Raises InputError where there is no image.
    """
    hits, classes = np.asarray(hits, np.float64), np.asarray(classes)
    if len(hits) == 0:
        raise InputError("no images: a mean over classes needs at least one")
    _, numbers, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return float((np.bincount(numbers, hits) / counts).mean())


def box_mask(
    boxes: Num[AnyArray, "k 4"], shape: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """The pixels whose centers lie in any of the boxes, in an image of (height, width).

    Boxes are (x0, y0, x1, y1) with exclusive ends.
    """
    x, y = np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5
    x0, y0, x1, y1 = np.asarray(boxes, np.float64).T[:, :, None]
    columns, rows = (x0 <= x) & (x < x1), (y0 <= y) & (y < y1)
    return (rows[:, :, None] & columns[:, None, :]).any(axis=0)


def box_energy(saliency: Float[AnyArray, "h w"], boxes: Num[AnyArray, "k 4"]) -> float:
    """`energy_pointing` with the union of the boxes as the mask, as Score-CAM's authors score it.

    On the host. NaN where the map holds one.
    """
    saliency = np.asarray(saliency, np.float64)
    total = saliency.sum()
    inside = saliency[box_mask(boxes, (saliency.shape[0], saliency.shape[1]))].sum()
    return 0.0 if total <= 0 else float(inside / total)


def check_truth(mask: Any, boxes: Any, shape: tuple[int, int]) -> None:
    """Check the mask and the boxes of the object in an image of (height, width).

    Either may be None. Raises InputError for a mask of another shape or type or without a pixel,
    and for boxes that are none, not (x0, y0, x1, y1), not finite, empty, or outside the image.
    """
    if mask is not None:
        mask = np.asarray(mask)
        if mask.shape != tuple(shape) or mask.dtype != bool:
            raise InputError(
                f"the mask is {mask.dtype} {mask.shape}: give bool {tuple(shape)}, the size of its"
                " image"
            )
        if not mask.any():
            raise InputError("the mask is empty: it marks no pixel as the object's")
    if boxes is not None:
        _check_boxes(np.asarray(boxes), shape)


def _check_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.issubdtype(boxes.dtype, np.number):
        raise InputError(
            f"boxes are {boxes.dtype} {boxes.shape}: give numbers [k, 4], each row x0, y0, x1, y1"
            " in pixels"
        )
    if not len(boxes):
        raise InputError("boxes are empty: give at least one")
    for box in boxes:
        x0, y0, x1, y1 = box.tolist()
        name = f"the box x0, y0, x1, y1 = {x0:g}, {y0:g}, {x1:g}, {y1:g}"
        if not np.isfinite(box).all():
            raise InputError(f"{name} is not finite")
        if x1 <= x0 or y1 <= y0:
            raise InputError(f"{name} is empty: x1 must exceed x0, and y1 must exceed y0")
        if (
            min(x0, y0) < -BOX_SLACK
            or x1 > shape[1] + BOX_SLACK
            or y1 > shape[0] + BOX_SLACK
        ):
            raise InputError(
                f"{name} lies outside its image of {shape[1]}x{shape[0]}: give pixels of that image"
            )


def _energy(predict: Any, sample: Sample, *, key: Any) -> Array:
    return energy_pointing(jnp.asarray(sample.saliency), jnp.asarray(sample.mask))


def _box_energy(predict: Any, sample: Sample, *, key: Any) -> np.ndarray:
    return np.asarray(box_energy(sample.saliency, sample.boxes))


def _forgiving(predict: Any, sample: Sample, *, key: Any) -> Array:
    return pointing(jnp.asarray(sample.saliency), jnp.asarray(sample.mask))


def _exact(predict: Any, sample: Sample, *, key: Any) -> Array:
    return pointing(jnp.asarray(sample.saliency), jnp.asarray(sample.mask), tolerance=0)


METRICS = (
    Metric(
        "energy",
        "mask",
        _energy,
        "higher",
        "mask",
        description="Share of the map's sum on the object's pixels.",
    ),
    Metric(
        "energy",
        "box",
        _box_energy,
        "higher",
        "boxes",
        description="Share of the map's sum inside the object's boxes.",
    ),
    Metric(
        "pointing",
        "torchray-15",
        _forgiving,
        "higher",
        "mask",
        description=(
            "Share of images whose map has its maximum less than 15 pixels from the object; mean"
            " over images."
        ),
    ),
    Metric(
        "pointing",
        "exact",
        _exact,
        "higher",
        "mask",
        description="Share of images whose map has its maximum on a pixel of the object.",
    ),
)
