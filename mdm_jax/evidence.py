"""Evidence: what the gradients along the way of the masks say of each pixel, and maps made of it.

The solver meets the masks M_1 ... M_T, and every step computes the gradient g_t of what it
minimizes with respect to the rendered mask, pixel by pixel. Their sum costs nothing:

    E = -sum_t g_t / rms(g_t)                          evidence, > 0 where showing the pixel helped
    P_s = stretch(max(0, G_s * E))                     evidence for the node, at a scale s
    A = stretch(G_coarse * |E|)                        evidence for or against it
    ranking = stretch((M + d) (P_fine + c))            the order of pixels
    O = stretch(A P_coarse (M + d))
    saliency = stretch(cbrt(O missing(O)) + e sqrt(O)) the map to look at

M is the stacked mask stretched to [0, 1], G_s a Gaussian, d = 0.1 (`FLOOR`), c = 0.02
(`FLOOR_OF_PIXELS`) and e = 0.15 (`REST`). `missing` calibrates: the pixels are shown in the order
of the map, and a pixel's value is the part of the activation that was still missing before it. So
the mask says what suffices, the evidence what counted, and the activation how far values reach. In
both maps pixels with evidence against the node come last, those with the most at the very end.

Two maps, because one cannot serve both: metrics that show or hide pixels in an order want single
pixels, and whoever looks at the map, or compares it with an object, wants the object.

Each g_t is divided by its root mean square, so no single step decides. Weighted by the moves of the
mask in place of that, the sum would be a path integral, complete as integrated gradients are; it
ranked pixels worse. A alone marks whole objects, but nearly as well for a network without training:
where the image differs from its fill there is always some gradient, and only its sign is the
network's. P alone falls into crumbs. All of this is ours, not the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import rankdata
from jaxtyping import Array, Float

from mdm_jax.images import gaussian_blur
from mdm_jax.masks import normalize
from mdm_jax.types import Mask

# Standard deviations of the Gaussians, as shares of the image's shorter side: 1.5 and 12 pixels of
# 224.
FINE, COARSE = 1.5 / 224, 12 / 224

# What is added to a factor of a map, so that a zero in one does not hide the other: to the mask,
# and to the evidence of single pixels.
FLOOR, FLOOR_OF_PIXELS = 0.1, 0.02

# Shares of the pixels that are shown to calibrate a map.
LEVELS = (0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.14, 0.2, 0.28, 0.4, 0.55, 0.75)

# Part of the map that is not calibrated, so that pixels stay in order once everything is back.
REST = 0.15

# The least value of pixels with evidence against the node, before the map is stretched: they come
# after those without any, and too little is taken away to be seen.
AGAINST = 1e-4

TINY = 1e-20


class Maps(NamedTuple):
    """The two maps, both [h, w] in [0, 1]."""

    saliency: Mask
    ranking: Mask


def proportional(gradient: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """g / rms(g): free of the network's scale, and in the proportions that it had; 0 stays 0."""
    return gradient / jnp.maximum(jnp.sqrt(jnp.mean(jnp.square(gradient))), TINY)


def smooth(evidence: Float[Array, "h w"], scale: float) -> Float[Array, "h w"]:
    """G_s * E for a Gaussian of `scale` times the shorter side; there is nothing beyond borders."""
    sigma = np.float32(scale * min(evidence.shape))
    margin = int(np.ceil(4 * sigma))
    height, width = evidence.shape
    padded = jnp.pad(evidence, margin)
    blurred = gaussian_blur(padded[..., None], sigma)[..., 0]
    return blurred[margin : margin + height, margin : margin + width]


def support(smoothed: Float[Array, "h w"]) -> Mask:
    """P: the part of smoothed evidence that is for the node, stretched to [0, 1]."""
    return normalize(jnp.maximum(smoothed, 0.0))


def against(smoothed: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """The part of smoothed evidence that is against the node, in [-1, 0]."""
    largest = jnp.max(jnp.abs(smoothed))
    return jnp.minimum(smoothed, 0.0) / jnp.maximum(largest, TINY)


def ranking(mask: Mask, evidence: Float[Array, "h w"]) -> Mask:
    """The map whose order metrics of insertion and deletion read."""
    fine = smooth(evidence, FINE)
    order = (normalize(mask) + FLOOR) * (support(fine) + FLOOR_OF_PIXELS)
    return normalize(order + AGAINST * against(fine))


def maps(
    mask: Mask,
    evidence: Float[Array, "h w"],
    kept: Callable[[Float[Array, "n h w"]], Float[Array, " n"]],
) -> Maps:
    """Saliency and ranking of a stacked mask and its evidence.

    `kept(masks)` is the part of the activation, in [0, 1], that the image keeps through each mask;
    it is asked for `LEVELS` of them.
    """
    coarse = smooth(evidence, COARSE)
    regions = normalize(smooth(jnp.abs(evidence), COARSE)) * support(coarse)
    # without any evidence for the node the mask alone decides
    regions = jnp.where(jnp.any(regions > 0), regions, 1.0)
    order = normalize(regions * (normalize(mask) + FLOOR))
    last = AGAINST * against(coarse)
    values = jnp.cbrt(order * missing(order + last, kept)) + REST * jnp.sqrt(order)
    return Maps(normalize(values + last), ranking(mask, evidence))


def missing(
    order: Mask, kept: Callable[[Float[Array, "n h w"]], Float[Array, " n"]]
) -> Mask:
    """The part of the activation that is missing before a pixel is shown, in [0, 1].

    Pixels are shown from the greatest value of `order` down. Between the `LEVELS` the value falls
    linearly with the rank, and it never rises; so it is 1 for the first pixel, and 0 for those that
    come when everything is back.
    """
    place = rankdata(-order.reshape(-1), method="ordinal").reshape(order.shape)
    # shares of the pixels that are shown before this one, and once this one is
    before, after = (place - 1) / order.size, place / order.size
    levels = jnp.asarray(LEVELS)
    shown = (after[None] <= levels[:, None, None]).astype(jnp.float32)
    left = 1.0 - jnp.clip(kept(shown), 0.0, 1.0)
    # once the activation is back it counts as back, even if more pixels take it away again
    left = jnp.minimum.accumulate(left)
    places = jnp.concatenate([jnp.zeros(1), levels, jnp.ones(1)])
    values = jnp.concatenate([jnp.ones(1), left, jnp.zeros(1)])
    return jnp.interp(before, places, values)
