"""How the field of salient objects compares a map with an exact mask: F-measure, error, weighted F.

The map S in [0, 1] is taken as it is given (that field stretches its own to [0, 1] first, which
leaves a map from 0 to 1 the same); G is the mask.

F-measure (Achanta et al., CVPR 2009), of the pixels S >= t / 255 at each t = 0 .. 255, with
precision P and recall R and beta^2 = 0.3; 0 where no pixel of the object is among them:

    F(t) = (1 + beta^2) P R / (beta^2 P + R)

- maximal: the largest mean over images, one t for the whole set
- mean: over t, then over images
- adaptive: at the threshold min(2 mean(S), 1)

Mean absolute error (Perazzi et al., CVPR 2012): mean |S - G|.

Weighted F-measure (Margolin et al., CVPR 2014, equations 10 to 20): errors E = |S - G| are smoothed
on the object, so that scattered ones weigh less, and weighted off it by the distance d to it,

    E'(i) = min(E, (E_nearest * K))(i) on the object, E(i) elsewhere
    B(i)  = 1 on the object, 2 - exp(ln(0.5) / 5 d(i)) elsewhere

where K is a Gaussian of 7x7 pixels and deviation 5, zeros beyond the border, and E_nearest has off
the object the error of the nearest pixel of it. With w = E' B, R = 1 - mean_G(w), TP = |G| -
sum_G(w) and FP = sum_(not G)(w): P = TP / (TP + FP), F = 2 P R / (P + R).

A map with a NaN gives NaN.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import jax.scipy.signal
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.masks import HIGHEST
from mdm_jax.metrics.metric import Metric, Sample
from mdm_jax.metrics.perturbed import unless_nan
from mdm_jax.types import AnyArray

BETA_SQUARED = 0.3
LEVELS = 256


def f_curve(
    saliency: Float[Array, "h w"], mask: Bool[Array, "h w"]
) -> Float[Array, " levels"]:
    """F(t) of the pixels of at least t / 255, for t = 0 .. 255."""
    # a value that was k / 255 must not fall below k by rounding
    level = jnp.floor(saliency * (LEVELS - 1) + 1e-4)
    level = jnp.clip(level, 0, LEVELS - 1).astype(jnp.int32).ravel()
    counts = jnp.zeros((2, LEVELS)).at[mask.ravel().astype(jnp.int32), level].add(1.0)
    off, on = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    return unless_nan(saliency, f_measure(on, on + off, mask.sum()))


def adaptive_f(saliency: Float[Array, "h w"], mask: Bool[Array, "h w"]) -> Float[Array, ""]:
    """F of the pixels of at least twice the map's mean, or of at least 1."""
    chosen = saliency >= jnp.minimum(2 * saliency.mean(), 1.0)
    f = f_measure((chosen & mask).sum(), chosen.sum(), mask.sum())
    return unless_nan(saliency, f)


def f_measure(
    true: Float[Array, "*n"] | Int[Array, "*n"],
    chosen: Float[Array, "*n"] | Int[Array, "*n"],
    wanted: Int[Array, ""],
    beta_squared: float = BETA_SQUARED,
) -> Float[Array, "*n"]:
    """(1 + beta^2) P R / (beta^2 P + R) of pixel counts: true ones among the chosen, and wanted.

    It is (1 + beta^2) true / (beta^2 wanted + chosen), which is 0 where no pixel is chosen.
    """
    return (1 + beta_squared) * true / (beta_squared * wanted + chosen)


def absolute_error(
    saliency: Float[Array, "h w"], mask: Bool[Array, "h w"]
) -> Float[Array, ""]:
    """mean |S - G|, in [0, 1]."""
    return jnp.abs(saliency - mask).mean()


def weighted_f(
    saliency: Float[Array, "h w"],
    mask: Bool[Array, "h w"],
    nearest: Int[AnyArray, "h w"],
) -> Float[Array, ""]:
    """Margolin's weighted F-measure, in [0, 1]; `nearest` is what `nearest_object` returns."""
    rows, columns = jnp.divmod(jnp.asarray(nearest), mask.shape[1])
    down = rows - jnp.arange(mask.shape[0])[:, None]
    right = columns - jnp.arange(mask.shape[1])[None, :]
    distance = jnp.sqrt((down**2 + right**2).astype(jnp.float32))
    error = jnp.abs(saliency - mask)
    smooth = jax.scipy.signal.convolve(
        error[rows, columns], jnp.asarray(_gaussian()), mode="same", precision=HIGHEST
    )
    error = jnp.where(mask, jnp.minimum(error, smooth), error)
    weight = jnp.where(mask, 1.0, 2 - jnp.exp(np.log(0.5) / 5 * distance))
    weighted = error * weight
    lost = (weighted * mask).sum()
    wrong = (weighted * ~mask).sum()
    size = mask.sum()
    true = size - lost
    recall = 1 - lost / size
    precision = true / jnp.where(true + wrong > 0, true + wrong, 1.0)
    total = precision + recall
    return 2 * precision * recall / jnp.where(total > 0, total, 1.0)


def nearest_object(mask: Bool[AnyArray, "h w"]) -> Int[np.ndarray, "h w"]:
    """The number, row by row, of each pixel's nearest pixel of the object; on the host."""
    from scipy.ndimage import distance_transform_edt

    found = distance_transform_edt(
        ~np.asarray(mask), return_distances=False, return_indices=True
    )
    rows, columns = np.asarray(found, np.int32)
    return rows * np.int32(mask.shape[1]) + columns


def largest_mean(curves: Any) -> float:
    """The largest over levels of the mean over images, of curves [n, levels]."""
    return float(np.asarray(curves, np.float64).mean(axis=0).max())


def _gaussian(size: int = 7, sigma: float = 5.0) -> np.ndarray:
    """The kernel [size, size], of sum 1."""
    offsets = np.arange(size) - size // 2
    line = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel = np.outer(line, line)
    return (kernel / kernel.sum()).astype(np.float32)


def _f_curve(predict: Any, sample: Sample, *, key: Any) -> Array:
    return f_curve(jnp.asarray(sample.saliency), jnp.asarray(sample.mask))


def _f_mean(predict: Any, sample: Sample, *, key: Any) -> Array:
    return f_curve(jnp.asarray(sample.saliency), jnp.asarray(sample.mask)).mean()


def _f_adaptive(predict: Any, sample: Sample, *, key: Any) -> Array:
    return adaptive_f(jnp.asarray(sample.saliency), jnp.asarray(sample.mask))


def _error(predict: Any, sample: Sample, *, key: Any) -> Array:
    return absolute_error(jnp.asarray(sample.saliency), jnp.asarray(sample.mask))


def _weighted_f(predict: Any, sample: Sample, *, key: Any) -> Array:
    return weighted_f(
        jnp.asarray(sample.saliency), jnp.asarray(sample.mask), sample.prepared
    )


def _nearest(sample: Sample) -> np.ndarray:
    return nearest_object(np.asarray(sample.mask))


METRICS = (
    Metric(
        "f_measure",
        "max",
        _f_curve,
        "higher",
        "mask",
        largest_mean,
        "F-measure (beta^2 = 0.3) of the pixels above the best of 256 thresholds, one for the set.",
        reduces_mean=True,
    ),
    Metric(
        "f_measure",
        "mean",
        _f_mean,
        "higher",
        "mask",
        description="F-measure (beta^2 = 0.3), mean over 256 thresholds.",
    ),
    Metric(
        "f_measure",
        "adaptive",
        _f_adaptive,
        "higher",
        "mask",
        description="F-measure (beta^2 = 0.3) of the pixels of at least twice the map's mean.",
    ),
    Metric(
        "weighted_f",
        "margolin",
        _weighted_f,
        "higher",
        "mask",
        description="F-measure with errors weighted by their place, as Margolin et al. have it.",
        prepare=_nearest,
    ),
    Metric(
        "mae",
        "mask",
        _error,
        "lower",
        "mask",
        description="Mean absolute difference of the map and the object's mask.",
    ),
)
