"""Multiple Dynamic Masks: the method, assembled from masks, fills, nodes, objectives and the
solver.

Reads top to bottom like the equations. For one image x, network f, node g and reference activation
a = g(f(x)):

    M_k = U_k(V_k)                                  rendered masks
    x_k = M_k * x + (1 - M_k) * b(x)                masked images
    L_k = D(g(f(x_k)), a) + area_weight * mean(M_k) activation consistency + constraint on the mask
    saliency = normalize(sum_k w_k M_k)             stacked masks

The schedule `independent` minimizes the mean of the L_k; `joint` has a single masked image, seen
through the stacked mask.

Source: Peng, Yang, Liu, He, "Multiple Dynamic Masks", arXiv 2207.08046. Sizes, weights, optimizer,
  steps, fill, parametrization and distance are not published there; ours are choices, see
  `mdm_jax.config`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from mdm_jax import fills, masks, objectives, solver
from mdm_jax.config import PRESETS, MDMConfig
from mdm_jax.errors import InputError
from mdm_jax.images import gaussian_blur
from mdm_jax.objectives import View
from mdm_jax.problem import FORWARDS, Problem, activation, begin, blend, report
from mdm_jax.types import Explanation, Image, Node, Predict, Scalar, Trace

START = (
    2**31
)  # folded into keys for the start and for shifts; steps fold in their own numbers, from 0


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
    """Explain one image [h, w, c] in [0, 1]; pure, so `jit`, `vmap` over images and sweeps of the
    config's leaves apply.

    `target` is the class to explain; None or a negative number means the network's own first
    choice. With `trace` the trajectory is returned too. Raises InputError for a config that cannot
    be."""
    config = PRESETS["fast"] if config is None else config
    config.check()
    objectives.check_node(config.objective, node)
    config, spent = warm_start(predict, image, target, node=node, key=key, config=config)
    problem = begin(predict, image, target, node=node, key=key, fill=config.fill)
    run = solver.run_until if config.until_converged else solver.run_fixed
    state, records = run(
        make_solver(predict, problem, node=node, config=config),
        first_parameters(problem, config),
        steps=config.steps,
        key=problem.key,
        record=trace,
    )
    return finish(predict, problem, state, records, node=node, config=config, spent=spent)


class Cost(NamedTuple):
    """Network evaluations of one image, with a gradient and without."""

    evaluations: Int[Array, ""] | int = 0
    forwards: Int[Array, ""] | int = 0


def warm_start(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None,
    *,
    node: str | Node,
    key: Key[Array, ""],
    config: MDMConfig,
) -> tuple[MDMConfig, Cost]:
    """The config with a map to start from where its start is a baseline's name, and what that map
    cost.

    The baseline explains the logit where MDM explains the probability, whose gradient vanishes when
    the network is sure."""
    from mdm_jax.baselines import BASELINES  # they build on the config too

    if not (isinstance(config.start, str) and config.start in BASELINES):
        return config, Cost()
    method, _ = BASELINES[config.start]
    found = method(
        predict,
        image,
        target,
        node="logit" if node == "probability" else node,
        key=jax.random.fold_in(key, START),
    )
    return replace(config, start=found.saliency), Cost(
        found.info.evaluations, found.info.forwards - FORWARDS
    )


def first_parameters(problem: Problem, config: MDMConfig) -> tuple[Array, ...]:
    """Parameters of the first mask vectors. Raises InputError for a start that cannot be."""
    sizes = masks.resolve_sizes(config.sizes, _size(problem.image))
    weights = config.stack_weights
    if (isinstance(weights, tuple | list) or np.ndim(weights)) and len(weights) != len(sizes):
        raise InputError(f"{len(weights)} stack_weights for {len(sizes)} sizes: give one each")
    vectors = masks.start(config.start, sizes, key=jax.random.fold_in(problem.key, START))
    return tuple(map(masks.parametrization(config.parametrization).encode, vectors))


def make_solver(
    predict: Predict, problem: Problem, *, node: str | Node, config: MDMConfig
) -> solver.Solver:
    """The solver of a problem: `init(parameters)`, `step(state, key)`; see `evaluations_a_step` for
    its cost."""
    turns, parametrization = (
        fills.in_turn(config.fill),
        masks.parametrization(config.parametrization),
    )
    image, backdrop, target, reference, nothing, _ = problem
    drawn_anew = config.redraw_fill or len(turns) > 1
    needs_rest = any(term.needs_rest for term in config.objective)

    def objective(
        parameters: Any, key: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Any]]:
        seen = views(tuple(map(parametrization.decode, parameters)), _size(image), config)
        behind = (
            jnp.stack([fills.drawn(fill, image, key=key) for fill in turns])[step % len(turns)]
            if drawn_anew
            else backdrop
        )
        masked = blend(seen, image, behind)
        shown = (
            jnp.concatenate([masked, blend(1.0 - seen, image, behind)]) if needs_rest else masked
        )
        both = predict(shifted(shown, key, config.jitter) if config.jitter else shown)
        outputs = jax.tree.map(lambda leaf: leaf[: len(seen)], both)
        rest = jax.tree.map(lambda leaf: leaf[len(seen) :], both) if needs_rest else outputs

        def score(
            mask: Array, masked: Array, outputs: Any, rest: Any
        ) -> tuple[Array, dict[str, Array]]:
            left = activation(node, rest, target) if needs_rest else None
            active, progress = activation(node, outputs, target), step / config.steps
            view = View(
                mask, active, reference, image, masked, outputs, target, nothing, progress, left
            )
            return objectives.total(config.objective, view)

        return jax.tree.map(jnp.mean, jax.vmap(score)(seen, masked, outputs, rest))

    optimizer = (
        config.optimizer
        if isinstance(config.optimizer, optax.GradientTransformation)
        else config.optimizer(config.learning_rate)
    )
    if config.coarse_to_fine is not None:
        optimizer = optax.chain(optimizer, joining(config.coarse_to_fine * config.steps))
    if config.area_budget is not None:
        optimizer = optax.chain(optimizer, bounded(config.area_budget, config))
    return solver.make(
        objective,
        optimizer,
        project=parametrization.project,
        tolerance=config.tolerance,
        patience=config.patience,
        earliest=(
            0 if config.coarse_to_fine is None else config.coarse_to_fine * config.steps
        ),  # until all have joined
    )


def joining(steps: Scalar) -> optax.GradientTransformation:
    """Updates of the first leaf from the start, of the last only after `steps`, of those between in
    turn: coarse to fine."""

    def update(updates: Any, count: Array, parameters: Any = None) -> tuple[Any, Array]:
        del parameters
        last = max(len(updates) - 1, 1)
        joined = tuple(
            jnp.where(count >= steps * k / last, leaf, 0.0) for k, leaf in enumerate(updates)
        )
        return joined, count + 1

    return optax.GradientTransformation(lambda parameters: jnp.int32(0), update)


def bounded(budget: Scalar, config: MDMConfig) -> optax.GradientTransformation:
    """Updates that leave the mean mask value at most budget^(t / T) after step t of T: a tight
    bound at once would hide all."""

    def update(updates: Any, count: Array, parameters: Any = None) -> tuple[Any, Array]:
        moved = masks.parametrization(config.parametrization).project(
            optax.apply_updates(parameters, updates)
        )
        weights = masks.resolve_weights(config.stack_weights, [leaf.shape for leaf in moved])
        held = masks.within_budget(
            moved, budget ** ((count + 1) / config.steps), config.parametrization, weights
        )
        return jax.tree.map(lambda new, old: new - old, held, parameters), count + 1

    return optax.GradientTransformation(lambda parameters: jnp.int32(0), update)


def shifted(
    images: Float[Array, "v h w c"], key: Key[Array, ""], most: int
) -> Float[Array, "v h w c"]:
    """Images shifted alike by up to `most` pixels each way; what leaves at one border comes in at
    the other."""
    by = jax.random.randint(jax.random.fold_in(key, START), (2,), -most, most + 1)
    return jnp.roll(images, by, axis=(1, 2))


def finish(
    predict: Predict,
    problem: Problem,
    state: solver.State,
    records: solver.Record | None = None,
    *,
    node: str | Node,
    config: MDMConfig,
    spent: Cost = Cost(),  # noqa: B008 (a tuple)
) -> Explanation:
    """The explanation that a solved problem's state holds (one forward evaluation: the image
    through its mask).

    `spent` is what the start cost, see `warm_start`.
    """
    decode = masks.parametrization(config.parametrization).decode
    vectors = tuple(map(decode, state.parameters))
    mask = stacked(vectors, _size(problem.image), config)
    info = report(
        predict,
        problem,
        mask,
        node=node,
        status=state.status,
        evaluations=state.evaluations * evaluations_a_step(config, len(vectors))
        + spent.evaluations,
        forwards=spent.forwards,
        objective=state.last.objective,
        terms=state.last.terms,
        steps=state.steps,
    )
    trace = None
    if records is not None:
        trace = Trace(tuple(map(decode, records.parameters)), records.objective, records.terms)
    smooth = (
        mask
        if config.smoothing is None
        else gaussian_blur(mask[..., None], config.smoothing)[..., 0]
    )
    return Explanation(masks.normalize(smooth), vectors, info, trace)


def evaluations_a_step(config: MDMConfig, sizes: int) -> int:
    """Network evaluations of one step: one for each masked image, and one for its rest where a term
    asks for it."""
    seen = 1 if config.schedule == "joint" else sizes
    return seen * (2 if any(term.needs_rest for term in config.objective) else 1)


def views(vectors: masks.Vectors, shape: masks.Size, config: MDMConfig) -> Float[Array, "v h w"]:
    """The masks that the image is seen through: the stacked one (joint), or every size's own
    (independent)."""
    return (
        _rendered(vectors, shape)
        if config.schedule == "independent"
        else stacked(vectors, shape, config)[None]
    )


def stacked(vectors: masks.Vectors, shape: masks.Size, config: MDMConfig) -> Float[Array, "h w"]:
    """The stacked mask, sum_k w_k M_k / sum_k w_k."""
    return masks.stack(
        _rendered(vectors, shape),
        masks.resolve_weights(config.stack_weights, [vector.shape for vector in vectors]),
    )


def _size(image: Image) -> masks.Size:
    return image.shape[0], image.shape[1]


def _rendered(vectors: masks.Vectors, shape: masks.Size) -> Float[Array, "k h w"]:
    return jnp.stack([masks.render(vector, shape) for vector in vectors])
