"""What metrics look at: images, their maps and their truth, and the checks of what was given."""

from __future__ import annotations

import warnings
from collections.abc import Sequence, Sized
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mdm_jax.errors import InputError
from mdm_jax.images import round_boxes
from mdm_jax.types import Explanation


class Scene(NamedTuple):
    """Images with their maps and their truth."""

    images: Any
    """[n, h, w, c] in [0, 1]"""
    saliency: np.ndarray
    """[n, h, w] in [0, 1]"""
    attribution: np.ndarray
    """[n, h, w]"""
    ranking: np.ndarray
    """[n, h, w], whose order of pixels counts"""
    targets: np.ndarray
    """[n]"""
    masks: Sequence[Any]
    """[h, w] bool, or None, for each image"""
    boxes: Sequence[Any]
    """[k, 4], or None, for each image"""
    numbers: np.ndarray
    """[n] ids as 32-bit numbers"""

    def rows(self, chosen: np.ndarray) -> Scene:
        """The scene of some images, by their numbers."""
        return Scene(
            np.asarray(self.images)[chosen],
            self.saliency[chosen],
            self.attribution[chosen],
            self.ranking[chosen],
            self.targets[chosen],
            [self.masks[i] for i in chosen],
            [self.boxes[i] for i in chosen],
            self.numbers[chosen],
        )


def check_maps(maps: Any, shape: tuple[int, int, int], name: str) -> np.ndarray:
    """Maps as float32 [n, h, w]. Raises InputError for another shape and for values that are not
    finite."""
    if isinstance(maps, Explanation):
        raise InputError(f"{name} is a whole explanation: give its map, explanation.{name}")
    try:
        maps = np.asarray(maps)
    except ValueError:
        raise InputError(
            f"the {name} maps differ in shape: bring them to the size of the images"
        ) from None
    if maps.shape != shape:
        raise InputError(
            f"{name} has shape {maps.shape}: give one map for each image, {shape}"
            " (a map without channels, of the size of the network's input)"
        )
    # bfloat16 is a floating type of JAX, not of NumPy
    if not (
        jnp.issubdtype(maps.dtype, jnp.floating) or jnp.issubdtype(maps.dtype, jnp.integer)
    ):
        raise InputError(f"{name} is {maps.dtype}: give floats")
    finite = np.isfinite(maps).all(axis=(1, 2))
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        raise InputError(
            f"the {name} map {first} holds NaN or infinite values: leave it out"
        )
    return maps.astype(np.float32)


def check_saliency(maps: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """Saliency maps as float32 [n, h, w]. Raises InputError as `check_maps` does, and for values
    outside of [0, 1]."""
    saliency = check_maps(maps, shape, "saliency")
    tolerance = 1e-3  # rounding of bfloat16 and of interpolation
    if saliency.min() < -tolerance or saliency.max() > 1 + tolerance:
        worst = int(np.abs(saliency - 0.5).max(axis=(1, 2)).argmax())
        low, high = saliency[worst].min(), saliency[worst].max()
        raise InputError(
            f"the saliency map {worst} has values from {low:.3g} to {high:.3g}: maps lie in [0, 1];"
            " stretch it, and give signed values as attribution"
        )
    return saliency


def check_truth(
    object_masks: Any, boxes: Any, n: int, shape: tuple[int, int]
) -> tuple[list[Any], list[Any]]:
    """Masks and boxes of n images, None for an image without.

    Where no masks are given, the pixels of the boxes are the masks.
    """
    checked_boxes = check_boxes(boxes, n, shape)
    if object_masks is not None:
        return check_masks(object_masks, n, shape), checked_boxes
    from mdm_jax.data.network_input import boxes_to_mask  # imports OpenCV, which takes time

    masks = [None if each is None else boxes_to_mask(each, shape) for each in checked_boxes]
    return masks, checked_boxes


def check_masks(masks: Any, n: int, shape: tuple[int, int]) -> list[Any]:
    """Masks, bool [h, w] or None, for n images. Raises InputError for another number, another
    shape, or an empty mask."""
    count = _count(masks)
    if count != n:
        raise InputError(
            f"{count} masks for {n} images: give one each, None for an image without"
        )
    try:
        checked = [None if each is None else np.asarray(each) for each in masks]
    except ValueError:
        raise InputError(
            f"a mask has rows of different lengths: give bool {shape}"
        ) from None
    for i, mask in enumerate(checked):
        if mask is None:
            continue
        if mask.shape != shape or mask.dtype != bool:
            raise InputError(
                f"mask {i} has shape {mask.shape} and type {mask.dtype}: give bool {shape}"
            )
        if not mask.any():
            raise InputError(
                f"mask {i} is empty: give None for an image whose object is not known"
            )
    return checked


def check_boxes(boxes: Any, n: int, shape: tuple[int, int]) -> list[Any]:
    """Boxes, float32 [k, 4] or None, for n images. Raises InputError for another number, and for
    boxes outside the image."""
    if boxes is None:
        return [None] * n
    count = _count(boxes)
    if count != n:
        raise InputError(
            f"boxes of {count} images for {n} images:"
            " give [k, 4] for each, None for an image without"
        )
    try:
        checked = [None if each is None else np.asarray(each, np.float32) for each in boxes]
    except (TypeError, ValueError):
        raise InputError(
            "boxes are not numbers: give [k, 4] for each image, x0, y0, x1, y1 in pixels"
        ) from None
    for i, of_image in enumerate(checked):
        if of_image is not None:
            _check_boxes_of_image(of_image, i, shape)
    return checked


def _check_boxes_of_image(boxes: np.ndarray, i: int, shape: tuple[int, int]) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise InputError(
            f"the boxes of image {i} have shape {boxes.shape}:"
            " give [k, 4], x0, y0, x1, y1 in pixels"
        )
    height, width = shape
    rounded = round_boxes(boxes)
    start, end = rounded[:, :2], rounded[:, 2:]
    valid = ((start >= 0) & (start < end) & (end <= [width, height])).all(axis=1)
    if not valid.all():
        first = boxes[int(np.flatnonzero(~valid)[0])]
        corners = ", ".join(f"{value:g}" for value in first)
        raise InputError(
            f"a box of image {i} is empty or outside its {width}x{height} pixels:"
            f" x0, y0, x1, y1 = {corners}"
        )


def _count(given: Any) -> int:
    """How many there are; a single thing that is no list counts as none."""
    return len(given) if isinstance(given, Sized) else 0


def rename_masks(object_masks: Any, masks: Any) -> Any:
    """The object masks, also where they were given under their old name `masks`."""
    if masks is None:
        return object_masks
    if object_masks is not None:
        raise InputError(
            "both object_masks and its old name masks are given: give object_masks"
        )
    # who calls `evaluate`, behind `own_settings`
    warnings.warn("masks= is now object_masks=", DeprecationWarning, stacklevel=4)
    return masks
