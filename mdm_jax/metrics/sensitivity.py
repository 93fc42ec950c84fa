"""Sensitivity-n, infidelity and max-sensitivity.

The first two measure whether attributions add up to changes of the network's output, the last
whether maps stay when the image hardly changes. The attribution R [h, w] is signed and adds up its
channels, as `Explanation.attribution` does; f is the logit of the class, for which a linear network
has exact answers: sensitivity-n 1, infidelity 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from mdm_jax import fills
from mdm_jax.errors import InputError
from mdm_jax.execution.chunked import map_over
from mdm_jax.metrics.metric import Metric, Sample
from mdm_jax.metrics.perturbed import chunk_for, score, unless_nan
from mdm_jax.types import AnyArray, Node, Predict, Scalar

# Random sets of every size.
SUBSETS = 100
SIZES = 10

# Fraction of the pixels in the largest set.
LARGEST = 0.8
SAMPLES = 10

# Of the noise of infidelity, in units of the image's range [0, 1].
DEVIATION = 0.003

# Of the noise of max-sensitivity, in the same units.
RADIUS = 0.02

# Variation of less than this, relative to the size, is rounding.
FLAT = 1e-6


def sensitivity_n(
    predict: Predict,
    image: Float[AnyArray, "h w c"],
    attribution: Float[AnyArray, "h w"],
    target: Any,
    *,
    key: Key[Array, ""],
    sizes: Sequence[int] | None = None,
    subsets: int = SUBSETS,
    chunk: int | None = None,
) -> Float[Array, ""]:
    """Mean over n of Pearson's r_n in [-1, 1], higher is better, over random sets S of n pixels.

    r_n correlates, with x_S the image whose pixels in S have the color that the network sees as
    zero,

        sum_{i in S} R_i    and    f(x) - f(x_S)

    Ancona et al., arXiv 1711.06104, section 4: 100 sets of each size, here of `set_sizes`; the sets
    of one draw are nested, the first n of a permutation. r_n is 0 where either side does not vary:
    for a constant or all-zero map, whose sums are all alike, and for a network that does not react.
    A map with a NaN gives NaN.
    """
    height, width, channels = image.shape
    counts = np.asarray(set_sizes(height * width) if sizes is None else sizes)
    if (
        subsets < 2
        or counts.size == 0
        or counts.min() < 1
        or counts.max() >= height * width
    ):
        raise InputError(
            f"sizes are {counts.tolist()} and subsets {subsets}: give sizes from 1 to below the"
            f" {height * width} pixels, and at least 2 subsets of each"
        )
    neutral = fills.neutral_color(predict, channels)
    # all sets of one size have as many pixels, so without the mean of R their sums correlate as
    # before, and a constant map is all zeros
    centered = jnp.asarray(attribution) - attribution.mean()
    # not by `centered`: the mean of a constant map is the constant only up to rounding
    varies = jnp.ptp(attribution) > FLAT * jnp.abs(attribution).max()
    centered = jnp.where(varies, centered, 0.0)
    orders = jax.vmap(lambda each: jax.random.permutation(each, height * width))(
        jax.random.split(key, subsets)
    )

    def evaluate_set(chosen: tuple[Array, Array]) -> tuple[Array, Array]:
        draw, count = chosen
        inside = orders[draw].reshape(height, width) < count
        altered = jnp.where(inside[..., None], neutral, image)
        total = jnp.where(inside, centered, 0.0).sum()
        return total, score(predict, altered, target, node="logit")

    chosen = (
        jnp.repeat(jnp.arange(subsets), counts.size),
        jnp.tile(jnp.asarray(counts), subsets),
    )
    sums, scores = map_over(evaluate_set, chosen, chunk_for(image.shape, chunk))
    full = score(predict, image, target, node="logit")
    sums, drops = (
        values.reshape(subsets, counts.size).T for values in (sums, full - scores)
    )
    r = jax.vmap(lambda a, b: _correlation(a, b, jnp.abs(full)))(sums, drops)
    return unless_nan(attribution, r.mean())


def set_sizes(pixels: int, sizes: int = SIZES, largest: float = LARGEST) -> tuple[int, ...]:
    """Sizes of the sets, from 1 to 80 % of the pixels at equal ratios, rounded."""
    geometric = np.geomspace(1, max(1, int(largest * pixels)), sizes)
    return tuple(int(size) for size in np.unique(np.round(geometric)))


def infidelity(
    predict: Predict,
    image: Float[AnyArray, "h w c"],
    attribution: Float[AnyArray, "h w *c"],
    target: Any,
    perturbations: Float[AnyArray, "samples h w *c"],
    *,
    scaled: bool = False,
    node: str | Node = "logit",
    chunk: int | None = None,
) -> Float[Array, ""]:
    """Mean over perturbations I of (b <I, R> - (f(x) - f(x - I)))^2, at least 0, lower is better.

    Yeh et al., arXiv 1901.09392, as captum has it. `scaled` chooses the best factor b for the
    image, sum <I, R> (f(x) - f(x - I)) / sum <I, R>^2, for maps of arbitrary unit; else, and where
    the map is all zero, b is 1. An attribution [h, w] goes with perturbations [samples, h, w],
    which are the same in every channel.
    """
    attribution, perturbations = jnp.asarray(attribution), jnp.asarray(perturbations)
    expected = jax.vmap(lambda each: (each * attribution).sum())(perturbations)
    if perturbations.ndim == 3:
        perturbations = perturbations[..., None]
    scores = map_over(
        lambda each: score(predict, image - each, target, node=node),
        perturbations,
        chunk_for(image.shape, chunk),
    )
    drops = score(predict, image, target, node=node) - scores
    power = (expected**2).sum()
    best = jnp.where(
        power > 0, (expected * drops).sum() / jnp.where(power > 0, power, 1.0), 1.0
    )
    return ((jnp.where(scaled, best, 1.0) * expected - drops) ** 2).mean()


def max_sensitivity(
    image: Float[AnyArray, "h w c"],
    target: Any,
    *,
    explain: Callable[..., Float[Array, "h w"]],
    key: Key[Array, ""],
    samples: int = SAMPLES,
    radius: Scalar = RADIUS,
    chunk: int | None = None,
) -> Float[Array, ""]:
    """Maximum over x' of ||S(x') - S(x)|| / ||S(x)||, at least 0, lower is better.

    x' is uniform within `radius` of x, not clipped. Yeh et al., arXiv 1901.09392, as captum has it:
    10 samples, and an all-zero S(x) counts as of norm 1. `explain(image, target, key)` gives the
    map [h, w]; its key is the same for all, so that only the image's change is measured.
    """
    noise_key, key = jax.random.split(key)
    noise = jax.random.uniform(
        noise_key, (samples, *image.shape), minval=-radius, maxval=radius
    )
    return largest_change(
        image, noise, lambda each: explain(each, target, key), chunk=chunk
    )


def largest_change(
    image: Float[AnyArray, "h w c"],
    noise: Float[AnyArray, "samples h w c"],
    explain: Callable[[Array], Float[Array, "..."]],
    *,
    chunk: int | None = None,
) -> Float[Array, ""]:
    """max_i ||S(x + noise_i) - S(x)|| / ||S(x)|| for S = `explain`; see `max_sensitivity`.

    `chunk` images are explained at a time: by default one on CPU, where more gain little, and else
    all.
    """
    at_once = chunk or (1 if jax.default_backend() == "cpu" else len(noise) + 1)
    moved = jnp.asarray(image) + jnp.concatenate(
        [jnp.zeros((1, *image.shape)), jnp.asarray(noise)]
    )
    maps = map_over(explain, moved, at_once)
    first, *_ = maps
    norm = jnp.sqrt((first**2).sum())
    changes = jnp.sqrt(((maps[1:] - first) ** 2).reshape(len(noise), -1).sum(axis=1))
    return (changes / jnp.where(norm == 0, 1.0, norm)).max()


def _correlation(
    a: Float[Array, " n"], b: Float[Array, " n"], size: Float[Array, ""]
) -> Float[Array, ""]:
    """Pearson's r of sums a and changes b of an activation of magnitude `size`.

    0 where one of them does not vary.
    """
    a, b = a - a.mean(), b - b.mean()
    largest = jnp.abs(a).max(), jnp.abs(b).max()
    flat = (largest[0] == 0) | (largest[1] <= FLAT * size)
    # the squares of tiny sums would vanish in float32
    a, b = (x / jnp.where(flat, 1.0, y) for x, y in zip((a, b), largest))
    r = (a * b).sum() / jnp.sqrt(jnp.where(flat, 1.0, (a * a).sum() * (b * b).sum()))
    return jnp.where(flat, 0.0, r)


def _sensitivity_n(
    predict: Predict, sample: Sample, *, key: Key[Array, ""]
) -> Float[Array, ""]:
    return sensitivity_n(predict, sample.image, sample.attribution, sample.target, key=key)


def _infidelity(
    predict: Predict, sample: Sample, *, key: Key[Array, ""], scaled: bool
) -> Float[Array, ""]:
    noise = DEVIATION * jax.random.normal(key, (SAMPLES, *sample.saliency.shape))
    return infidelity(
        predict, sample.image, sample.attribution, sample.target, noise, scaled=scaled
    )


def _max_sensitivity(
    predict: Predict | None,
    sample: Sample,
    *,
    key: Key[Array, ""],
    explain: Callable[..., Float[Array, "h w"]],
) -> Float[Array, ""]:
    del predict
    return max_sensitivity(sample.image, sample.target, explain=explain, key=key)


_NOISE = (
    "of the attribution's prediction of what Gaussian noise of deviation 0.003, the same in all"
    " channels, does to the logit"
)
METRICS = (
    Metric(
        "sensitivity_n",
        "ancona",
        _sensitivity_n,
        "higher",
        description=(
            "Correlation of summed attribution and lost logit over random sets of pixels, mean over"
            " 10 sizes of set."
        ),
        reads="attribution",
    ),
    Metric(
        "infidelity",
        "captum",
        partial(_infidelity, scaled=False),
        "lower",
        description=f"Mean squared error {_NOISE}.",
        reads="attribution",
    ),
    Metric(
        "infidelity",
        "captum-scaled",
        partial(_infidelity, scaled=True),
        "lower",
        description=f"Mean squared error {_NOISE}, with the attribution scaled to fit each image.",
        reads="attribution",
    ),
    Metric(
        "max_sensitivity",
        "captum",
        _max_sensitivity,
        "lower",
        "explain",
        description="Largest relative change of the map over 10 images within 0.02 of the image.",
    ),
)
