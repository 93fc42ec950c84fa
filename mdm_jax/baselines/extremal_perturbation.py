"""Extremal perturbations (Fong, Patrick, Vedaldi, arXiv 1910.08485): the mask of a given area that
keeps the score highest.

Follows TorchRay's `extremal_perturbation`, step by step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax import fills, masks
from mdm_jax.baselines.meaningful_perturbation import scale_of
from mdm_jax.baselines.smooth_masks import Smoother, smoother
from mdm_jax.errors import InputError, find_renamed, unknown
from mdm_jax.execution.chunked import check_above_zero
from mdm_jax.execution.convolutions import canonical
from mdm_jax.problem import Problem, activation, begin, report
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict, Status, Trace

# Keep the score high through the mask; or low through the rest; or both, by their difference.
VARIANTS = ("preserve", "delete", "dual")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ExtremalPerturbation:
    """TorchRay's defaults. Lengths are in pixels for a short side of 224 and are scaled in
    proportion for other images."""

    areas: tuple[float, ...] = field(default=(0.1,), metadata=STATIC)
    """shares of the image that the masks keep, one mask each; their masks are added up"""
    variant: str = field(default="preserve", metadata=STATIC)
    """a name of `VARIANTS`"""
    steps: int = field(default=800, metadata=STATIC)
    """optimizer steps"""
    learning_rate: Any = 0.01
    """of gradient ascent (leaf)"""
    momentum: Any = 0.9
    """share of the last direction that is kept, the gradient having the rest (leaf)"""
    area_weight: Any = 300.0
    """weight of the area constraint at the first step (leaf)"""
    growth: Any = 1.0035
    """factor of this weight at each step: 16.4 over 800 (leaf)"""
    levels: int = field(default=8, metadata=STATIC)
    """images in the pyramid, from the most blurred to the image itself"""
    max_blur: float = field(default=20.0, metadata=STATIC)
    """Gaussian blur of the first, in pixels at 224"""
    cell: float = field(default=7.0, metadata=STATIC)
    """pixels at 224 between the mask's parameters, rounded to whole pixels"""
    sigma: float = field(default=21.0, metadata=STATIC)
    """radius of the mask's smooth kernel, in pixels at 224"""
    coldness: Any = 20.0
    """of the soft maximum that makes the mask (leaf)"""
    flip: bool = field(default=True, metadata=STATIC)
    """mirror the masked image at every second step, from the first on; turn it off where mirrored
    objects differ (digits)"""

    def check(self) -> None:
        """Raises InputError for an unknown variant, areas outside (0, 1) and counts that are too
        small."""
        if self.variant not in VARIANTS:
            raise unknown("variant", self.variant, VARIANTS)
        if not self.areas or not all(0 < area < 1 for area in self.areas):
            raise InputError(
                f"areas are {self.areas}: give shares of the image between 0 and 1, such as (0.05,"
                " 0.1)"
            )
        least_values = {"steps": 1, "levels": 2, "cell": 1, "max_blur": 1, "sigma": 1}
        for name, least in least_values.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}: give {least} or more")
        for name in ("learning_rate", "area_weight", "growth", "coldness"):
            check_above_zero(name, getattr(self, name))


class Ascent(NamedTuple):
    """What is carried from step to step."""

    parameters: Float[Array, "areas _h _w"]
    direction: Float[Array, "areas _h _w"]
    masks: Float[Array, "areas h w"]
    """as the last step saw them, which is what TorchRay returns"""
    energy: Float[Array, ""]
    reward: Float[Array, ""]


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: ExtremalPerturbation | None = None,
    trace: bool = False,
) -> Explanation:
    """S = sum_a m_a, m_a = argmax g(m_a (*) x) - lambda_t mean((sort(m_a) - r_a)^2).

    r_a = 0...0 1...1 with a fraction a of ones. m (*) x reads each pixel of a pyramid of blurred
    images at the level that the mask gives. Steps times areas evaluations with a gradient
    (twice that in the variant dual). A run takes all its steps by design, so its status is
    CONVERGED. Image [h, w, c] in [0, 1]. Raises InputError for a config that cannot be."""
    config = config or ExtremalPerturbation()
    config.check()
    pyramid = blur_pyramid(image, fills.neutral_color(predict, image.shape[-1]), config)
    problem = begin(predict, image, target, node=node, key=key, fill=pyramid[0])
    scale = scale_of(image)
    smooth = smoother(
        (image.shape[0], image.shape[1]),
        cell=config.cell * scale,
        sigma=config.sigma * scale,
    )
    last, records = ascend(
        predict, problem, pyramid, smooth, node=node, config=config, record=trace
    )
    finite = (
        jnp.isfinite(last.masks).all()
        & jnp.isfinite(last.energy)
        & jnp.isfinite(problem.reference).all()
    )
    mask = jnp.where(finite, last.masks, 0.0).sum(axis=0)
    saliency = masks.normalize(mask)
    views = 2 if config.variant == "dual" else 1
    info = report(
        predict,
        problem,
        saliency,
        node=node,
        status=jnp.where(finite, jnp.int32(Status.CONVERGED), jnp.int32(Status.NOT_FINITE)),
        evaluations=config.steps * len(config.areas) * views,
        objective=-last.energy,
        terms={"reward": last.reward, "area": last.reward - last.energy},
        steps=jnp.int32(config.steps),
    )
    return Explanation(saliency, tuple(last.parameters), info, records, mask)


def ascend(
    predict: Predict,
    problem: Problem,
    pyramid: Float[Array, "l h w c"],
    smooth: Smoother,
    *,
    node: str | Node,
    config: ExtremalPerturbation,
    record: bool,
) -> tuple[Ascent, Trace | None]:
    """All steps of gradient ascent with momentum from masks of ones, in `lax.scan`."""

    def objective(
        parameters: Float[Array, "areas _h _w"], step: Array
    ) -> tuple[Array, tuple[Array, Array]]:
        return energy(
            parameters, step, predict, problem, pyramid, smooth, node=node, config=config
        )

    gradient_of = canonical(jax.value_and_grad(objective, has_aux=True))

    def body(carried: Ascent, step: Array) -> tuple[Ascent, Any]:
        (value, (inner, reward)), gradient = gradient_of(carried.parameters, step)
        # torch's momentum with dampening: the first direction is the whole gradient
        mixed = config.momentum * carried.direction + (1.0 - config.momentum) * gradient
        direction = jnp.where(step == 0, gradient, mixed)
        parameters = jnp.clip(
            carried.parameters + config.learning_rate * direction, 0.0, 1.0
        )
        after = Ascent(parameters, direction, inner, value, reward)
        if not record:
            return after, None
        terms = {"reward": reward, "area": reward - value}
        return after, (tuple(carried.parameters), -value, terms)

    ones = jnp.ones((len(config.areas), *smooth.cells))
    no_masks = jnp.zeros((len(config.areas), *smooth.size))
    start = Ascent(ones, jnp.zeros_like(ones), no_masks, jnp.zeros(()), jnp.zeros(()))
    last, records = jax.lax.scan(body, start, jnp.arange(config.steps))
    return last, Trace(*records) if record else None


def energy(
    parameters: Float[Array, "areas _h _w"],
    step: Int[Any, ""] | int,
    predict: Predict,
    problem: Problem,
    pyramid: Float[Array, "l h w c"],
    smooth: Smoother,
    *,
    node: str | Node,
    config: ExtremalPerturbation,
) -> tuple[Float[Array, ""], tuple[Float[Array, "areas h w"], Float[Array, ""]]]:
    """What step t maximizes, sum_a g(m_a (*) x) - lambda_t error_a, with the masks m_a and the sum
    of the scores."""
    wide = jax.vmap(lambda each: smooth.render(each, config.coldness))(parameters)
    inner = jax.vmap(smooth.crop)(wide)
    kept, deleted = (inner, 1.0), (1.0 - inner, -1.0)
    seen, signs = zip(
        *{"preserve": [kept], "delete": [deleted], "dual": [kept, deleted]}[config.variant]
    )
    perturbed = jax.vmap(lambda mask: read_pyramid(pyramid, mask))(jnp.concatenate(seen))
    if config.flip:
        perturbed = jnp.where(step % 2 == 0, perturbed[:, :, ::-1], perturbed)
    outputs = predict(perturbed)
    scores = jax.vmap(lambda each: activation(node, each, problem.target).sum())(outputs)
    reward = (jnp.repeat(jnp.asarray(signs), len(config.areas)) * scores).sum()
    error = jnp.stack(
        [area_error(mask, area) for mask, area in zip(wide, config.areas)]
    ).sum()
    return reward - config.area_weight * config.growth**step * error, (inner, reward)


def area_error(mask: Float[Array, "_h _w"], area: float) -> Float[Array, ""]:
    """mean((sort(m) - r)^2): the largest values, a fraction `area`, should be 1, the others 0.

    Of the mask with its margin. Equal values at the threshold share the ones that remain; torch
    orders them arbitrarily, and a mask of ones would be drawn to one side of the image.
    """
    zeros = int(mask.size * (1 - area))
    threshold = jnp.sort(jax.lax.stop_gradient(mask).reshape(-1))[zeros]
    below, equal = (mask < threshold).sum(), (mask == threshold).sum()
    is_equal = mask == threshold
    target = jnp.where(is_equal, (below + equal - zeros) / equal, mask > threshold)
    return jnp.mean((mask - target) ** 2)


def blur_pyramid(
    image: Image, neutral: Float[Array, " c"], config: ExtremalPerturbation
) -> Float[Array, "l h w c"]:
    """The pyramid: level l is blurred by max_blur (1 - l / (levels - 1)) pixels (at 224).

    The last level is the image. Beyond the border lies the network's neutral color (zero where
    images are normalized), and kernels end at 4 sigma.
    """
    centered = image - neutral
    levels = []
    for fraction in np.linspace(1.0, 0.0, config.levels):
        sigma = fraction * config.max_blur * scale_of(image)
        rows, columns = (_blur_matrix(n, sigma) for n in image.shape[:2])
        blurred = jnp.einsum(
            "yh,hwc,xw->yxc", rows, centered, columns, precision=masks.HIGHEST
        )
        levels.append(neutral + blurred)
    return jnp.stack(levels)


def _blur_matrix(n: int, sigma: float) -> Float[np.ndarray, "n n"]:
    reach = np.arange(-int(np.ceil(4 * sigma)), int(np.ceil(4 * sigma)) + 1)
    distance = np.abs(np.arange(n)[:, None] - np.arange(n)[None, :])
    total = np.exp(-0.5 * (reach / max(sigma, 1e-6)) ** 2).sum()
    weights = np.exp(-0.5 * (distance / max(sigma, 1e-6)) ** 2) / total
    return np.where(distance <= reach[-1], weights, 0.0).astype(np.float32)


def read_pyramid(pyramid: Float[Array, "l h w c"], mask: Float[Array, "h w"]) -> Image:
    """Every pixel at level mask * (levels - 1), linearly between the two nearest levels."""
    level = mask * (len(pyramid) - 1)
    below = jnp.floor(level)
    fraction = (level - below)[..., None]
    index = below.astype(jnp.int32)[None, :, :, None]
    lower, upper = (
        jnp.take_along_axis(pyramid, jnp.minimum(index + step, len(pyramid) - 1), axis=0)[0]
        for step in (0, 1)
    )
    return (1.0 - fraction) * lower + fraction * upper


METHOD = Method("extremal_perturbation", explain, ExtremalPerturbation, "logit")
RENAMED = {"ExtremalPerturbationConfig": "ExtremalPerturbation"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
