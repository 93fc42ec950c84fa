"""Multiple Dynamic Masks: the method, assembled from masks, fills, nodes, objectives and the solver.

Reads top to bottom like the equations. For one image x, network f, node g and reference activation a = g(f(x)):

    M_k = U_k(V_k)                                  rendered masks
    x_k = M_k * x + (1 - M_k) * b(x)                masked images
    L_k = D(g(f(x_k)), a) + area_weight * mean(M_k) activation consistency + constraint on the mask
    saliency = normalise(sum_k w_k M_k)             stacked masks

The schedule `independent` minimises the mean of the L_k; `joint` has a single masked image, seen through the stacked mask.

Source: Peng, Yang, Liu, He, "Multiple Dynamic Masks", arXiv 2207.08046. Sizes, weights, optimiser, steps, fill,
parametrisation and distance are not published there; ours are choices, see `mdm_jax.config`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from mdm_jax import fills, masks, nodes, objectives, solver
from mdm_jax.config import PRESETS, MDMConfig
from mdm_jax.errors import InputError
from mdm_jax.objectives import View
from mdm_jax.types import Explanation, Image, Info, Node, Predict, Status, Trace

START = 2**31  # folded into the key for the start; steps fold in their own numbers, from 0


class Problem(NamedTuple):
    """One image's problem: all that stays the same while its masks are learned."""

    image: Image
    backdrop: Image
    """the fill, drawn once"""
    target: Int[Array, ""]
    reference: Float[Array, "..."]
    """node on the original image"""
    nothing: Float[Array, "..."]
    """node on the backdrop alone"""
    key: Key[Array, ""]


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: MDMConfig | None = None,
    trace: bool = False,
) -> Explanation:
    """Explain one image [h, w, c] in [0, 1]; pure, so `jit`, `vmap` over images and sweeps of the config's leaves apply.

    `target` is the class to explain; None or a negative number means the network's own first choice. With `trace` the
    trajectory is returned too. Raises InputError for a config that cannot be.
    """
    config = PRESETS["fast"] if config is None else config
    config.check()
    problem = begin(predict, image, target, node=node, key=key, config=config)
    run = solver.run_until if config.until_converged else solver.run_fixed
    state, records = run(
        make_solver(predict, problem, node=node, config=config),
        first_parameters(problem, config),
        steps=config.steps,
        key=problem.key,
        record=trace,
    )
    return finish(predict, problem, state, records, node=node, config=config)


def begin(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None,
    *,
    node: str | Node,
    key: Key[Array, ""],
    config: MDMConfig,
) -> Problem:
    """State the problem: draw the fill, choose the target and take the reference activation (two forward evaluations)."""
    objectives.check_node(config.objective, node)
    fill_key, key = jax.random.split(key)
    backdrop = fills.resolve(config.fill)(image, key=fill_key)
    whole, nothing = _unstack(predict(jnp.stack([image, backdrop])))
    target = choose_target(whole, target)
    return Problem(image, backdrop, target, activation(node, whole, target), activation(node, nothing, target), key)


def first_parameters(problem: Problem, config: MDMConfig) -> tuple[Array, ...]:
    """Parameters of the first mask vectors."""
    sizes = masks.resolve_sizes(config.sizes, _size(problem.image))
    if config.stack_weights is not None and len(config.stack_weights) != len(sizes):
        raise InputError(f"{len(config.stack_weights)} stack_weights for {len(sizes)} sizes: give one each")
    vectors = masks.start(config.start, sizes, key=jax.random.fold_in(problem.key, START))
    return tuple(map(masks.parametrisation(config.parametrisation).encode, vectors))


def make_solver(predict: Predict, problem: Problem, *, node: str | Node, config: MDMConfig) -> solver.Solver:
    """The solver of a problem: `init(parameters)`, `step(state, key)`; one step costs one network evaluation a view."""
    fill, parametrisation = fills.resolve(config.fill), masks.parametrisation(config.parametrisation)
    image, backdrop, target, reference, *_ = problem

    def objective(parameters: Any, key: Key[Array, ""]) -> tuple[Float[Array, ""], dict[str, Any]]:
        seen = views(tuple(map(parametrisation.decode, parameters)), _size(image), config)
        masked = blend(seen, image, fill(image, key=key) if config.redraw_fill else backdrop)
        outputs = predict(masked)

        def score(mask: Array, masked: Array, outputs: Any) -> tuple[Array, dict[str, Array]]:
            view = View(mask, activation(node, outputs, target), reference, image, masked, outputs, target)
            return objectives.total(config.objective, view)

        return jax.tree.map(jnp.mean, jax.vmap(score)(seen, masked, outputs))

    optimizer = (
        config.optimizer
        if isinstance(config.optimizer, optax.GradientTransformation)
        else config.optimizer(config.learning_rate)
    )
    return solver.make(
        objective, optimizer, project=parametrisation.project, tolerance=config.tolerance, patience=config.patience
    )


def finish(
    predict: Predict,
    problem: Problem,
    state: solver.State,
    records: solver.Record | None = None,
    *,
    node: str | Node,
    config: MDMConfig,
) -> Explanation:
    """The explanation that a solved problem's state holds (one forward evaluation: the image through its mask)."""
    image, backdrop, target, reference, nothing, _ = problem
    decode = masks.parametrisation(config.parametrisation).decode
    vectors = tuple(map(decode, state.parameters))
    mask = masks.stack(_rendered(vectors, _size(image)), config.stack_weights)
    (through,) = _unstack(predict(blend(mask[None], image, backdrop)))
    masked = activation(node, through, target)
    constant = _same(reference, masked) & _same(reference, nothing)
    info = Info(
        target=target,
        activation=reference,
        activation_masked=masked,
        activation_fill=nothing,
        kept_area=mask.mean(),
        objective=state.last.objective,
        terms=state.last.terms,
        steps=state.steps,
        evaluations=state.evaluations * (1 if config.schedule == "joint" else len(vectors)),
        forwards=jnp.int32(3),
        status=jnp.where(constant, jnp.int32(Status.CONSTANT), state.status),
    )
    trace = None
    if records is not None:
        trace = Trace(tuple(map(decode, records.parameters)), records.objective, records.terms)
    return Explanation(masks.normalise(mask), vectors, info, trace)


def activation(node: str | Node, outputs: Any, target: Int[Array, ""]) -> Float[Array, "..."]:
    """The node's activation in float32, NaN where the network's own output is not finite.

    The outputs themselves are looked at, because XLA's softmax on CPU can turn NaN logits into ordinary numbers.
    """
    head = nodes.logits_of(outputs) if nodes.has_logits(outputs) else outputs
    inexact = [leaf for leaf in jax.tree.leaves(head) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in inexact])) if inexact else True
    return jnp.where(finite, nodes.resolve(node)(outputs, target).astype(jnp.float32), jnp.nan)


def views(vectors: masks.Vectors, shape: masks.Size, config: MDMConfig) -> Float[Array, "v h w"]:
    """The masks that the image is seen through: the stacked one (joint), or every size's own (independent)."""
    rendered = _rendered(vectors, shape)
    return rendered if config.schedule == "independent" else masks.stack(rendered, config.stack_weights)[None]


def blend(seen: Float[Array, "v h w"], image: Image, backdrop: Image) -> Float[Array, "v h w c"]:
    """Masked images, M * x + (1 - M) * b."""
    return seen[..., None] * image + (1.0 - seen[..., None]) * backdrop


def choose_target(outputs: Any, target: Int[Array, ""] | int | None) -> Int[Array, ""]:
    """The class to explain: `target`, or the network's first choice where it is None or negative."""
    if target is not None and not nodes.has_logits(outputs):
        return jnp.int32(target)
    classes = nodes.logits_of(outputs).shape[-1]
    if isinstance(target, int | np.integer) and target >= classes:
        raise InputError(f"class index {target} is out of range: the network has {classes} classes, 0 to {classes - 1}")
    first = jnp.argmax(nodes.logits_of(outputs), axis=-1).astype(jnp.int32)
    return first if target is None else jnp.where(target < 0, first, target).astype(jnp.int32)


def _size(image: Image) -> masks.Size:
    return image.shape[0], image.shape[1]


def _rendered(vectors: masks.Vectors, shape: masks.Size) -> Float[Array, "k h w"]:
    return jnp.stack([masks.render(vector, shape) for vector in vectors])


def _unstack(outputs: Any) -> list[Any]:
    """A batch of outputs as a list of one image's outputs each."""
    n = jax.tree.leaves(outputs)[0].shape[0]
    return [jax.tree.map(lambda leaf: leaf[i], outputs) for i in range(n)]  # noqa: B023 (used at once)


def _same(a: Float[Array, "..."], b: Float[Array, "..."]) -> Array:
    return jnp.all(jnp.abs(a - b) <= 1e-6 * jnp.abs(a))
