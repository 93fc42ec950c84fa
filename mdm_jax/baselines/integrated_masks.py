"""What I-GOS and iGOS++ share: masks moved along integrated gradients of the score.

    L(m) = w sum_v s_v (1 / K) sum_k g(B_v(M_v k / K) + e_k) + R(m),    k = 1 ... K

View v blurs (deletion, s = 1) or shows (insertion, s = -1) what its mask M_v in [0, 1] leaves out:
B(M) = M x + (1 - M) b for a deletion, M b + (1 - M) x for an insertion. Its mask is a product of
rendered mask vectors, b the blurred image, e noise. The sum over k is the integrated gradient's:
the masks are followed down to zero, so that the gradient sees past the point where g is flat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from mdm_jax import masks
from mdm_jax.baselines.integrated_mask_steps import OPTIMIZERS, Loss, descend
from mdm_jax.baselines.meaningful_perturbation import scale_of
from mdm_jax.errors import unknown
from mdm_jax.execution import chunked
from mdm_jax.problem import Problem, activation, begin, blend, report
from mdm_jax.types import STATIC, Explanation, Image, Node, Predict, Status, Trace

Vectors = tuple[Float[Array, "_h _w"], ...]

# The standard deviation of a channel where the network does not tell one: about ImageNet's.
CHANNEL_DEVIATION = 0.25

# The line search starts where the authors' does. Nesterov's steps, at that rate, end in a
# checkerboard on real networks: the total variation curves too much for it. By that curvature a
# rate below about 4 is stable with 28 cells and a weight of 20.
DEFAULT_RATES = {"line_search": 1000.0, "nesterov": 2.0}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class IntegratedMasks:
    """The settings of both methods."""

    iterations: int = field(default=20, metadata=STATIC)
    """steps of the masks"""
    steps: int = field(default=20, metadata=STATIC)
    """points of the integrated gradient, for every view and iteration"""
    cells: int = field(default=28, metadata=STATIC)
    """mask cells along the image's short side, at most its pixels"""
    area_weight: Any = 1.0
    """weight of mean |1 - m| (the authors': 10 for masks of 224 cells) (leaf)"""
    smoothness_weight: Any = 20.0
    """weight of the total variation (leaf)"""
    optimizer: str = field(default="line_search", metadata=STATIC)
    """line_search: the papers' backtracking; nesterov: accelerated steps of a fixed rate, which
    cost no forwards"""
    learning_rate: Any = None
    """the first rate that a line search tries, or Nesterov's; None: `DEFAULT_RATES` (leaf)"""
    noise_level: Any = 0.2
    """standard deviation of the noise, in units of the network's normalized input (leaf)"""
    blur_kernel: int = field(default=51, metadata=STATIC)
    """side of the Gaussian kernel that blurs the image, in pixels at 224; its sigma is one less"""
    chunk: int = field(default=chunked.CHUNK, metadata=STATIC)
    """images evaluated at a time"""

    @property
    def rate(self) -> Any:
        """The learning rate that is used."""
        default = DEFAULT_RATES[self.optimizer]
        return default if self.learning_rate is None else self.learning_rate

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown optimizer."""
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("iterations", "steps", "cells", "chunk"):
            chunked.check_count(name, getattr(self, name))
        chunked.check_count("blur_kernel", self.blur_kernel, least=3)
        numbers = ["area_weight", "smoothness_weight", "noise_level"]
        if self.learning_rate is not None:
            numbers.append("learning_rate")
        for name in numbers:
            chunked.check_above_zero(name, getattr(self, name))


class Views(NamedTuple):
    """What the network is shown at every point of the integrated gradient."""

    uses: Bool[np.ndarray, "v k"]
    """which of the mask vectors a view's mask is the product of"""
    inserts: Bool[np.ndarray, " v"]
    """whether the view is an insertion"""
    weight: float
    """w, the factor of the views' gradient; a line search compares the sum with a factor of one,
    as the authors' code does"""

    @property
    def signs(self) -> Float[np.ndarray, " v"]:
        """1 where the score should fall, -1 where it should rise."""
        return np.where(self.inserts, -1.0, 1.0).astype(np.float32)


# A penalty R(m) of the mask vectors, given the image in units of the network's normalized input.
Penalty = Callable[[Vectors, Image, Any], Float[Array, ""]]

# Noise [h, w, c] that is added to the image of sample i (view after view) in iteration t.
Noise = Callable[[Int[Array, ""], Int[Array, ""]], Image]


def explain_by_masks(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None,
    *,
    node: str | Node,
    key: Key[Array, ""],
    config: IntegratedMasks,
    trace: bool,
    method: tuple[Views, Penalty],
) -> Explanation:
    """S = 1 - render(prod_k m_k), the mask vectors m_k [cells, cells] that `descend` finds.

    They start at one: nothing is left out. Image [h, w, c] in [0, 1]. `iterations` x views x
    `steps` evaluations with a gradient; a line search adds views x `steps` forwards for every rate
    that it tries. All iterations are taken by design, so the status is CONVERGED."""
    config.check()
    views, _ = method
    size = (image.shape[0], image.shape[1])
    side = round(config.blur_kernel * scale_of(image))
    background = blur(image, max(3, side // 2 * 2 + 1))
    problem = begin(predict, image, target, node=node, key=key, fill=background)
    deviation = channel_deviation(predict, image.shape[-1])

    def noise(iteration: Int[Array, ""], sample: Int[Array, ""]) -> Image:
        own = jax.random.fold_in(jax.random.fold_in(problem.key, iteration), sample)
        drawn = jax.random.normal(own, image.shape, image.dtype)
        return config.noise_level * deviation * drawn

    loss = make_loss(predict, problem, noise, node=node, config=config, method=method)
    count = min(config.cells, *size)
    cells = tuple(round(count * length / min(size)) for length in size)
    ones = jnp.ones(cells)
    last, records = descend(
        loss,
        (ones,) * views.uses.shape[1],
        iterations=config.iterations,
        optimizer=config.optimizer,
        rate=config.rate,
        record=trace,
    )
    finite = jnp.isfinite(jnp.stack([*last.vectors])).all() & jnp.isfinite(last.value)
    kept = masks.render(jnp.stack(last.vectors).prod(axis=0), size)
    deleted = jnp.where(finite, 1.0 - kept, 0.0)
    saliency = masks.normalize(deleted)
    shown = views.uses.shape[0] * config.steps
    info = report(
        predict,
        problem,
        saliency,
        node=node,
        status=jnp.where(finite, jnp.int32(Status.CONVERGED), jnp.int32(Status.NOT_FINITE)),
        evaluations=config.iterations * shown,
        forwards=last.trials * shown,
        objective=last.value,
        terms=last.terms,
        steps=jnp.int32(config.iterations),
    )
    trajectory = None
    if records is not None:
        vectors = tuple(1.0 - each for each in records.vectors)
        trajectory = Trace(vectors, records.value, records.terms)
    vectors = tuple(jnp.where(finite, 1.0 - each, 0.0) for each in last.vectors)
    return Explanation(saliency, vectors, info, trajectory, deleted)


def make_loss(
    predict: Predict,
    problem: Problem,
    noise: Noise,
    *,
    node: str | Node,
    config: IntegratedMasks,
    method: tuple[Views, Penalty],
) -> Loss:
    """The loss of the mask vectors: with its gradient, and alone as a line search compares it."""
    views, penalty = method
    image, background = problem.image, problem.background
    size = (image.shape[0], image.shape[1])
    uses, inserts = jnp.asarray(views.uses), jnp.asarray(views.inserts)
    normalized = image / channel_deviation(predict, image.shape[-1])
    numbers = jnp.arange(len(inserts) * config.steps)

    def score(
        vectors: Vectors, number: Int[Array, ""], iteration: Int[Array, ""]
    ) -> tuple[Array, Array]:
        """The sample's share of the loss, and its score in the place of its view."""
        view, point = number // config.steps, number % config.steps + 1
        rendered = jnp.stack([masks.render(each, size) for each in vectors])
        mask = jnp.where(uses[view][:, None, None], rendered, 1.0).prod(axis=0)
        front = jnp.where(inserts[view], background, image)
        back = jnp.where(inserts[view], image, background)
        shown = blend((mask * point / config.steps)[None], front, back)
        outputs = predict(shown + noise(iteration, number))
        first = jax.tree.map(lambda leaf: leaf[0], outputs)
        share = activation(node, first, problem.target).sum() / config.steps
        in_place = jnp.where(jnp.arange(len(inserts)) == view, share, 0.0)
        return (jnp.asarray(views.signs) * in_place).sum(), in_place

    def with_gradient(
        vectors: Vectors, iteration: Int[Array, ""]
    ) -> tuple[Array, dict[str, Array], Vectors]:
        def one(number: Int[Array, ""]) -> tuple[Any, Vectors]:
            return jax.value_and_grad(score, has_aux=True)(vectors, number, iteration)

        (shared, scores), towards = chunked.sum_over(one, numbers, config.chunk)
        cost, uphill = jax.value_and_grad(penalty)(vectors, normalized, config)
        gradient = jax.tree.map(lambda a, b: views.weight * a + b, towards, uphill)
        terms = {"score": shared, "penalty": cost}
        terms |= {f"view_{i}": scores[i] for i in range(len(inserts))}
        return shared + cost, terms, gradient

    def alone(vectors: Vectors, iteration: Int[Array, ""]) -> Array:
        def one(number: Int[Array, ""]) -> Array:
            return score(vectors, number, iteration)[0]

        shared = chunked.sum_over(one, numbers, config.chunk)
        return shared + penalty(vectors, normalized, config)

    return Loss(with_gradient, alone)


def channel_deviation(predict: Any, channels: int) -> Float[Array, " c"]:
    """What one unit of the network's normalized input is in [0, 1], for each channel."""
    own = getattr(getattr(predict, "preprocessing", None), "std", CHANNEL_DEVIATION)
    return jnp.broadcast_to(jnp.asarray(own, jnp.float32), (channels,))


def left_out(mask: Float[Array, "_h _w"]) -> Float[Array, ""]:
    """mean |1 - m|, whose gradient at m = 1 is zero, as torch's.

    JAX's would be one: it would hold cells at one until the score outweighs it."""
    return jnp.where(mask == 1.0, 0.0, jnp.abs(1.0 - mask)).mean()


def roughness(mask: Float[Array, "_h _w"]) -> Float[Array, ""]:
    """mean (m_i+1,j - m_ij)^2 + mean (m_i,j+1 - m_ij)^2, total variation of power 2."""
    down, right = jnp.diff(mask, axis=0), jnp.diff(mask, axis=1)
    return _mean(jnp.square(down)) + _mean(jnp.square(right))


def edge_aware_roughness(
    mask: Float[Array, "h w"], normalized: Image, sigma: Any
) -> Float[Array, ""]:
    """The same where every difference is weighed by exp(-d^2 / sigma), d the image's.

    d is the mean over channels. The mask may change for nothing where the image does."""
    total = jnp.zeros(())
    for axis in (0, 1):
        step = jnp.diff(normalized, axis=axis).mean(axis=-1)
        weight = jnp.exp(-jnp.square(step) / sigma)
        total += _mean(weight * jnp.square(jnp.diff(mask, axis=axis)))
    return total


def _mean(values: Array) -> Array:
    return values.sum() / max(values.size, 1)  # a mask of one cell has no differences


def blur(image: Image, side: int) -> Image:
    """The image under a Gaussian of `side` - 1 pixels that ends after `side` pixels.

    So it is nearly a mean over a square. Beyond the border lies the mirrored image, whose edge is
    not repeated (OpenCV's default)."""
    rows, columns = (_blur_matrix(length, side) for length in image.shape[:2])
    return jnp.einsum("yh,hwc,xw->yxc", rows, image, columns, precision=masks.HIGHEST)


def _blur_matrix(length: int, side: int) -> Float[np.ndarray, "n n"]:
    reach = np.arange(side) - side // 2
    weights = np.exp(-0.5 * (reach / (side - 1)) ** 2)
    period = max(1, 2 * (length - 1))
    places = np.abs(np.arange(length)[:, None] + reach[None, :]) % period
    places = np.minimum(places, period - places)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], places), weights / weights.sum())
    return matrix.astype(np.float32)
