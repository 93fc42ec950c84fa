"""Multiple Dynamic Masks (MDM), assembled from masks, fills, nodes, objectives and the solver.

Reads top to bottom like the equations. For one image x, network f, node g, fill b and reference
activation a = g(f(x)):

    M_k = U_k(V_k)                                  rendered masks
    x_k = M_k * x + (1 - M_k) * b(x)                masked images
    L_k = D(g(f(x_k)), a) + area_weight * mean(M_k) activation consistency + constraint on the mask
    saliency = normalize(sum_k w_k M_k)             stacked masks

The schedule `independent` minimizes the mean of the L_k; `joint` has a single masked image, seen
through the stacked mask.

Source: Peng, Yang, Liu, He, "Multiple Dynamic Masks", arXiv 2207.08046. Sizes, weights, optimizer,
steps, fill, parametrization and distance are not published there; ours are choices, see
`mdm_jax.config`.
"""

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

# Folded into the keys of the start and of shifts: out of reach of the step numbers, which count
# from 0.
START = 2**31


class Cost(NamedTuple):
    """Network evaluations of one image, with a gradient and without."""

    evaluations: Int[Array, ""] | int = 0
    forwards: Int[Array, ""] | int = 0


NO_COST = Cost()


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
    """Explain one image [h, w, c] in [0, 1].

    Pure, so `jit` and `vmap` over images, and sweeps of the config's leaves, apply. `target` is the
    class to explain; None or a negative number means the network's own first choice. With `trace`
    the trajectory is returned too. Raises InputError for a config that is not valid.
    """
    config = PRESETS["fast"] if config is None else config
    config.check()
    objectives.check_node(config.objective, node)
    config, start_cost = warm_start(
        predict, image, target, node=node, key=key, config=config
    )
    problem = begin(predict, image, target, node=node, key=key, fill=config.fill)
    run = solver.run_until if config.until_converged else solver.run_fixed
    state, records = run(
        make_solver(predict, problem, node=node, config=config),
        first_parameters(problem, config),
        steps=config.steps,
        key=problem.key,
        record=trace,
    )
    return finish(
        predict, problem, state, records, node=node, config=config, start_cost=start_cost
    )


def warm_start(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None,
    *,
    node: str | Node,
    key: Key[Array, ""],
    config: MDMConfig,
) -> tuple[MDMConfig, Cost]:
    """The config with the map to start from, and the map's cost, where its start is a method.

    Names of methods are resolved by `methods.resolve_start`; any other start is returned as it is.
    """
    if not callable(config.start):
        return config, NO_COST
    start = config.start(
        predict,
        image,
        target,
        # the gradient of the probability vanishes where the network is sure; that of the logit
        # does not
        node="logit" if node == "probability" else node,
        key=jax.random.fold_in(key, START),
    )
    cost = Cost(start.info.evaluations, start.info.forwards - FORWARDS)
    return replace(config, start=start.saliency), cost


def first_parameters(problem: Problem, config: MDMConfig) -> tuple[Array, ...]:
    """Parameters of the first mask vectors. Raises InputError for a start that is not valid."""
    sizes = masks.resolve_sizes(config.sizes, _size(problem.image))
    weights = config.stack_weights
    one_each = isinstance(weights, tuple | list) or np.ndim(weights)
    if one_each and len(weights) != len(sizes):
        raise InputError(
            f"{len(weights)} stack_weights for {len(sizes)} sizes: give one each"
        )
    vectors = masks.start(config.start, sizes, key=jax.random.fold_in(problem.key, START))
    encode = masks.parametrization(config.parametrization).encode
    return tuple(map(encode, vectors))


def make_solver(
    predict: Predict, problem: Problem, *, node: str | Node, config: MDMConfig
) -> solver.Solver:
    """The solver of a problem: `init(parameters)`, `step(state, key)`.

    A step costs `evaluations_per_step`.
    """
    image, target = problem.image, problem.target
    parametrization = masks.parametrization(config.parametrization)
    turns = fills.resolve_turns(config.fill)
    redraw = config.redraw_fill or len(turns) > 1
    needs_complement = _needs_complement(config)

    def background_of_step(key: Key[Array, ""], step: Int[Array, ""]) -> Image:
        if not redraw:
            return problem.background
        backgrounds = jnp.stack([fills.draw(fill, image, key=key) for fill in turns])
        return backgrounds[step % len(turns)]

    def objective(
        parameters: Any, key: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Any]]:
        vectors = tuple(map(parametrization.decode, parameters))
        view_masks = masks_of_views(vectors, _size(image), config)
        background = background_of_step(key, step)
        masked = blend(view_masks, image, background)
        inputs = masked
        if needs_complement:
            complement = blend(1.0 - view_masks, image, background)
            inputs = jnp.concatenate([masked, complement])
        if config.jitter:
            inputs = random_shift(inputs, key, config.jitter)

        # one call of the network for both halves: larger batches cost less an image
        all_outputs = predict(inputs)
        views = len(view_masks)
        outputs = jax.tree.map(lambda leaf: leaf[:views], all_outputs)
        complement_outputs = None
        if needs_complement:
            complement_outputs = jax.tree.map(lambda leaf: leaf[views:], all_outputs)

        def weigh_terms(
            mask: Array, masked: Array, outputs: Any, complement_outputs: Any
        ) -> tuple[Array, dict[str, Array]]:
            complement_activation = None
            if needs_complement:
                complement_activation = activation(node, complement_outputs, target)
            view = View(
                mask=mask,
                activation=activation(node, outputs, target),
                reference=problem.reference,
                image=image,
                masked=masked,
                outputs=outputs,
                target=target,
                fill_activation=problem.fill_activation,
                progress=step / config.steps,
                complement_activation=complement_activation,
            )
            return objectives.total(config.objective, view)

        of_views = jax.vmap(weigh_terms)(view_masks, masked, outputs, complement_outputs)
        return jax.tree.map(jnp.mean, of_views)

    optimizer = make_optimizer(config)
    # no convergence before all sizes have joined
    earliest = 0 if config.coarse_to_fine is None else config.coarse_to_fine * config.steps
    return solver.make(
        objective,
        optimizer,
        project=parametrization.project,
        tolerance=config.tolerance,
        patience=config.patience,
        earliest=earliest,
    )


def make_optimizer(config: MDMConfig) -> optax.GradientTransformation:
    """The config's optimizer, then coarse to fine and the area budget where they are asked for."""
    optimizer = config.optimizer
    if not isinstance(optimizer, optax.GradientTransformation):
        optimizer = optimizer(config.learning_rate)
    if config.coarse_to_fine is not None:
        schedule = coarse_to_fine(config.coarse_to_fine * config.steps)
        optimizer = optax.chain(optimizer, schedule)
    if config.area_budget is not None:
        optimizer = optax.chain(optimizer, area_projection(config.area_budget, config))
    return optimizer


def coarse_to_fine(steps: Scalar) -> optax.GradientTransformation:
    """Updates of the first leaf from the start, of the last after `steps`, of others in between."""

    def update(updates: Any, count: Array, parameters: Any = None) -> tuple[Any, Array]:
        del parameters
        last = max(len(updates) - 1, 1)
        joined = tuple(
            jnp.where(count >= steps * k / last, leaf, 0.0)
            for k, leaf in enumerate(updates)
        )
        return joined, count + 1

    return optax.GradientTransformation(lambda parameters: jnp.int32(0), update)


def area_projection(budget: Scalar, config: MDMConfig) -> optax.GradientTransformation:
    """Updates that leave the mean mask value at most budget^(t / T) after step t of T.

    The bound tightens step by step, because the tight one at once would hide the whole image.
    """
    project = masks.parametrization(config.parametrization).project

    def update(updates: Any, count: Array, parameters: Any = None) -> tuple[Any, Array]:
        moved = project(optax.apply_updates(parameters, updates))
        weights = masks.resolve_weights(
            config.stack_weights, [leaf.shape for leaf in moved]
        )
        bound = budget ** ((count + 1) / config.steps)
        projected = masks.project_to_area(moved, bound, config.parametrization, weights)
        return jax.tree.map(lambda new, old: new - old, projected, parameters), count + 1

    return optax.GradientTransformation(lambda parameters: jnp.int32(0), update)


def random_shift(
    images: Float[Array, "v h w c"], key: Key[Array, ""], max_pixels: int
) -> Float[Array, "v h w c"]:
    """Images shifted alike by up to `max_pixels` each way, wrapped around at the borders."""
    shift_key = jax.random.fold_in(key, START)
    offset = jax.random.randint(shift_key, (2,), -max_pixels, max_pixels + 1)
    return jnp.roll(images, offset, axis=(1, 2))


def finish(
    predict: Predict,
    problem: Problem,
    state: solver.State,
    records: solver.Record | None = None,
    *,
    node: str | Node,
    config: MDMConfig,
    start_cost: Cost = NO_COST,
) -> Explanation:
    """The explanation of a solver's last state (one forward evaluation: the masked image).

    `start_cost` is what `warm_start` spent.
    """
    decode = masks.parametrization(config.parametrization).decode
    vectors = tuple(map(decode, state.parameters))
    mask = stacked_mask(vectors, _size(problem.image), config)
    evaluations = state.evaluations * evaluations_per_step(config, len(vectors))
    info = report(
        predict,
        problem,
        mask,
        node=node,
        status=state.status,
        evaluations=evaluations + start_cost.evaluations,
        forwards=start_cost.forwards,
        objective=state.last.objective,
        terms=state.last.terms,
        steps=state.steps,
    )
    trace = None
    if records is not None:
        trajectory = tuple(map(decode, records.parameters))
        trace = Trace(trajectory, records.objective, records.terms)
    if config.smoothing is not None:
        mask = gaussian_blur(mask[..., None], config.smoothing)[..., 0]
    return Explanation(masks.normalize(mask), vectors, info, trace)


def evaluations_per_step(config: MDMConfig, sizes: int) -> int:
    """Network evaluations of one step: one per masked image, and one per complement if needed."""
    views = 1 if config.schedule == "joint" else sizes
    return 2 * views if _needs_complement(config) else views


def masks_of_views(
    vectors: masks.Vectors, shape: masks.Size, config: MDMConfig
) -> Float[Array, "v h w"]:
    """The masks that the image is seen through: the stacked one (joint), or one per size."""
    if config.schedule == "independent":
        return _rendered_masks(vectors, shape)
    return stacked_mask(vectors, shape, config)[None]


def stacked_mask(
    vectors: masks.Vectors, shape: masks.Size, config: MDMConfig
) -> Float[Array, "h w"]:
    """sum_k w_k M_k / sum_k w_k."""
    rendered = _rendered_masks(vectors, shape)
    sizes = [vector.shape for vector in vectors]
    return masks.stack(rendered, masks.resolve_weights(config.stack_weights, sizes))


def _rendered_masks(vectors: masks.Vectors, shape: masks.Size) -> Float[Array, "k h w"]:
    return jnp.stack([masks.render(vector, shape) for vector in vectors])


def _needs_complement(config: MDMConfig) -> bool:
    return any(term.needs_complement for term in config.objective)


def _size(image: Image) -> masks.Size:
    return image.shape[0], image.shape[1]
