"""A region in a picture: the border of a map's strongest part, and a veil over what is outside."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from mdm_jax.views.pages.pictures import to_rgb

# Of a map's longer side: by so much its border is smoothed, so that it can be followed by eye.
SMOOTH = 1 / 40

# How far what lies outside a region is taken towards gray.
DIM = 0.45


def draw_outline(
    ax: Axes,
    saliency: Float[np.ndarray, "h w"],
    share: float,
    color: str,
    shape: tuple[int, int],
) -> None:
    """Draw the border of the most salient `share` of an image (height, width).

    Its dark edge shows on any background."""
    saliency = smooth(saliency)
    level = threshold(saliency, share)
    if level is None:
        return
    height, width = shape
    rows = np.linspace(-0.5, height - 0.5, saliency.shape[0] + 1)
    columns = np.linspace(-0.5, width - 0.5, saliency.shape[1] + 1)
    # the map is continued beyond its borders, or an outline that meets them would stay open
    x = np.concatenate([columns[:1], 0.5 * (columns[1:] + columns[:-1]), columns[-1:]])
    y = np.concatenate([rows[:1], 0.5 * (rows[1:] + rows[:-1]), rows[-1:]])
    padded = np.pad(saliency, 1, constant_values=min(float(saliency.min()), level) - 1.0)
    drawn = ax.contour(x, y, padded, levels=[level], colors=[color], linewidths=2.0)
    drawn.set_path_effects([withStroke(linewidth=3.6, foreground="#101010")])


def smooth(saliency: Float[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """A map blurred a little (`SMOOTH`); one of two values, a box, stays as it is."""
    saliency = np.asarray(saliency, np.float32)
    sigma = SMOOTH * max(saliency.shape)
    # a box would lose its corners
    if len(np.unique(saliency)) < 3 or not np.isfinite(saliency).all():
        return saliency
    return cv2.GaussianBlur(saliency, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def threshold(saliency: Float[np.ndarray, "h w"], share: float) -> float | None:
    """The level above which at most `share` of a map lies.

    Where more cells than that are equally high, these all lie above. None for a map without
    differences, which has no region."""
    values = np.unique(saliency)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    level = float(np.quantile(saliency, 1 - share))
    if level >= values[-1]:
        return 0.5 * float(values[-2] + values[-1])
    return max(level, 0.5 * float(values[0] + values[1]))


def dim_outside(
    picture: Float[np.ndarray, "h w c"],
    region: Float[np.ndarray, "h w"],
    share: float,
) -> Float[np.ndarray, "h w 3"]:
    """The picture with what lies outside the region taken towards gray."""
    picture = to_rgb(picture)
    inside = _region_mask(region, share)
    if inside is None or region.shape != picture.shape[:2]:
        return picture
    # a little lighter than the mean, so that dark pictures are veiled too
    gray = 0.55 * picture.mean(axis=-1, keepdims=True) + 0.25
    return np.where(inside[..., None], picture, (1 - DIM) * picture + DIM * gray)


def _region_mask(
    region: Float[np.ndarray, "h w"], share: float
) -> Bool[np.ndarray, "h w"] | None:
    region = smooth(region)
    level = threshold(region, share)
    return None if level is None else region > level
