"""The solver: optax on one problem, with convergence and failure as data.

`make(...)` returns a pair of pure functions, `init(parameters) -> State` and `step(state, key) ->
(State, Record)`; `run_fixed` and `run_until` drive them. All are written for ONE problem: `vmap`
solves many, and what happens to one leaves the others untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from mdm_jax.execution.convolutions import canonical
from mdm_jax.execution.keys import step_keys
from mdm_jax.types import Scalar, Status

Tree = TypeVar("Tree")

# `objective(parameters, key, step) -> (value, terms)`; steps count from 0.
Objective = Callable[
    [PyTree, Key[Array, ""], Int[Array, ""]], tuple[Float[Array, ""], dict[str, Any]]
]


class State(NamedTuple):
    """What is carried from step to step."""

    parameters: PyTree
    optimizer: optax.OptState
    first_value: Float[Array, ""]
    """objective at the start, the scale of the tolerance"""
    reference_value: Float[Array, ""]
    """objective when it last improved by the tolerance"""
    steps_without_improvement: Int[Array, ""]
    steps: Int[Array, ""]
    evaluations: Int[Array, ""]
    """objective-and-gradient evaluations, those of a line search included"""
    status: Int[Array, ""]
    last: Record
    """what the latest step evaluated"""
    best: Record
    """the lowest objective so far and where it was"""


class Record(NamedTuple):
    """What one step evaluated, at the parameters it began with."""

    parameters: PyTree
    objective: Float[Array, ""]
    terms: dict[str, Any]


class Solver(NamedTuple):
    """A pair of pure functions, in the manner of optax."""

    init: Callable[[PyTree], State]
    step: Callable[[State, Key[Array, ""]], tuple[State, Record]]


def make(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    project: Callable[[PyTree], PyTree] = lambda parameters: parameters,
    tolerance: Scalar = 1e-3,
    patience: int = 5,
    earliest: Scalar = 0,
    tells_terms: bool = False,
) -> Solver:
    """A solver of one problem by any optax optimizer.

    `project` maps parameters back to the feasible set. A step that meets a NaN or infinity keeps
    the parameters and sets `Status.NOT_FINITE` for good. A problem has converged when for
    `patience` steps after step `earliest` the objective has not fallen by `tolerance` times its
    value at the start. With `tells_terms` the optimizer's update is given the `terms` of the step,
    which a line search would not take.
    """
    optimizer = optax.with_extra_args_support(optimizer)
    value_and_gradient = canonical(jax.value_and_grad(objective, has_aux=True))

    def init(parameters: PyTree) -> State:
        shapes = jax.eval_shape(objective, parameters, jax.random.key(0), jnp.int32(0))
        not_evaluated = jax.tree.map(
            lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), shapes
        )
        return State(
            parameters=parameters,
            optimizer=optimizer.init(parameters),
            first_value=jnp.inf * jnp.ones(()),
            reference_value=jnp.inf * jnp.ones(()),
            steps_without_improvement=jnp.int32(0),
            steps=jnp.int32(0),
            evaluations=jnp.int32(0),
            status=jnp.int32(Status.OUT_OF_STEPS),
            last=Record(parameters, *not_evaluated),
            best=Record(parameters, *not_evaluated),
        )

    def step(state: State, key: Key[Array, ""]) -> tuple[State, Record]:
        (value, terms), gradient = value_and_gradient(state.parameters, key, state.steps)
        updates, optimizer_state = optimizer.update(
            gradient,
            state.optimizer,
            state.parameters,
            value=value,
            grad=gradient,
            **({"terms": terms} if tells_terms else {}),
            value_fn=lambda parameters: objective(parameters, key, state.steps)[0],
        )
        parameters = project(optax.apply_updates(state.parameters, updates))
        record = Record(state.parameters, value, terms)

        first_value = jnp.where(state.steps == 0, value, state.first_value)
        is_early = state.steps <= earliest
        enough = state.reference_value - tolerance * jnp.abs(first_value)
        improved = is_early | (value < enough)
        steps_without = jnp.where(improved, 0, state.steps_without_improvement + 1)
        status = jnp.where(
            steps_without >= patience,
            jnp.int32(Status.CONVERGED),
            jnp.int32(Status.OUT_OF_STEPS),
        )
        after = State(
            parameters=parameters,
            optimizer=optimizer_state,
            first_value=first_value,
            reference_value=jnp.where(improved, value, state.reference_value),
            steps_without_improvement=steps_without,
            steps=state.steps + 1,
            evaluations=state.evaluations + 1 + _line_search_evaluations(optimizer_state),
            status=status,
            last=record,
            best=select(
                (state.steps == 0) | (value < state.best.objective), record, state.best
            ),
        )
        failed = state._replace(
            status=jnp.int32(Status.NOT_FINITE), evaluations=state.evaluations + 1
        )
        # a problem that failed once stays failed, even if its next value is finite again
        is_finite = _all_finite((value, gradient, parameters))
        succeeded = is_finite & (state.status != Status.NOT_FINITE)
        return select(succeeded, after, failed), record

    return Solver(init, step)


def run_fixed(
    solver: Solver,
    parameters: PyTree,
    *,
    steps: int,
    key: Key[Array, ""],
    record: bool = False,
) -> tuple[State, Record | None]:
    """Exactly `steps` steps by `lax.scan`.

    With `record`, every step's `Record` too, stacked along a leading axis.
    """

    def body(state: State, step_key: Key[Array, ""]) -> tuple[State, Record | None]:
        state, each = solver.step(state, step_key)
        return state, each if record else None

    return jax.lax.scan(body, solver.init(parameters), step_keys(key, steps))


def run_until(
    solver: Solver,
    parameters: PyTree,
    *,
    steps: int,
    key: Key[Array, ""],
    record: bool = False,
) -> tuple[State, Record | None]:
    """Until converged or not finite, at most `steps` steps; ends at the lowest objective met.

    Runs in `lax.while_loop`, or, where a record is wanted, in `lax.scan`: entries after the last
    step repeat it.
    """
    keys = step_keys(key, steps)

    def step_and_record(state: State, step_key: Key[Array, ""]) -> tuple[State, Record]:
        continues = should_continue(state, steps)
        after = select(continues, solver.step(state, step_key)[0], state)
        return after, after.last

    state = solver.init(parameters)
    if record:
        state, records = jax.lax.scan(step_and_record, state, keys)
    else:
        state = jax.lax.while_loop(
            lambda state: should_continue(state, steps),
            lambda state: solver.step(state, keys[state.steps])[0],
            state,
        )
        records = None
    return restore_best(state), records


def should_continue(
    state: State, steps: int, *, until_converged: bool = True
) -> Bool[Array, ""]:
    """Whether a problem is neither out of steps nor failed nor, where that ends it, converged."""
    if until_converged:
        unfinished = state.status == Status.OUT_OF_STEPS
    else:
        unfinished = state.status != Status.NOT_FINITE
    return unfinished & (state.steps < steps)


def select(condition: Bool[Array, ""], yes: Tree, no: Tree) -> Tree:
    """One of two pytrees, by a condition that is traced."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def restore_best(state: State) -> State:
    """The state with the parameters of the lowest objective met."""
    return state._replace(parameters=state.best.parameters, last=state.best)


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))


def _line_search_evaluations(state: optax.OptState) -> Int[Array, ""] | int:
    """Evaluations of the step's line search (as of `optax.lbfgs`), zero for other optimizers."""
    counts = optax.tree.get_all_with_path(state, "num_linesearch_steps")
    return sum((count for _, count in counts), jnp.int32(0))
