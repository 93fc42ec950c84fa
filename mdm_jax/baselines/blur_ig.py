"""Blur integrated gradients (Xu, Venugopalan, Sundararajan, arXiv 2004.03383): from a blurred image
to the image, along the scale of the blur."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax import fills, masks
from mdm_jax.baselines.attribution import check_reduction, make_explanation
from mdm_jax.baselines.gradient import input_gradient
from mdm_jax.baselines.meaningful_perturbation import scale_of
from mdm_jax.execution import chunked
from mdm_jax.problem import begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict

# Pixels: the difference of blurs in place of the derivative.
GRADIENT_STEP = 0.01


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BlurIG:
    """The authors' code (PAIR saliency)."""

    steps: int = field(default=100, metadata=STATIC)
    """gradients on the way"""
    max_sigma: float = field(default=50.0, metadata=STATIC)
    """Gaussian blur that the way begins at, in pixels at 224"""
    reduction: str = field(default="absolute", metadata=STATIC)
    """a name of `attribution.REDUCTIONS`; the authors show the sum of magnitudes over channels"""
    chunk: int = field(default=chunked.CHUNK, metadata=STATIC)
    """gradients evaluated at a time"""

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown reduction."""
        chunked.check_count("steps", self.steps)
        chunked.check_count("chunk", self.chunk)
        chunked.check_above_zero("max_sigma", self.max_sigma)
        check_reduction(self.reduction)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: BlurIG | None = None,
    trace: bool = False,
) -> Explanation:
    """S = sum_c |-integral_0^max d g / d x_c (x_s) d x_s,c / d s  d s|, x_s the image under a blur
    of s pixels.

    The left Riemann sum of `steps` sigmas, with differences over 0.01 pixel for derivatives. Beyond
    the border lies the network's zero. Image [h, w, c] in [0, 1]. `steps` evaluations with a
    gradient. Raises InputError for a config that is not valid."""
    config = config or BlurIG()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    neutral = fills.neutral_color(predict, image.shape[-1])
    largest = config.max_sigma * scale_of(image)
    sigmas = np.arange(config.steps) * largest / config.steps
    kernels, changes = kernels_of(sigmas, max(image.shape[:2]))

    def part(step: tuple[Array, Array]) -> Array:
        kernel, change = step
        centered = image - neutral
        # the difference of two blurs, in parts that do not cancel: (K + hD) x (K + hD)' - K x K'
        wider = kernel + GRADIENT_STEP * change
        grown = blur(centered, change, wider) + blur(centered, kernel, change)
        x = neutral + blur(centered, kernel, kernel)
        return grown * input_gradient(predict, x, problem.target, node=node)

    steps = (jnp.asarray(kernels), jnp.asarray(changes))
    summed = chunked.sum_over(part, steps, config.chunk)
    return make_explanation(
        predict,
        problem,
        -summed * largest / config.steps,
        node=node,
        reduction=config.reduction,
        evaluations=config.steps,
    )


def kernels_of(
    sigmas: Float[np.ndarray, " n"], reach: int
) -> tuple[Float[np.ndarray, "n reach"], Float[np.ndarray, "n reach"]]:
    """A Gaussian's weights at 0 ... reach - 1 pixels, and their change per pixel of sigma."""
    now, later = (
        np.stack([_gaussian(sigma, reach) for sigma in values])
        for values in (sigmas, sigmas + GRADIENT_STEP)
    )
    change = (later - now) / GRADIENT_STEP
    return now.astype(np.float32), change.astype(np.float32)


def _gaussian(sigma: float, reach: int) -> Float[np.ndarray, " reach"]:
    """Weights that end at 4 sigma, as SciPy's do, and add up to one over both sides."""
    end = int(4.0 * sigma + 0.5)
    distance = np.arange(max(reach, end + 1))
    weights = np.exp(-0.5 * (distance / max(sigma, 1e-12)) ** 2) * (distance <= end)
    return (weights / (2.0 * weights.sum() - weights[0]))[:reach]


def blur(
    image: Image, down: Float[Array, " reach"], across: Float[Array, " reach"]
) -> Image:
    """The image under a kernel down and another across, zero beyond the border."""
    rows, columns = (
        kernel[np.abs(np.arange(length)[:, None] - np.arange(length)[None, :])]
        for kernel, length in zip((down, across), image.shape[:2])
    )
    return jnp.einsum("yh,hwc,xw->yxc", rows, image, columns, precision=masks.HIGHEST)


METHOD = Method("blur_ig", explain, BlurIG, "logit", is_pixelwise=True)
