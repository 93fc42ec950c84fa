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

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from mdm_jax import fills, masks, objectives, solver
from mdm_jax.config import PRESETS, MDMConfig
from mdm_jax.errors import InputError
from mdm_jax.objectives import View
from mdm_jax.problem import Problem, activation, begin, blend, report
from mdm_jax.types import Explanation, Image, Node, Predict, Trace

START = 2**31  # folded into the key for the start; steps fold in their own numbers, from 0


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
    objectives.check_node(config.objective, node)
    problem = begin(predict, image, target, node=node, key=key, fill=config.fill)
    run = solver.run_until if config.until_converged else solver.run_fixed
    state, records = run(
        make_solver(predict, problem, node=node, config=config),
        first_parameters(problem, config),
        steps=config.steps,
        key=problem.key,
        record=trace,
    )
    return finish(predict, problem, state, records, node=node, config=config)


def first_parameters(problem: Problem, config: MDMConfig) -> tuple[Array, ...]:
    """Parameters of the first mask vectors."""
    sizes = masks.resolve_sizes(config.sizes, _size(problem.image))
    if config.stack_weights is not None and len(config.stack_weights) != len(sizes):
        raise InputError(f"{len(config.stack_weights)} stack_weights for {len(sizes)} sizes: give one each")
    vectors = masks.start(config.start, sizes, key=jax.random.fold_in(problem.key, START))
    return tuple(map(masks.parametrisation(config.parametrisation).encode, vectors))


def make_solver(predict: Predict, problem: Problem, *, node: str | Node, config: MDMConfig) -> solver.Solver:
    """The solver of a problem: `init(parameters)`, `step(state, key)`; see `evaluations_a_step` for its cost."""
    fill, parametrisation = fills.resolve(config.fill), masks.parametrisation(config.parametrisation)
    image, backdrop, target, reference, nothing, _ = problem
    needs_rest = any(term.needs_rest for term in config.objective)

    def objective(parameters: Any, key: Key[Array, ""]) -> tuple[Float[Array, ""], dict[str, Any]]:
        seen = views(tuple(map(parametrisation.decode, parameters)), _size(image), config)
        behind = fill(image, key=key) if config.redraw_fill else backdrop
        masked = blend(seen, image, behind)
        both = predict(jnp.concatenate([masked, blend(1.0 - seen, image, behind)]) if needs_rest else masked)
        outputs = jax.tree.map(lambda leaf: leaf[: len(seen)], both)
        rest = jax.tree.map(lambda leaf: leaf[len(seen) :], both) if needs_rest else outputs

        def score(mask: Array, masked: Array, outputs: Any, rest: Any) -> tuple[Array, dict[str, Array]]:
            left = activation(node, rest, target) if needs_rest else None
            view = View(mask, activation(node, outputs, target), reference, image, masked, outputs, target, nothing, left)
            return objectives.total(config.objective, view)

        return jax.tree.map(jnp.mean, jax.vmap(score)(seen, masked, outputs, rest))

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
    decode = masks.parametrisation(config.parametrisation).decode
    vectors = tuple(map(decode, state.parameters))
    mask = masks.stack(_rendered(vectors, _size(problem.image)), config.stack_weights)
    info = report(
        predict,
        problem,
        mask,
        node=node,
        status=state.status,
        evaluations=state.evaluations * evaluations_a_step(config, len(vectors)),
        objective=state.last.objective,
        terms=state.last.terms,
        steps=state.steps,
    )
    trace = None
    if records is not None:
        trace = Trace(tuple(map(decode, records.parameters)), records.objective, records.terms)
    return Explanation(masks.normalise(mask), vectors, info, trace)


def evaluations_a_step(config: MDMConfig, sizes: int) -> int:
    """Network evaluations of one step: one for each masked image, and one for its rest where a term asks for it."""
    seen = 1 if config.schedule == "joint" else sizes
    return seen * (2 if any(term.needs_rest for term in config.objective) else 1)


def views(vectors: masks.Vectors, shape: masks.Size, config: MDMConfig) -> Float[Array, "v h w"]:
    """The masks that the image is seen through: the stacked one (joint), or every size's own (independent)."""
    rendered = _rendered(vectors, shape)
    return rendered if config.schedule == "independent" else masks.stack(rendered, config.stack_weights)[None]


def _size(image: Image) -> masks.Size:
    return image.shape[0], image.shape[1]


def _rendered(vectors: masks.Vectors, shape: masks.Size) -> Float[Array, "k h w"]:
    return jnp.stack([masks.render(vector, shape) for vector in vectors])
