"""Insertion and deletion (RISE, Petsiuk et al., arXiv 1806.07421), as its `evaluation.py` has them.

Pixels change, all channels together, in the order of descending saliency, from a start image to a
finish image, `step` at a time; p_k is the softmax probability of the class explained after k steps,
and the score is the area under that curve:

    AUC = (sum_k p_k - p_0 / 2 - p_K / 2) / K,    K = ceil(h w / step)

Deletion goes from the image to the color that the network sees as zero, insertion from a blurred
image to the image. The whole curve is one batch of K + 1 images. Ties go row by row; a constant or
all-zero map is thus read as text is. A map with a NaN gives NaN. The metrics take the order from
the method's ranking where it has one, see `Sample.ranking`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from mdm_jax import fills
from mdm_jax.errors import InputError, unknown
from mdm_jax.execution.chunked import map_over
from mdm_jax.masks import HIGHEST
from mdm_jax.metrics.metric import Metric, Sample
from mdm_jax.metrics.perturbed import chunk_for, ranks, score, unless_nan
from mdm_jax.types import AnyArray, Node, Predict

STARTS = ("blur", "neutral")


def insertion(
    predict: Predict, image: Any, saliency: Any, target: Any, **settings: Any
) -> Float[Array, ""]:
    """Area under `insertion_curve`, whose settings it takes: higher is better."""
    return area(insertion_curve(predict, image, saliency, target, **settings))


def deletion(
    predict: Predict, image: Any, saliency: Any, target: Any, **settings: Any
) -> Float[Array, ""]:
    """Area under `deletion_curve`, whose settings it takes: lower is better."""
    return area(deletion_curve(predict, image, saliency, target, **settings))


def insertion_curve(
    predict: Predict,
    image: Float[AnyArray, "h w c"],
    saliency: Float[AnyArray, "h w"],
    target: Any,
    *,
    steps: int = 28,
    start: str = "blur",
    node: str | Node = "probability",
    chunk: int | None = None,
) -> Float[Array, " scores"]:
    """p_0 .. p_K as pixels appear, the most salient first.

    `start` is "blur" (RISE's blurred image) or "neutral" (the color that the network sees as zero).
    """
    if start not in STARTS:
        raise unknown("start", start, STARTS)
    neutral = fills.neutral_color(predict, image.shape[-1])
    begin = rise_blur(image, neutral) if start == "blur" else neutral
    return curve(
        predict, begin, image, saliency, target, steps=steps, node=node, chunk=chunk
    )


def deletion_curve(
    predict: Predict,
    image: Float[AnyArray, "h w c"],
    saliency: Float[AnyArray, "h w"],
    target: Any,
    *,
    steps: int = 28,
    node: str | Node = "probability",
    chunk: int | None = None,
) -> Float[Array, " scores"]:
    """p_0 .. p_K as pixels turn into the network's zero, the most salient first."""
    neutral = fills.neutral_color(predict, image.shape[-1])
    return curve(
        predict, image, neutral, saliency, target, steps=steps, node=node, chunk=chunk
    )


def curve(
    predict: Predict,
    start: Float[AnyArray, "*start c"],
    finish: Float[AnyArray, "*finish c"],
    saliency: Float[AnyArray, "h w"],
    target: Any,
    *,
    steps: int = 28,
    node: str | Node = "probability",
    chunk: int | None = None,
) -> Float[Array, " scores"]:
    """The node p_0 .. p_K on the way from `start` to `finish`, images [h, w, c] or colors [c].

    A step is h w / `steps` pixels, rounded up, as RISE's 1792 of 224 x 224 are for 28 steps; K =
    ceil(h w / step) can be smaller than `steps`, and the last step may hold fewer pixels. `chunk`
    images are evaluated at a time.
    """
    pixels = saliency.size
    if steps < 1:
        raise InputError(f"steps is {steps}: give a whole number from 1")
    step = -(-pixels // steps)
    rank = ranks(saliency)[..., None]

    def score_after(changed: Array) -> Array:
        return score(predict, jnp.where(rank < changed, finish, start), target, node=node)

    counts = step * jnp.arange(-(-pixels // step) + 1)
    at_once = chunk_for((*saliency.shape, start.shape[-1]), chunk)
    return unless_nan(saliency, map_over(score_after, counts, at_once))


def area(scores: Float[Array, " scores"]) -> Float[Array, ""]:
    """Area under scores at equal distances on [0, 1], by trapezoids."""
    return jnp.trapezoid(scores, dx=1 / (scores.size - 1))


def rise_blur(
    image: Float[AnyArray, "h w c"], neutral: Float[Array, " c"]
) -> Float[Array, "h w c"]:
    """RISE's blurred image: its 11 x 11 kernel with zero padding on the normalized image.

    Normalizing subtracts `neutral` and divides by a constant per channel. A linear blur commutes
    with the division, so this is the blur of x - neutral, plus neutral: the borders fade to
    neutral.
    """
    rows, columns = (_zero_padded(n) for n in image.shape[:2])
    blurred = jnp.einsum(
        "yh,hwc,xw->yxc", rows, image - neutral, columns, precision=HIGHEST
    )
    return blurred + neutral


def rise_kernel(size: int = 11, sigma: float = 5.0) -> np.ndarray:
    """One dimension of RISE's kernel, k[size], which is the outer product k k^T.

    RISE blurs a delta in the middle of an 11 x 11 grid by `scipy.ndimage.gaussian_filter`: a
    Gaussian cut at 4 sigma whose tails the borders of the grid reflect back, (d c b a | a b c d | d
    c b a), so that it is nearly a box.
    """
    radius = int(4.0 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    # a reflection at both borders repeats after twice the size
    positions = (np.arange(size)[:, None] + offsets[None, :]) % (2 * size)
    positions = np.minimum(positions, 2 * size - 1 - positions)
    return ((positions == size // 2) * weights).sum(axis=1)


def _zero_padded(n: int) -> np.ndarray:
    """Matrix [n, n] of the correlation with RISE's kernel, zeros beyond the borders."""
    kernel = rise_kernel()
    offset = np.arange(n)[None, :] - np.arange(n)[:, None] + len(kernel) // 2
    inside = (offset >= 0) & (offset < len(kernel))
    return np.where(inside, kernel[np.clip(offset, 0, len(kernel) - 1)], 0.0).astype(
        np.float32
    )


def _insertion(
    predict: Predict, sample: Sample, *, key: Key[Array, ""], steps: int, start: str
) -> Float[Array, ""]:
    del key
    return insertion(
        predict, sample.image, sample.ranking, sample.target, steps=steps, start=start
    )


def _deletion(
    predict: Predict, sample: Sample, *, key: Key[Array, ""], steps: int
) -> Float[Array, ""]:
    del key
    return deletion(predict, sample.image, sample.ranking, sample.target, steps=steps)


def _row(name: str, protocol: str, steps: int, start: str = "") -> Metric:
    if name == "insertion":
        first = {"blur": "RISE's blurred image", "neutral": "the network's zero"}[start]
        way = f"{first} to the image"
        measure, better = partial(_insertion, steps=steps, start=start), "higher"
    else:
        way = "the image to the network's zero"
        measure, better = partial(_deletion, steps=steps), "lower"
    description = (
        f"Area under the probability of the class from {way}, the most salient pixels first, in"
        f" {steps} steps."
    )
    return Metric(name, protocol, measure, better, description=description, reads="ranking")


METRICS = (
    _row("insertion", "rise-28", 28, "blur"),
    _row("insertion", "rise-224", 224, "blur"),
    _row("insertion", "zero-28", 28, "neutral"),
    _row("insertion", "zero-224", 224, "neutral"),
    _row("deletion", "rise-28", 28),
    _row("deletion", "rise-224", 224),
)
