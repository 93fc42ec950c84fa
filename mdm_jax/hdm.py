"""Hierarchical Dynamic Masks: find a region, erase it, search the rest, and fuse what was found.

Built from the parts of `mdm_jax.mdm`. For one image x with reference activation a = g(f(x)), and n
that of the fill b alone, round r = 1 ... R works on the image x_r (x_1 = x) by one module of
dynamic masks, which must preserve a in every round:

    benchmark   small masks V are learned as MDM learns them, in few steps; B = stack(V) auxiliary
    large masks A start from B, averaged over their cells, and both are learned through M_r =
    stack(V, A)

and then hands on what is left of the image, where E_r is 1 wherever M_r exceeds 1 / erasure of its
maximum:

    E_r = min(1, erasure * M_r / max M_r),    x_(r+1) = (1 - E_r) * x_r + E_r * b
    saliency = normalize(max_r w_r * normalize(M_r))

A find weighs what it restores alone, but not more than the rest that it was found in still
activates:

    w_1 = 1,    w_r = min(s(M_r * x_r + (1 - M_r) * b), s(x_r)),    s(y) = (g(f(y)) - n) / (a - n)
    in [0, 1]

and nothing where w_r is below `least`: where the rest does not show the class, a further round adds
nothing to the map.

Source: Peng, Yang, Liu, He, "Hierarchical Dynamic Masks for Visual Explanation of Neural Networks",
  arXiv 2301.04970. From its
abstract: small benchmark masks learned roughly, by optimization; they guide the learning of large
  auxiliary masks, and both are superposed (a module of dynamic masks, DM); such modules are
  concatenated, and each finds and fuses the regions of interest in the decisions that remain in the
  masked image. No full text could be had: how the benchmark guides, how a find is erased, what a
  later round must preserve, the weights, the maximum, and all numbers are our choices, by trial on
  two-digit images of the training split. `experiments/quality/hdm_objects.py` measures what comes
  of them."""

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
from mdm_jax.problem import Problem, activation, begin, blend, report
from mdm_jax.types import STATIC, Explanation, Image, Mask, Node, Predict

MAX_ROUNDS = 100
FORWARDS_A_ROUND = 2
"""forward evaluations: the find alone, and what is left"""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HDMConfig:
    """Every choice of HDM. Numbers marked (leaf) may be arrays and be swept by `vmap`; the rest is
    structure."""

    rounds: int = field(default=2, metadata=STATIC)
    """how often a region is searched, and what was found erased: as many objects may be found"""
    benchmark_sizes: tuple[int, ...] | None = field(default=None, metadata=STATIC)
    """sizes of the small masks; None: the smaller half of MDM's"""
    auxiliary_sizes: tuple[int, ...] | None = field(default=None, metadata=STATIC)
    """sizes of the large masks; None: the larger half of MDM's"""
    benchmark_steps: int = field(default=5, metadata=STATIC)
    """optimizer steps of the small masks alone, in each round"""
    auxiliary_steps: int = field(default=15, metadata=STATIC)
    """optimizer steps of all masks together, in each round"""
    erasure: Any = 4.0
    """what is found is erased wholly where its mask exceeds 1 / erasure of its maximum, below in
    proportion (leaf)"""
    least: Any = 0.1
    """a later find of less weight is left out (leaf)"""
    distance: str = field(default="absolute", metadata=STATIC)
    """the distance of activations, a name of `objectives.DISTANCES`"""
    area_weight: Any = 10.0
    """weight of the mean mask value (leaf)"""
    start: Any = 0.9
    """first value of the small masks, a number or a map (leaf)"""
    fill: Any = "blur"
    """what replaces masked pixels and what is erased, as in MDM (leaf)"""
    learning_rate: Any = 0.5
    """of Adam, which begins anew with the large masks (leaf)"""

    def check(self) -> None:
        """Raises InputError for the first value that cannot be; values under a JAX trace are not
        looked at."""
        if not 1 <= self.rounds <= MAX_ROUNDS:
            raise InputError(f"rounds is {self.rounds}: give a whole number from 1 to {MAX_ROUNDS}")
        for name in ("benchmark_sizes", "auxiliary_sizes"):
            sizes = getattr(self, name)
            if sizes is not None and not (
                isinstance(sizes, tuple) and sizes and all(type(s) is int and s > 0 for s in sizes)
            ):
                raise InputError(
                    f"{name} is {sizes!r}: give whole numbers above zero, such as (4, 8)"
                )
        for name, low, high in (("erasure", 1.0, np.inf), ("least", 0.0, 1.0)):
            value = getattr(self, name)
            if not isinstance(value, jax.core.Tracer) and not np.all(
                (np.asarray(value) >= low) & (np.asarray(value) <= high)
            ):
                bound = "1 or more" if name == "erasure" else "a share from 0 to 1"
                raise InputError(f"{name} is {value}: give {bound}")
        for each in (self.benchmark((1,)), self.superposed((1,))):
            each.check()

    def benchmark(self, sizes: tuple[Any, ...]) -> MDMConfig:
        """MDM with the small masks."""
        return MDMConfig(
            sizes=sizes,
            schedule="joint",
            parametrization="sigmoid",
            start=self.start,
            coarse_to_fine=None,
            fill=self.fill,
            objective=(objectives.consistency(self.distance), objectives.area(self.area_weight)),
            optimizer=optax.adam,
            learning_rate=self.learning_rate,
            steps=self.benchmark_steps,
        )

    def superposed(self, sizes: tuple[Any, ...]) -> MDMConfig:
        """MDM with all masks."""
        return replace(self.benchmark(sizes), steps=self.auxiliary_steps)

    def sizes(self, shape: masks.Size) -> tuple[tuple[masks.Size, ...], tuple[masks.Size, ...]]:
        """The sizes of the small and of the large masks, for an image of (height, width)."""
        usual = masks.resolve_sizes(None, shape)
        half = len(usual) // 2
        small, large = self.benchmark_sizes or usual[:half], self.auxiliary_sizes or usual[half:]
        return masks.resolve_sizes(small, shape), masks.resolve_sizes(large, shape)


class Find(NamedTuple):
    """What one round found."""

    mask: Mask
    vectors: masks.Vectors
    """benchmark masks, then auxiliary ones"""
    restored: Float[Array, ""]
    """share of the activation that it restores alone"""
    before: Float[Array, ""]
    """share of the activation of the rest that it was found in"""
    last: solver.State
    """of the solver"""


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
    """Explain one image [h, w, c] in [0, 1] by HDM, as the equations above say; pure, so `jit` and
    `vmap` apply.

    Costs rounds * (benchmark_steps + auxiliary_steps) evaluations with a gradient and 2 * rounds +
    3 without. `mask_vectors` are those of every round in turn; the objective and its terms are
    those of the last round, `restored_r` and `weight_r` are s of the find alone and w_r. No
    trajectory is kept. Raises InputError for a config that cannot be."""
    del trace
    config = HDMConfig() if config is None else config
    config.check()
    problem = begin(predict, image, target, node=node, key=key, fill=config.fill)

    def search(rest: tuple[Image, Array], number: Array) -> tuple[tuple[Image, Array], Find]:
        left, before = rest
        seen = problem._replace(image=left, key=jax.random.fold_in(problem.key, number))
        mask, state, vectors = dynamic_masks(predict, seen, node=node, config=config)
        alone = blend(mask[None], left, problem.backdrop)[0]
        left = erased(left, mask, problem.backdrop, config.erasure)
        restored, after = shares(predict, jnp.stack([alone, left]), problem, node=node)
        return (left, after), Find(mask, vectors, restored, before, state)

    _, finds = jax.lax.scan(search, (image, jnp.ones(())), jnp.arange(config.rounds))
    weights = weights_of(finds.restored, finds.before, config.least)
    each = weights[:, None, None]
    states, numbers = finds.last, range(config.rounds)
    info = report(
        predict,
        problem,
        jnp.max(each * finds.mask, axis=0),
        node=node,
        status=states.status.max(),
        evaluations=config.rounds * config.benchmark_steps + states.evaluations.sum(),
        forwards=config.rounds * FORWARDS_A_ROUND,
        objective=states.last.objective[-1],
        terms=jax.tree.map(lambda leaf: leaf[-1], states.last.terms)
        | {f"restored_{r + 1}": finds.restored[r] for r in numbers}
        | {f"weight_{r + 1}": weights[r] for r in numbers},
        steps=config.rounds * config.benchmark_steps + states.steps.sum(),
    )
    saliency = masks.normalize(jnp.max(each * jax.vmap(masks.normalize)(finds.mask), axis=0))
    return Explanation(
        saliency, tuple(vector[r] for r in numbers for vector in finds.vectors), info
    )


def dynamic_masks(
    predict: Predict, problem: Problem, *, node: str | Node, config: HDMConfig
) -> tuple[Mask, solver.State, masks.Vectors]:
    """One module: benchmark masks, auxiliary masks that they guide, superposed; the mask, the last
    state, the vectors."""
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
    guide = rendered(tuple(map(parametrization.decode, first.parameters)), shape)
    guided = map(parametrization.encode, masks.start(guide, large, key=problem.key))
    state, _ = solver.run_fixed(
        mdm.make_solver(predict, problem, node=node, config=superposed),
        (*first.parameters, *guided),
        steps=superposed.steps,
        key=jax.random.fold_in(problem.key, benchmark.steps),
    )
    vectors = tuple(map(parametrization.decode, state.parameters))
    status = jnp.maximum(state.status, first.status)
    return rendered(vectors, shape), state._replace(status=status), vectors


def rendered(vectors: masks.Vectors, shape: masks.Size) -> Mask:
    """Superposed masks, the mean of all sizes: of one round's vectors, its find."""
    return masks.stack(jnp.stack([masks.render(vector, shape) for vector in vectors]))


def erased(image: Image, mask: Mask, backdrop: Image, erasure: Any) -> Image:
    """(1 - E) * x + E * b with E = min(1, erasure * M / max M)."""
    gone = jnp.clip(erasure * mask / jnp.maximum(mask.max(), objectives.EPSILON), 0.0, 1.0)
    return blend(gone[None], backdrop, image)[0]


def shares(
    predict: Predict, images: Float[Array, "v h w c"], problem: Problem, *, node: str | Node
) -> Float[Array, " v"]:
    """s(y) of each image y: the share of the way from the fill's activation to the original's,
    clipped to [0, 1].

    Of a vector node the mean over its elements.
    """
    outputs = predict(images)
    reached = jax.vmap(lambda each: activation(node, each, problem.target))(outputs)
    way = problem.reference - problem.nothing
    share = (
        (reached - problem.nothing) * jnp.sign(way) / jnp.maximum(jnp.abs(way), objectives.EPSILON)
    )
    return jnp.clip(share, 0.0, 1.0).reshape(len(images), -1).mean(axis=1)


def weights_of(
    restored: Float[Array, " r"], before: Float[Array, " r"], least: Any
) -> Float[Array, " r"]:
    """w_r: 1 for the first find; then the lesser of both shares, or 0 where that is below
    `least`."""
    weights = jnp.minimum(restored, before)
    return jnp.where(weights < least, 0.0, weights).at[0].set(1.0)
