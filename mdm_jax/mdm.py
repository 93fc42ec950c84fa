"""Multiple Dynamic Masks (MDM), assembled from masks, fills, nodes, objectives and the solver.

Reads top to bottom like the equations. For one image x, network f, node g, fill b and reference
activation a = g(f(x)):

    M_k = U_k(V_k)                                  rendered masks
    x_k = M_k * x + (1 - M_k) * b(x)                masked images
    L_k = D(g(f(x_k)), a) + area_weight * mean(M_k) activation consistency + constraint on the mask
    saliency = normalize(sum_k w_k M_k)             stacked masks

The default schedule `sequence` takes the sizes one after another, each as small as a share of the
activation allows (`size_sequence`), and its map adds what the gradients said on the way
(`evidence`). `independent` minimizes the mean of the L_k; `joint` has a single masked image, seen
through the stacked mask.

Source: Peng, Yang, Liu, He, "Multiple Dynamic Masks", arXiv 2207.08046. Sizes, weights, optimizer,
steps, fill, parametrization and distance are not published there; ours are choices, see
`mdm_jax.config`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from mdm_jax import evidence, mask_updates, masks, nodes, objectives, size_sequence, solver
from mdm_jax.config import PRESETS, MDMConfig
from mdm_jax.errors import InputError
from mdm_jax.execution.chunked import map_over
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.images import gaussian_blur
from mdm_jax.masked_views import objective_of_views
from mdm_jax.problem import FORWARDS, Problem, activation, begin, blend, report
from mdm_jax.size_sequence import Unknowns
from mdm_jax.types import Explanation, Image, Node, Predict, Status, Trace
from mdm_jax.view import kept_share

# Folded into the keys of the start and of shifts: out of reach of the step numbers, which count
# from 0.
START = 2**31


# Masks at a time that calibrate a map: a batch is faster than one by one, on every device.
LEVELS_AT_A_TIME = 4


class Cost(NamedTuple):
    """Network evaluations of one image, with a gradient and without."""

    evaluations: Int[Array, ""] | int = 0
    forwards: Int[Array, ""] | int = 0


NO_COST = Cost()


@own_settings()
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


def first_parameters(problem: Problem, config: MDMConfig) -> tuple[Array, ...] | Unknowns:
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
    encoded = tuple(map(encode, vectors))
    if config.schedule == "sequence":
        size_sequence.sizes_of_steps(len(sizes), config.steps)  # raises for too few steps
        return Unknowns(encoded, jnp.zeros(_size(problem.image)))
    return encoded


def make_solver(
    predict: Predict, problem: Problem, *, node: str | Node, config: MDMConfig
) -> solver.Solver:
    """The solver of a problem: `init(parameters)`, `step(state, key)`.

    A step costs `evaluations_per_step`.
    """
    if config.schedule == "sequence":
        return _sequence_solver(predict, problem, node=node, config=config)
    parametrization = masks.parametrization(config.parametrization)
    weigh = objective_of_views(predict, problem, node=node, config=config)

    def objective(
        parameters: Any, key: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Any]]:
        vectors = tuple(map(parametrization.decode, parameters))
        view_masks = masks_of_views(vectors, _size(problem.image), config)
        return weigh(view_masks, view_masks, key, step)

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


def _sequence_solver(
    predict: Predict, problem: Problem, *, node: str | Node, config: MDMConfig
) -> solver.Solver:
    """The solver of the schedule `sequence`, see `size_sequence`."""
    parametrization = masks.parametrization(config.parametrization)
    shape = _size(problem.image)
    weigh = objective_of_views(predict, problem, node=node, config=config, tells_kept=True)

    def objective(
        unknowns: Unknowns, key: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Any]]:
        through, itself = size_sequence.seen_mask(
            unknowns, parametrization, step, config.steps, shape
        )
        return weigh(through[None], itself[None], key, step)

    transformation = size_sequence.transformation(
        make_optimizer(config),
        parametrization,
        steps=config.steps,
        shape=shape,
        kept_share=config.kept_share,
        weight_rate=config.weight_rate,
        rate_power=config.rate_power,
    )
    return solver.make(
        objective,
        transformation,
        project=size_sequence.projection(parametrization),
        tells_terms=True,
    )


def make_optimizer(config: MDMConfig) -> optax.GradientTransformation:
    """The config's optimizer, then coarse to fine and the area budget where they are asked for."""
    optimizer = config.optimizer
    if not isinstance(optimizer, optax.GradientTransformation):
        optimizer = optimizer(config.learning_rate)
    if config.coarse_to_fine is not None:
        schedule = mask_updates.coarse_to_fine(config.coarse_to_fine * config.steps)
        optimizer = optax.chain(optimizer, schedule)
    if config.area_budget is not None:
        optimizer = optax.chain(
            optimizer, mask_updates.area_projection(config.area_budget, config)
        )
    return optimizer


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
    in_sequence = config.schedule == "sequence"
    answer = state.optimizer.best if in_sequence else state.parameters
    vectors = tuple(map(decode, answer))
    mask = stacked_mask(vectors, _size(problem.image), config)
    evaluations = state.evaluations * evaluations_per_step(config, len(vectors))
    terms = state.last.terms
    if in_sequence:
        names = (f"kept_{height}x{width}" for height, width in (v.shape for v in vectors))
        terms = terms | dict(zip(names, state.optimizer.best_kept))
    found: dict[str, Any] = {}
    forwards = start_cost.forwards
    if in_sequence:
        found["evidence"] = state.parameters.evidence
    status = state.status
    if config.shows_evidence:
        kept = _kept_through(predict, problem, node)
        shown, found["ranking"] = evidence.maps(
            _shown(mask, config), found["evidence"], kept
        )
        forwards += len(evidence.LEVELS)
        # calibration sees images that no step saw
        is_finite = jnp.isfinite(shown).all()
        found["ranking"] = jnp.where(is_finite, found["ranking"], jnp.nan)
        status = jnp.where(is_finite, status, jnp.int32(Status.NOT_FINITE))
    info = report(
        predict,
        problem,
        mask,
        node=node,
        status=status,
        evaluations=evaluations + start_cost.evaluations,
        forwards=forwards,
        must_keep=True,
        objective=state.last.objective,
        terms=terms,
        steps=state.steps,
    )
    if config.shows_evidence:
        # rounding has a direction too: what says nothing must not become a map at full contrast
        has_none = ~found["evidence"].any() & (info.status != Status.NOT_FINITE)
        says_nothing = (info.status == Status.CONSTANT) | has_none
        shown = jnp.where(says_nothing, 0.0, shown)
        found = {name: jnp.where(says_nothing, 0.0, a_map) for name, a_map in found.items()}
    else:
        # after the report, so that programs of older presets stay as they were
        shown = _shown(mask, config)
    trace = None
    if records is not None:
        steps_taken = records.parameters.vectors if in_sequence else records.parameters
        trajectory = tuple(map(decode, steps_taken))
        trace = Trace(trajectory, records.objective, records.terms)
    return Explanation(shown, vectors, info, trace, **found)


def _kept_through(
    predict: Predict, problem: Problem, node: str | Node
) -> Callable[[Float[Array, "n h w"]], Float[Array, " n"]]:
    """The part of the activation that the image keeps through each of some masks."""

    def kept(mask: Float[Array, "h w"]) -> Float[Array, ""]:
        inputs = blend(mask[None], problem.image, problem.background)
        outputs = jax.tree.map(lambda leaf: leaf[0], predict(inputs))
        of_mask = activation(node, outputs, problem.target)
        return kept_share(
            of_mask, problem.reference, problem.fill_activation, nodes.direction(node)
        )

    return lambda masks_shown: map_over(kept, masks_shown, LEVELS_AT_A_TIME)


def _shown(mask: Float[Array, "h w"], config: MDMConfig) -> Float[Array, "h w"]:
    """The stacked mask as a map: smoothed where the config says so, and in [0, 1]."""
    if config.smoothing is not None:
        mask = gaussian_blur(mask[..., None], config.smoothing)[..., 0]
    return masks.normalize(mask)


def evaluations_per_step(config: MDMConfig, sizes: int) -> int:
    """Network evaluations of one step: one per masked image, and one per complement if needed."""
    views = sizes if config.schedule == "independent" else 1
    return 2 * views if objectives.need_complement(config.objective) else views


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


def _size(image: Image) -> masks.Size:
    return image.shape[0], image.shape[1]
