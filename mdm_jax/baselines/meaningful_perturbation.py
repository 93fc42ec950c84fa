"""Meaningful perturbation (Fong, Vedaldi, arXiv 1704.03296).

The smallest smooth region whose blurring destroys the score.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from mdm_jax import fills, masks, solver
from mdm_jax.errors import InputError, find_renamed, unknown
from mdm_jax.execution.chunked import check_above_zero
from mdm_jax.execution.convolutions import canonical
from mdm_jax.images import gaussian_blur
from mdm_jax.problem import Problem, activation, begin, blend, report
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict, Trace

# Pixels of the short side that every length below is meant for; they are scaled in proportion for
# other images.
REFERENCE_SIDE = 224

# Pixels: the circles that are tried as a start.
RADII = tuple(range(0, 175, 5))
STARTS = ("circle", "ones")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MeaningfulPerturbation:
    """The defaults of the authors' Caffe code, whose sums over the 28x28 mask the weights belong
    to.

    (The values 500 steps, 0.01 and 0.2 that circulate are those of a PyTorch port that takes
    means.)"""

    steps: int = field(default=300, metadata=STATIC)
    """optimizer steps"""
    learning_rate: Any = 0.1
    """of Adam (leaf)"""
    area_weight: Any = 1e-4
    """weight of sum |1 - m| (leaf)"""
    smoothness_weight: Any = 1e-2
    """weight of the total variation (leaf)"""
    smoothness_power: Any = 3.0
    """exponent of the gradient's magnitude in the total variation (leaf)"""
    cells: int = field(default=28, metadata=STATIC)
    """mask cells along the image's short side (one for 8 pixels of 224)"""
    mask_blur: Any = 5.0
    """Gaussian blur of the rendered mask, in pixels at 224 (leaf)"""
    fill_blur: Any = 10.0
    """Gaussian blur of the image that fills the deleted region, in pixels at 224 (leaf)"""
    jitter: int = field(default=4, metadata=STATIC)
    """pixels at 224 below which the image is shifted under its mask at every step"""
    start: str = field(default="circle", metadata=STATIC)
    """circle: the smallest blurred circle in the center whose deletion leaves less than `threshold`
    of the score; ones: nothing deleted"""
    threshold: Any = 0.01
    """share of the score's fall that may be left (leaf)"""

    def check(self) -> None:
        """Raises InputError for an unknown start, counts below one and numbers that are not above
        zero."""
        if self.start not in STARTS:
            raise unknown("start", self.start, STARTS)
        for name in ("steps", "cells"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}: give a whole number from 1"
                )
        if self.jitter < 0:
            raise InputError(f"jitter is {self.jitter}: give 0 or more pixels")
        for name in (
            "learning_rate",
            "smoothness_power",
            "mask_blur",
            "fill_blur",
            "threshold",
        ):
            check_above_zero(name, getattr(self, name))


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: MeaningfulPerturbation | None = None,
    trace: bool = False,
) -> Explanation:
    """S = 1 - m, m = argmin g(M x + (1 - M) blur(x)) + l1 sum |1 - m| + tv sum |grad m|^3.

    m in [0, 1] (equation 3). M is m [28, 28] at the image's size by nearest neighbors, blurred;
    each step shifts the image under it. One evaluation with a gradient a step; the start costs a
    forward evaluation for each of 35 circles. The attribution is 1 - M, the deleted fraction of
    each pixel. Image [h, w, c] in [0, 1]. Raises InputError for a config that is not valid.
    """
    config = config or MeaningfulPerturbation()
    config.check()
    fill = fills.blur(config.fill_blur * scale_of(image))
    problem = begin(predict, image, target, node=node, key=key, fill=fill)
    mask, forwards = first_mask(predict, problem, node=node, config=config)
    jitter = round(config.jitter * scale_of(image))

    def objective(
        mask: Float[Array, "_h _w"], key: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Array, dict[str, Array]]:
        del step
        shifted = _shift(image, key, jitter)
        background = _shift(problem.background, key, jitter)
        batched = predict(
            blend(render_mask(mask, image, config)[None], shifted, background)
        )
        outputs = jax.tree.map(lambda leaf: leaf[0], batched)
        terms = {
            "score": activation(node, outputs, problem.target).sum(),
            "area": jnp.abs(1.0 - mask).sum(),
            "smoothness": total_variation(mask, config.smoothness_power),
        }
        weights = {
            "score": 1.0,
            "area": config.area_weight,
            "smoothness": config.smoothness_weight,
        }
        return sum(
            (weights[name] * term for name, term in terms.items()), jnp.zeros(())
        ), terms

    descent = solver.make(
        objective,
        optax.adam(config.learning_rate),
        project=lambda mask: jnp.clip(mask, 0.0, 1.0),
    )
    state, records = solver.run_fixed(
        descent, mask, steps=config.steps, key=problem.key, record=trace
    )
    deleted = 1.0 - render_mask(state.parameters, image, config)
    saliency = masks.normalize(deleted)
    info = report(
        predict,
        problem,
        saliency,
        node=node,
        status=state.status,
        evaluations=state.evaluations,
        forwards=forwards,
        objective=state.last.objective,
        terms=state.last.terms,
        steps=state.steps,
    )
    trajectory = None
    if records is not None:
        trajectory = Trace((1.0 - records.parameters,), records.objective, records.terms)
    return Explanation(saliency, (1.0 - state.parameters,), info, trajectory, deleted)


def scale_of(image: Image) -> float:
    """The image's short side in units of 224 pixels."""
    return min(image.shape[0], image.shape[1]) / REFERENCE_SIDE


def first_mask(
    predict: Predict, problem: Problem, *, node: str | Node, config: MeaningfulPerturbation
) -> tuple[Float[Array, "_h _w"], int]:
    """The mask to begin with, and the forward evaluations that it cost.

    Of all circles the first for which (g_r - g_last) / (g_0 - g_last) < threshold, else the
    largest."""
    image, background, target = problem.image, problem.background, problem.target
    cells = [round(config.cells * side / min(image.shape[:2])) for side in image.shape[:2]]
    if config.start == "ones":
        return jnp.ones(cells), 0
    circles = 1.0 - _circles((image.shape[0], image.shape[1]), scale_of(image))

    def score(circle: Float[Array, "h w"]) -> Array:
        batched = predict(blend(circle[None], image, background))
        outputs = jax.tree.map(lambda leaf: leaf[0], batched)
        return activation(node, outputs, target).sum()

    scores = jax.lax.map(canonical(score), jnp.asarray(circles), batch_size=5)
    remaining = (scores - scores[-1]) / (scores[0] - scores[-1])
    enough = remaining < config.threshold
    chosen = jnp.where(enough.any(), jnp.argmax(enough), len(RADII) - 1)
    rows, columns = (
        ((np.arange(n) + 0.5) * side / n).astype(int)
        for n, side in zip(cells, image.shape[:2])
    )
    return jnp.asarray(circles[:, rows][:, :, columns])[chosen], len(RADII)


def _circles(size: tuple[int, int], scale: float) -> Float[np.ndarray, "n h w"]:
    """Circles around the center, of every radius, blurred by 10 pixels (at 224)."""
    y, x = (np.arange(side) - side // 2 for side in size)
    distance = np.hypot(y[:, None], x[None, :])
    drawn = np.stack([distance <= radius * scale for radius in RADII], axis=-1).astype(
        np.float32
    )
    with jax.ensure_compile_time_eval():
        blurred = gaussian_blur(jnp.asarray(drawn), 10.0 * scale)
    return np.moveaxis(np.asarray(blurred), -1, 0)


def render_mask(
    mask: Float[Array, "_h _w"], image: Image, config: MeaningfulPerturbation
) -> Float[Array, "h w"]:
    """The mask at the image's size: nearest neighbors, then blurred."""
    rows, columns = (_nearest(n, side) for n, side in zip(mask.shape, image.shape))
    blocks = jnp.matmul(rows, mask, precision=masks.HIGHEST)
    blocks = jnp.matmul(blocks, columns.T, precision=masks.HIGHEST)
    return gaussian_blur(blocks[..., None], config.mask_blur * scale_of(image))[..., 0]


def _nearest(cells: int, pixels: int) -> Float[np.ndarray, "pixels cells"]:
    return np.eye(cells, dtype=np.float32)[np.arange(pixels) * cells // pixels]


def total_variation(mask: Float[Array, "_h _w"], power: Any) -> Float[Array, ""]:
    """sum_ij ((m_i+1,j - m_ij)^2 + (m_i,j+1 - m_ij)^2)^(power / 2), zero beyond the border."""
    down = jnp.pad(jnp.diff(mask, axis=0), ((0, 1), (0, 0)))
    right = jnp.pad(jnp.diff(mask, axis=1), ((0, 0), (0, 1)))
    square = down**2 + right**2
    # the inner `where` keeps the gradient of a power of zero from becoming NaN
    return jnp.where(
        square > 0, jnp.where(square > 0, square, 1.0) ** (power / 2), 0.0
    ).sum()


def _shift(image: Image, key: Key[Array, ""], jitter: int) -> Image:
    """The image moved up and left by 0 to `jitter` - 1 pixels, its edge held."""
    if jitter < 2:
        return image
    padded = jnp.pad(image, ((0, jitter), (0, jitter), (0, 0)), mode="edge")
    down, right = jax.random.randint(key, (2,), 0, jitter)
    return jax.lax.dynamic_slice(padded, (down, right, 0), image.shape)


METHOD = Method("meaningful_perturbation", explain, MeaningfulPerturbation, "probability")
RENAMED = {"MeaningfulPerturbationConfig": "MeaningfulPerturbation"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
