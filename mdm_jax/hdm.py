"""Hierarchical Dynamic Masks (HDM): find a region, erase it, search the remainder, and fuse.

Built from the parts of `mdm_jax.mdm`. For one image x with reference activation a = g(f(x)), and n
that of the fill b alone, round r = 1 ... R works on the image x_r (x_1 = x) by one module of
dynamic masks, which must preserve a in every round:

    small masks V (benchmark masks) are learned as MDM learns them, in few steps; B = stack(V)
    large masks A (auxiliary masks) start from B, averaged over their cells
    both are learned through M_r = stack(V, A)

It then hands on the remaining image, where E_r is 1 wherever M_r exceeds 1 / erasure of its
maximum:

    E_r = min(1, erasure * M_r / max M_r),    x_(r+1) = (1 - E_r) * x_r + E_r * b
    saliency = normalize(max_r w_r * normalize(M_r))

A region weighs what it restores alone, but not more than the image that it was found in still
activates:

    w_1 = 1,    w_r = min(s(M_r * x_r + (1 - M_r) * b), s(x_r))
    s(y) = (g(f(y)) - n) / (a - n),  clipped to [0, 1]

w_r is 0 where it is below `least`: where the remaining image does not show the class, a further
round adds nothing to the map.

Source: Peng, Yang, Liu, He, "Hierarchical Dynamic Masks for Visual Explanation of Neural Networks",
arXiv 2301.04970. From its abstract: small benchmark masks learned roughly, by optimization; they
guide the learning of large auxiliary masks, and both are superposed (a module of dynamic masks,
DM); such modules are concatenated, and each finds and fuses the regions of interest in the
decisions that remain in the masked image. No full text could be had: how the benchmark masks guide,
how a region is erased, what a later round must preserve, the weights, the maximum, and all numbers
are our choices, by trial on two-digit images of the training split.
`experiments/quality/hdm_objects.py` measures what comes of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from mdm_jax import masks, mdm, objectives, solver
from mdm_jax.config import MDMConfig
from mdm_jax.errors import InputError
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.problem import Problem, activation, begin, blend, report
from mdm_jax.types import STATIC, Explanation, Image, Info, Mask, Node, Predict

MAX_ROUNDS = 100

# Forward evaluations: the region alone, and the remaining image.
FORWARDS_PER_ROUND = 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HDMConfig:
    """Every choice of HDM.

    Numbers marked (leaf) may be arrays and be swept by `vmap`; the rest is structure.
    """

    rounds: int = field(default=2, metadata=STATIC)
    """how often a region is searched and erased: at most so many objects can be found"""
    benchmark_sizes: tuple[int, ...] | None = field(default=None, metadata=STATIC)
    """sizes of the small masks; None: the smaller half of MDM's"""
    auxiliary_sizes: tuple[int, ...] | None = field(default=None, metadata=STATIC)
    """sizes of the large masks; None: the larger half of MDM's"""
    benchmark_steps: int = field(default=5, metadata=STATIC)
    """optimizer steps of the small masks alone, in each round"""
    auxiliary_steps: int = field(default=15, metadata=STATIC)
    """optimizer steps of all masks together, in each round"""
    erasure: Any = 4.0
    """a region is fully erased where its mask exceeds 1 / erasure of its maximum, elsewhere in
    proportion to the mask (leaf)"""
    least: Any = 0.1
    """a later region of less weight is left out (leaf)"""
    distance: str = field(default="absolute", metadata=STATIC)
    """the distance of activations, a name of `objectives.DISTANCES`"""
    area_weight: Any = 10.0
    """weight of the mean mask value (leaf)"""
    start: Any = 0.9
    """first value of the small masks, a number or a map (leaf)"""
    fill: Any = "blur"
    """what replaces masked pixels and what is erased, as in MDM (leaf)"""
    learning_rate: Any = 0.5
    """of Adam, which starts again with the large masks (leaf)"""

    def check(self) -> None:
        """Raises InputError for the first value that is not valid, of those that are not traced."""
        if not 1 <= self.rounds <= MAX_ROUNDS:
            raise InputError(
                f"rounds is {self.rounds}: give a whole number from 1 to {MAX_ROUNDS}"
            )
        for name in ("benchmark_sizes", "auxiliary_sizes"):
            _check_sizes(name, getattr(self, name))
        _check_range("erasure", self.erasure, 1.0, np.inf, "1 or more")
        _check_range("least", self.least, 0.0, 1.0, "a share from 0 to 1")
        # what HDM hands on to MDM is checked as MDM checks it; the sizes play no part in that
        for config in (self.benchmark((1,)), self.superposed((1,))):
            config.check()

    def benchmark(self, sizes: tuple[Any, ...]) -> MDMConfig:
        """MDM with the small masks."""
        return MDMConfig(
            sizes=sizes,
            schedule="joint",
            parametrization="sigmoid",
            start=self.start,
            coarse_to_fine=None,
            fill=self.fill,
            objective=(
                objectives.consistency(self.distance),
                objectives.area(self.area_weight),
            ),
            optimizer=optax.adam,
            learning_rate=self.learning_rate,
            steps=self.benchmark_steps,
        )

    def superposed(self, sizes: tuple[Any, ...]) -> MDMConfig:
        """MDM with all masks."""
        return replace(self.benchmark(sizes), steps=self.auxiliary_steps)

    def sizes(
        self, shape: masks.Size
    ) -> tuple[tuple[masks.Size, ...], tuple[masks.Size, ...]]:
        """The sizes of the small and of the large masks, for an image of (height, width)."""
        usual = masks.resolve_sizes(None, shape)
        half = len(usual) // 2
        small = self.benchmark_sizes or usual[:half]
        large = self.auxiliary_sizes or usual[half:]
        return masks.resolve_sizes(small, shape), masks.resolve_sizes(large, shape)


def _check_sizes(name: str, sizes: Any) -> None:
    if sizes is None:
        return
    is_valid = (
        isinstance(sizes, tuple)
        and sizes
        and all(type(size) is int and size > 0 for size in sizes)
    )
    if not is_valid:
        raise InputError(
            f"{name} is {sizes!r}: give whole numbers above zero, such as (4, 8)"
        )


def _check_range(name: str, value: Any, low: float, high: float, expected: str) -> None:
    if isinstance(value, jax.core.Tracer):
        return
    if not np.all((np.asarray(value) >= low) & (np.asarray(value) <= high)):
        raise InputError(f"{name} is {value}: give {expected}")


class Region(NamedTuple):
    """What one round found."""

    mask: Mask
    vectors: masks.Vectors
    """benchmark masks, then auxiliary ones"""
    restored: Float[Array, ""]
    """relative activation, s, of the region alone"""
    before: Float[Array, ""]
    """relative activation, s, of the image that it was found in"""
    state: solver.State
    """the last one of the solver"""


@own_settings()
def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: HDMConfig | None = None,
    trace: bool = False,
) -> Explanation:
    """Explain one image [h, w, c] in [0, 1] by HDM; pure, so `jit` and `vmap` apply.

    Costs rounds * (benchmark_steps + auxiliary_steps) evaluations with a gradient and 2 * rounds +
    3 without. `mask_vectors` are those of every round in turn; the objective and its terms are
    those of the last round. `restored_r` is s of region r alone, and `weight_r` is w_r. No
    trajectory is recorded. Raises InputError for a config that is not valid.
    """
    del trace
    config = HDMConfig() if config is None else config
    config.check()
    problem = begin(predict, image, target, node=node, key=key, fill=config.fill)

    def search(
        remaining: tuple[Image, Array], number: Array
    ) -> tuple[tuple[Image, Array], Region]:
        round_image, before = remaining
        round_key = jax.random.fold_in(problem.key, number)
        round_problem = problem._replace(image=round_image, key=round_key)
        mask, state, vectors = dynamic_masks(
            predict, round_problem, node=node, config=config
        )
        region_alone = blend(mask[None], round_image, problem.background)[0]
        next_image = erase(round_image, mask, problem.background, config.erasure)
        both = jnp.stack([region_alone, next_image])
        restored, after = relative_activations(predict, both, problem, node=node)
        return (next_image, after), Region(mask, vectors, restored, before, state)

    _, regions = jax.lax.scan(search, (image, jnp.ones(())), jnp.arange(config.rounds))
    weights = region_weights(regions.restored, regions.before, config.least)
    factors = weights[:, None, None]
    states, rounds = regions.state, range(config.rounds)
    info = report(
        predict,
        problem,
        jnp.max(factors * regions.mask, axis=0),
        node=node,
        status=states.status.max(),
        evaluations=config.rounds * config.benchmark_steps + states.evaluations.sum(),
        forwards=config.rounds * FORWARDS_PER_ROUND,
        must_keep=True,
        objective=states.last.objective[-1],
        terms=jax.tree.map(lambda leaf: leaf[-1], states.last.terms)
        | {f"restored_{r + 1}": regions.restored[r] for r in rounds}
        | {f"weight_{r + 1}": weights[r] for r in rounds},
        steps=config.rounds * config.benchmark_steps + states.steps.sum(),
    )
    fused = jnp.max(factors * jax.vmap(masks.normalize)(regions.mask), axis=0)
    saliency = masks.normalize(fused)
    vectors = tuple(vector[r] for r in rounds for vector in regions.vectors)
    return Explanation(saliency, vectors, info)


def dynamic_masks(
    predict: Predict, problem: Problem, *, node: str | Node, config: HDMConfig
) -> tuple[Mask, solver.State, masks.Vectors]:
    """One module: benchmark masks guide auxiliary masks, then both are learned superposed.

    Returns the mask, the last state and the mask vectors.
    """
    shape = problem.image.shape[0], problem.image.shape[1]
    small, large = config.sizes(shape)
    benchmark, superposed = config.benchmark(small), config.superposed((*small, *large))
    parametrization = masks.parametrization(superposed.parametrization)
    first, _ = solver.run_fixed(
        mdm.make_solver(predict, problem, node=node, config=benchmark),
        mdm.first_parameters(problem, benchmark),
        steps=benchmark.steps,
        key=problem.key,
    )
    guide = superposed_mask(tuple(map(parametrization.decode, first.parameters)), shape)
    guided = map(parametrization.encode, masks.start(guide, large, key=problem.key))
    state, _ = solver.run_fixed(
        mdm.make_solver(predict, problem, node=node, config=superposed),
        (*first.parameters, *guided),
        steps=superposed.steps,
        # steps count on from those of the benchmark masks, so that no key is used twice
        key=jax.random.fold_in(problem.key, benchmark.steps),
    )
    vectors = tuple(map(parametrization.decode, state.parameters))
    status = jnp.maximum(state.status, first.status)
    return superposed_mask(vectors, shape), state._replace(status=status), vectors


def superposed_mask(vectors: masks.Vectors, shape: masks.Size) -> Mask:
    """The mean of the rendered masks of all sizes."""
    return masks.stack(jnp.stack([masks.render(vector, shape) for vector in vectors]))


def erase(image: Image, mask: Mask, background: Image, erasure: Any) -> Image:
    """(1 - E) * x + E * b with E = min(1, erasure * M / max M)."""
    relative_mask = erasure * mask / jnp.maximum(mask.max(), objectives.EPSILON)
    erased_part = jnp.clip(relative_mask, 0.0, 1.0)
    return blend(erased_part[None], background, image)[0]


def relative_activations(
    predict: Predict, images: Float[Array, "v h w c"], problem: Problem, *, node: str | Node
) -> Float[Array, " v"]:
    """s(y) of each image y: 0 for the fill's activation, 1 for the original's, clipped to [0, 1].

    Of a vector node the mean over its elements.
    """
    outputs = predict(images)
    activations = jax.vmap(lambda each: activation(node, each, problem.target))(outputs)
    full_range = problem.reference - problem.fill_activation
    relative = (
        (activations - problem.fill_activation)
        * jnp.sign(full_range)
        / jnp.maximum(jnp.abs(full_range), objectives.EPSILON)
    )
    return jnp.clip(relative, 0.0, 1.0).reshape(len(images), -1).mean(axis=1)


def region_weights(
    restored: Float[Array, " r"], before: Float[Array, " r"], least: Any
) -> Float[Array, " r"]:
    """w_r: 1 for the first region; then the lesser of both, or 0 where that is below `least`."""
    weights = jnp.minimum(restored, before)
    return jnp.where(weights < least, 0.0, weights).at[0].set(1.0)


def round_weights(info: Info) -> list[float]:
    """w_r of one explanation, round by round; empty for those of other methods."""
    weights: list[float] = []
    while (name := f"weight_{len(weights) + 1}") in info.terms:
        weights.append(float(info.terms[name]))
    return weights
