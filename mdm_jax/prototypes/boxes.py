"""From a map to a region: its most salient pixels, the box around them, its connected pieces.

Maps are compared at equal area, so the order of the pixels is all that counts. Ties are broken
fairly: of pixels of equal value those nearer to the map's center of mass come first, so that a
plateau shrinks to a compact piece about the middle of what the map shows (a box to its middle, a
constant map to the middle of the image) and is not cut as text is read."""

from __future__ import annotations

import cv2
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from mdm_jax.types import AnyArray, Scalar

# ProtoPNet's: its box surrounds all that lies at or above this percentile of the upsampled
# activation map.
PERCENTILE = 95.0


def ranks(saliency: Float[AnyArray, "h w"]) -> Int[Array, "h w"]:
    """Each pixel's place by descending saliency, 0 for the first, for maps that are >= 0.

    Ties are broken as the top of this file says. A negative value weighs nothing in the center of
    mass; a map without any mass has it in the middle."""
    height, width = saliency.shape
    saliency = jnp.asarray(saliency)
    mass = jnp.maximum(saliency, 0.0)
    # a map without mass would give 0 / 0 as its center
    mass = jnp.where(mass.sum() > 0, mass, 1.0)
    rows = jnp.arange(height, dtype=jnp.float32)
    columns = jnp.arange(width, dtype=jnp.float32)
    y_sum = (rows * (mass.sum(1) / mass.sum())).sum()
    x_sum = (columns * (mass.sum(0) / mass.sum())).sum()
    # to a hundredth of a pixel, so that rounding in the sums does not decide which of two equally
    # near pixels is first
    y, x = jnp.round(100 * y_sum) / 100, jnp.round(100 * x_sum) / 100
    distance = jnp.square(rows - y)[:, None] + jnp.square(columns - x)[None, :]
    # lexsort takes its last key as the first
    order = jnp.lexsort((distance.reshape(-1), -saliency.reshape(-1)))
    place = jnp.arange(order.size, dtype=jnp.int32)
    places = jnp.zeros(order.shape, jnp.int32).at[order].set(place, unique_indices=True)
    return places.reshape(height, width)


def pixel_count(share: Scalar, shape: tuple[int, int]) -> Int[Array, ""]:
    """Number of pixels of a fraction `share` of an image of (height, width).

    Rounded, and at least one unless the fraction is 0."""
    whole = shape[0] * shape[1]
    count = jnp.round(jnp.asarray(share, jnp.float32) * whole).astype(jnp.int32)
    return jnp.where(jnp.asarray(share) > 0, jnp.clip(count, 1, whole), 0)


def top_share(saliency: Float[AnyArray, "h w"], share: Scalar) -> Bool[Array, "h w"]:
    """The mask of the fraction `share` of the pixels that the map ranks highest."""
    return ranks(saliency) < pixel_count(share, (saliency.shape[0], saliency.shape[1]))


def mask_box(mask: Bool[AnyArray, "h w"]) -> Int[Array, "4"]:
    """The box (x0, y0, x1, y1) around a mask, ends exclusive; zeros where it has no pixels."""
    rows, columns = jnp.asarray(mask).any(axis=1), jnp.asarray(mask).any(axis=0)
    # (x0, x1, y0, y1) to (x0, y0, x1, y1)
    box = jnp.stack([*_ends(columns), *_ends(rows)])[jnp.array([0, 2, 1, 3])]
    return jnp.where(rows.any(), box, 0).astype(jnp.int32)


def _ends(line: Bool[Array, " n"]) -> tuple[Array, Array]:
    # argmax of booleans is the first that is true
    return jnp.argmax(line), line.size - jnp.argmax(line[::-1])


def percentile_box(
    saliency: Float[AnyArray, "h w"], percentile: Scalar = PERCENTILE
) -> Int[Array, "4"]:
    """The box (x0, y0, x1, y1) around every pixel at or above the map's percentile.

    Ends are exclusive, as ProtoPNet draws it. It surrounds all pieces: one far blob inflates it. A
    constant map gives the whole image. Source: `find_high_activation_crop` of ProtoPNet's
    `find_nearest.py` and `push.py`."""
    saliency = jnp.asarray(saliency)
    return mask_box(saliency >= jnp.percentile(saliency, percentile))


def box_area(box: Integer[AnyArray, "4"], shape: tuple[int, int]) -> Float[Array, ""]:
    """The share of an image of (height, width) that a box covers, in [0, 1]."""
    x0, y0, x1, y1 = jnp.asarray(box)
    return ((x1 - x0) * (y1 - y0) / (shape[0] * shape[1])).astype(jnp.float32)


def components(mask: Bool[AnyArray, "h w"]) -> Integer[np.ndarray, "h w"]:
    """The connected pieces of a mask on the host, 1 for the largest, 0 outside; corners connect."""
    count, labels = cv2.connectedComponents(
        np.asarray(mask).astype(np.uint8), connectivity=8
    )
    sizes = np.bincount(labels.ravel(), minlength=count)
    renamed = np.zeros(count, int)
    # label 0 is the outside and keeps its number
    renamed[1 + np.argsort(-sizes[1:], kind="stable")] = np.arange(1, count)
    return renamed[labels]
