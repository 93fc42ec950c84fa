"""Average drop, increase and gain of confidence; ADCC.

Y is the softmax probability of the class on the image x, O that on the image seen through the map,
E = M (x - n) + n, where n is the color that the network sees as zero: the product of map and image
in normalized space. Per image:

    drop = max(0, Y - O) / Y        increase = [Y < O]        gain = max(0, O - Y) / (1 - Y)

all in [0, 1]; lower, higher and higher is better. Drop and increase: Grad-CAM++ (arXiv 1710.11063);
gain: Opti-CAM (arXiv 2301.07002). An all-zero map masks everything, E = n; a map of ones masks
nothing, and all three are 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mdm_jax import fills
from mdm_jax.metrics.metric import Metric, Sample
from mdm_jax.metrics.perturbed import ranks, score, unless_nan
from mdm_jax.problem import blend
from mdm_jax.types import AnyArray, Predict

Scalar = Float[Array, ""]


def drop(full: Scalar, masked: Scalar) -> Scalar:
    """max(0, Y - O) / Y, 0 where Y is."""
    return _ratio(jnp.maximum(full - masked, 0.0), full)


def increase(full: Scalar, masked: Scalar) -> Scalar:
    """1 where O is above Y, else 0; NaN where either is."""
    return jnp.where(jnp.isnan(full + masked), jnp.nan, (masked > full).astype(jnp.float32))


def gain(full: Scalar, masked: Scalar) -> Scalar:
    """max(0, O - Y) / (1 - Y), 0 where Y is 1."""
    return _ratio(jnp.maximum(masked - full, 0.0), 1.0 - full)


def confidences(
    predict: Predict,
    image: Float[AnyArray, "h w c"],
    kept: Float[AnyArray, "h w"],
    target: Any,
) -> Any:
    """(Y, O): the probability of the class on the image, and on the image through the map."""
    pair = jnp.stack([jnp.asarray(image), apply_map(predict, image, kept)])
    full, masked = jax.vmap(lambda each: score(predict, each, target))(pair)
    return unless_nan(kept, full), unless_nan(kept, masked)


def apply_map(
    predict: Predict, image: Float[AnyArray, "h w c"], kept: Float[AnyArray, "h w"]
) -> Float[Array, "h w c"]:
    """E = M x + (1 - M) n, with n the color that the network sees as zero."""
    neutral = jnp.broadcast_to(fills.neutral_color(predict, image.shape[-1]), image.shape)
    return blend(jnp.asarray(kept)[None], jnp.asarray(image), neutral)[0]


def upper_half(saliency: Float[AnyArray, "h w"]) -> Float[Array, "h w"]:
    """The map with all but its floor(h w / 2) most salient pixels set to 0; ties row by row.

    Score-CAM (arXiv 1910.01279, section 4.2) says "50% of pixels are muted", no more; this is how
    Relevance-CAM reads it.
    """
    return jnp.where(ranks(saliency) < saliency.size // 2, saliency, 0.0)


def coherency(first: Float[AnyArray, "h w"], second: Float[AnyArray, "h w"]) -> Scalar:
    """(r + 1) / 2 in [0, 1] for Pearson's r of two maps; 0 where one of them is constant."""
    a, b = first - first.mean(), second - second.mean()
    powers = (a * a).sum() * (b * b).sum()
    flat = _constant(first) | _constant(second)
    r = jnp.clip((a * b).sum() / jnp.sqrt(jnp.where(flat, 1.0, powers)), -1.0, 1.0)
    return jnp.where(flat, 0.0, (r + 1) / 2)


def adcc(
    predict: Predict,
    image: Float[AnyArray, "h w c"],
    saliency: Float[AnyArray, "h w"],
    target: Any,
    *,
    explain: Callable[..., Float[Array, "h w"]],
    key: Key[Array, ""],
) -> Scalar:
    """Harmonic mean of coherency, 1 - complexity and 1 - drop, in [0, 1]; higher is better.

    3 / (1/c + 1/(1 - m) + 1/(1 - d)). Coherency c compares the map of x with that of E = x through
    its map; complexity m is the mean of the map, d the drop. 0 where one of the three is: for an
    all-zero or constant map. Poppi et al., arXiv 2104.10252, equation 5; `explain(image, target,
    key)` gives a map [h, w].
    """
    full, masked = confidences(predict, image, saliency, target)
    map_of_masked = explain(apply_map(predict, image, saliency), target, key)
    three = jnp.stack(
        [
            coherency(saliency, map_of_masked),
            1 - jnp.abs(saliency).mean(),
            1 - drop(full, masked),
        ]
    )
    mean = 3 / (1 / jnp.where(three > 0, three, 1.0)).sum()
    return unless_nan(
        saliency + map_of_masked,
        jnp.where(jnp.isnan(three).any(), jnp.nan, jnp.where((three > 0).all(), mean, 0.0)),
    )


def _ratio(part: Scalar, total: Scalar) -> Scalar:
    return jnp.where(total == 0, 0.0, part / jnp.where(total == 0, 1.0, total))


def _constant(values: Float[AnyArray, "h w"]) -> Array:
    return values.max() - values.min() <= 1e-6 * jnp.abs(values).max()


def _measure(
    predict: Predict,
    sample: Sample,
    *,
    key: Key[Array, ""],
    statistic: Callable[[Scalar, Scalar], Scalar],
    half: bool,
) -> Scalar:
    del key
    kept = sample.saliency
    if half:
        kept = unless_nan(kept, upper_half(kept))
    return statistic(*confidences(predict, sample.image, kept, sample.target))


def _adcc(
    predict: Predict,
    sample: Sample,
    *,
    key: Key[Array, ""],
    explain: Callable[..., Float[Array, "h w"]],
) -> Scalar:
    return adcc(
        predict, sample.image, sample.saliency, sample.target, explain=explain, key=key
    )


def _row(name: str, protocol: str, better: str, statistic: Any, text: str) -> Metric:
    half = protocol == "scorecam-50"
    factor = (
        "the map, of which the more salient half of the pixels is kept"
        if half
        else "the map"
    )
    description = f"{text} when the image is multiplied by {factor}."
    measure = partial(_measure, statistic=statistic, half=half)
    return Metric(name, protocol, measure, better, description=description)


_DROP = "Share of the class's probability that is lost"
_INCREASE = "Share of images whose class becomes more probable"
METRICS = (
    _row("average_drop", "gradcam++", "lower", drop, _DROP),
    _row("average_drop", "scorecam-50", "lower", drop, _DROP),
    _row("increase", "gradcam++", "higher", increase, _INCREASE),
    _row("increase", "scorecam-50", "higher", increase, _INCREASE),
    _row(
        "average_gain",
        "gradcam++",
        "higher",
        gain,
        "Share of the possible rise of the class's probability that is won",
    ),
    Metric(
        "adcc",
        "poppi",
        _adcc,
        "higher",
        "explain",
        description="Harmonic mean of coherency, 1 - complexity and 1 - drop.",
    ),
)
