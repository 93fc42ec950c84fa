"""SmoothGrad (Smilkov et al., arXiv 1706.03825): the mean gradient of noisy copies of the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.attribution import check_reduction, make_explanation
from mdm_jax.baselines.gradient import input_gradient
from mdm_jax.errors import find_renamed
from mdm_jax.execution import chunked
from mdm_jax.problem import begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SmoothGrad:
    """The paper: 50 copies, noise of 10 to 20 % of the image's range; its authors' code (PAIR
    saliency): 15 %, 25 copies."""

    num_samples: int = field(default=50, metadata=STATIC)
    """noisy copies"""
    noise_level: Any = 0.15
    """standard deviation of the noise, as a share of max(x) - min(x) (leaf)"""
    squared: bool = field(default=False, metadata=STATIC)
    """average the squared gradients (PAIR's default, `magnitude`); the paper averages the
    gradients"""
    reduction: str = field(default="absolute", metadata=STATIC)
    """a name of `attribution.REDUCTIONS`; the authors' code adds up the magnitudes over channels,
    after averaging"""
    chunk: int = field(default=chunked.CHUNK, metadata=STATIC)
    """copies evaluated at a time"""

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown reduction."""
        chunked.check_count("num_samples", self.num_samples)
        chunked.check_count("chunk", self.chunk)
        chunked.check_above_zero("noise_level", self.noise_level)
        check_reduction(self.reduction)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: SmoothGrad | None = None,
    trace: bool = False,
) -> Explanation:
    """S = sum_c |mean_i d g / d x_c (x + e_i)|, e_i ~ N(0, sigma^2).

    sigma = noise * (max x - min x). Image [h, w, c] in [0, 1]; as many evaluations with a gradient
    as samples. The noise is added to the image, not to the normalized input as in the authors'
    code, which is the same where all channels are normalized by one deviation."""
    config = config or SmoothGrad()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)

    def draw(sample: Key[Array, ""]) -> Image:
        return noisy(image, config.noise_level, key=sample)

    inputs = chunked.keys(problem.key, config.num_samples)
    options: dict[str, Any] = {
        "node": node,
        "squared": config.squared,
        "chunk": config.chunk,
    }
    attribution = mean_gradient(predict, draw, inputs, problem.target, **options)
    return make_explanation(
        predict,
        problem,
        attribution,
        node=node,
        reduction=config.reduction,
        evaluations=config.num_samples,
    )


def noisy(image: Image, noise: Scalar, *, key: Key[Array, ""]) -> Image:
    """x + e, e ~ N(0, (noise * (max x - min x))^2), not clipped."""
    sigma = noise * (image.max() - image.min())
    return image + sigma * jax.random.normal(key, image.shape, image.dtype)


def mean_gradient(
    predict: Predict,
    draw: Callable[[Any], Image],
    inputs: Any,
    target: Int[Array, ""],
    *,
    node: str | Node,
    squared: bool = False,
    chunk: int = chunked.CHUNK,
) -> Float[Array, "h w c"]:
    """mean_i d g / d x at draw(inputs_i), or the mean of its squares."""

    def gradient(each: Any) -> Array:
        gradient = input_gradient(predict, draw(each), target, node=node)
        return jnp.square(gradient) if squared else gradient

    return chunked.mean_over(gradient, inputs, chunk)


METHOD = Method("smoothgrad", explain, SmoothGrad, "logit", is_pixelwise=True)
RENAMED = {"SmoothGradConfig": "SmoothGrad"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
