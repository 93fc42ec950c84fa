"""One image's MDM problem, solved a few steps at a time, so that the way can be watched.

The steps, their keys and the answer are those of `mdm_jax.explain`; the last bits may differ, as
these are other programs. Three of them are compiled for each structure of network and settings.
Numbers, such as `kept_share` and the weights of the objective, are their arguments, so another
number compiles nothing."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from mdm_jax import explain_batch, masks, mdm, methods, nodes, solver
from mdm_jax.config import PRESETS, MDMConfig
from mdm_jax.errors import InputError
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.execution.keys import as_key, id_numbers, step_key
from mdm_jax.execution.network import Rest, as_network, join, split
from mdm_jax.methods import ConfiguredMethod
from mdm_jax.network_checks import check_network
from mdm_jax.problem import Problem, begin, check_targets, with_empty_named
from mdm_jax.size_sequence import sizes_of_steps
from mdm_jax.types import AnyArray, Explanation, Node, Predict


class Question(NamedTuple):
    """What is explained."""

    predict: Predict
    image: np.ndarray
    """float32 [h, w, c] in [0, 1]"""
    name: str
    """of the image, from which its random key comes"""
    target: int
    node: str | Node
    seed: int = 0


class Progress(NamedTuple):
    """The masks after some steps."""

    step: int
    steps: int
    mask_vectors: tuple[np.ndarray | None, ...]
    """in [0, 1], coarse ones first; None for a size whose turn has not come"""
    mask: np.ndarray
    """[h, w], what the image is seen through at this step"""
    kept: float | None
    """the share of the activation that the last step kept, where the schedule says so"""


# Whoever takes no more from it stops the solver.
Steps = Generator[Progress | Explanation, None, None]


class Underway(NamedTuple):
    """What the compiled programs hand on."""

    problem: Problem
    state: solver.State
    start_cost: mdm.Cost


@jax.jit
def class_probabilities(predict: Predict, image: Array) -> Array:
    """The probability of each class on an image [h, w, c]."""
    outputs = jax.tree.map(lambda leaf: leaf[0], predict(image[None]))
    return jax.nn.softmax(nodes.logits_of(outputs))


def learn(question: Question, method: ConfiguredMethod, every: int = 1) -> Steps:
    """Solve by MDM: the masks at the start and after every so many steps, then the explanation.

    Raises InputError for what `mdm_jax.explain`
    would refuse."""
    if method.name != "mdm":
        raise InputError(f"{method.label} does not learn step by step: choose mdm")
    config = PRESETS["fast"] if method.config is None else method.config
    # left before each yield: what holds between them is the caller's
    with own_settings():
        arrays, rest, target, key = _prepare(question, config)
        image = jnp.asarray(question.image)
        shape = question.image.shape[:2]
        underway = start(arrays, rest, image, target, key)
        progress = _progress(underway.state, config, shape)
    yield progress
    while _should_continue(underway.state, config):
        with own_settings():
            underway = advance(arrays, rest, underway, jnp.int32(every))
            progress = _progress(underway.state, config, shape)
        yield progress
    with own_settings():
        explanation = jax.tree.map(np.asarray, end(arrays, rest, underway))
    yield explanation


def solve(question: Question, method: ConfiguredMethod, every: int = 1) -> Steps:
    """`learn` for MDM; the explanation alone, at once, for any other method."""
    if method.name == "mdm":
        yield from learn(question, method, every)
        return
    explanation = explain_batch.explain(
        question.predict,
        question.image[None],
        [question.target],
        method=method,
        node=question.node,
        key=question.seed,
        ids=[question.name],
    )
    yield jax.tree.map(lambda leaf: leaf[0], explanation)


def _prepare(
    question: Question, config: MDMConfig
) -> tuple[list[Any], Rest, Int[Array, ""], Key[Array, ""]]:
    """Network, node and config in arrays and a static rest; the target and the key."""
    height, width, channels = question.image.shape
    shape = (height, width, channels)
    node, config = methods.resolve_references(question.node, config)
    network, outputs = as_network(question.predict, shape)
    (target,) = check_targets(question.target, 1, outputs, node)
    network = check_network(network, node, shape)
    config = jax.tree.map(
        lambda leaf: np.float32(leaf) if isinstance(leaf, float | int) else leaf, config
    )
    arrays, rest = split((network, node, config))
    (number,) = id_numbers([question.name])
    key = jax.random.fold_in(as_key(question.seed), number)
    return arrays, rest, jnp.int32(target), key


@partial(jax.jit, static_argnums=1)
def start(
    arrays: list[Any],
    rest: Rest,
    image: AnyArray,
    target: Int[Array, ""],
    key: Key[Array, ""],
) -> Underway:
    """The problem before its first step."""
    network, node, config = join(arrays, rest)
    how: dict[str, Any] = {"node": node, "key": key}
    started, start_cost = mdm.warm_start(network, image, target, config=config, **how)
    problem = begin(network, image, target, fill=config.fill, **how)
    method = mdm.make_solver(network, problem, node=node, config=started)
    state = method.init(mdm.first_parameters(problem, started))
    underway = Underway(problem, state, jax.tree.map(jnp.int32, start_cost))
    # without weak types, which a step would take away: `advance` would be compiled twice
    return jax.tree.map(_with_strong_type, underway)


def _with_strong_type(leaf: Array) -> Array:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.lax.convert_element_type(leaf, leaf.dtype)


@partial(jax.jit, static_argnums=1)
def advance(
    arrays: list[Any], rest: Rest, underway: Underway, count: Int[Array, ""]
) -> Underway:
    """Take so many steps, or as many as there are left."""
    network, node, config = join(arrays, rest)
    problem, state, _ = underway
    method = mdm.make_solver(network, problem, node=node, config=config)
    last = state.steps + count

    def should_continue(state: solver.State) -> Array:
        is_unfinished = solver.should_continue(
            state, config.steps, until_converged=config.until_converged
        )
        return is_unfinished & (state.steps < last)

    state = jax.lax.while_loop(
        should_continue,
        lambda state: method.step(state, step_key(problem.key, state.steps))[0],
        state,
    )
    return underway._replace(state=state)


@partial(jax.jit, static_argnums=1)
def end(arrays: list[Any], rest: Rest, underway: Underway) -> Explanation:
    """The explanation of the last state."""
    network, node, config = join(arrays, rest)
    problem, state, start_cost = underway
    if config.until_converged:
        state = solver.restore_best(state)
    explanation = mdm.finish(
        network, problem, state, node=node, config=config, start_cost=start_cost
    )
    return with_empty_named(explanation)


def _should_continue(state: solver.State, config: MDMConfig) -> bool:
    return bool(
        solver.should_continue(state, config.steps, until_converged=config.until_converged)
    )


def _progress(state: solver.State, config: MDMConfig, shape: tuple[int, int]) -> Progress:
    decode = masks.parametrization(config.parametrization).decode
    step = int(state.steps)
    if config.schedule != "sequence":
        vectors = tuple(map(decode, state.parameters))
        mask = mdm.stacked_mask(vectors, shape, config)
        shown = tuple(np.asarray(vector) for vector in vectors)
        return Progress(step, config.steps, shown, np.asarray(mask), None)
    current = tuple(map(decode, state.parameters.vectors))
    best = tuple(map(decode, state.optimizer.best))
    # the size that the last step worked on; before the first one, the coarsest
    active = sizes_of_steps(len(current), config.steps)[max(step - 1, 0)]
    known = [*best[:active], current[active]]
    later = [None] * (len(current) - len(known))
    shown = tuple(np.asarray(vector) for vector in known)
    mask = masks.render(current[active], shape)
    kept = float(state.last.terms["kept"]) if step else None
    return Progress(step, config.steps, (*shown, *later), np.asarray(mask), kept)
