"""How the mask vectors of I-GOS and iGOS++ are moved: a line search, or Nesterov's steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.types import Scalar

Vectors = tuple[Float[Array, "_h _w"], ...]

OPTIMIZERS = ("line_search", "nesterov")

# Of the authors' line search: the share of the first-order decrease that is asked for, the factor
# between two rates, and the rate below which a step is taken whatever it brings.
SUFFICIENT = 1e-4
DECAY = 0.2
LEAST_RATE = 1e-5


class Loss(NamedTuple):
    """A loss of the mask vectors in iteration t; the noise is that of the iteration in both."""

    with_gradient: Callable[
        [Vectors, Int[Array, ""]], tuple[Array, dict[str, Array], Vectors]
    ]
    """the value, its terms, and the direction in which it grows"""
    alone: Callable[[Vectors, Int[Array, ""]], Array]
    """the value"""


class Descent(NamedTuple):
    """What is carried from iteration to iteration."""

    vectors: Vectors
    ahead: Vectors
    """Nesterov's last gradient step, before the momentum"""
    trials: Int[Array, ""]
    """rates that the line searches tried"""
    value: Float[Array, ""]
    terms: dict[str, Array]


def descend(
    loss: Loss,
    start: Vectors,
    *,
    iterations: int,
    optimizer: str,
    rate: Scalar,
    record: bool = False,
) -> tuple[Descent, Descent | None]:
    """The masks in [0, 1] after all iterations, in `lax.scan`; and what each began with.

    line_search: m - r grad, where r is the first of rate, rate / 5, ... whose step brings the loss
    down by r |grad|^2 / 10^4, or one below 10^-5. nesterov: n_t = m_t - rate grad, m_t+1 = n_t +
    t / (t + 3) (n_t - n_t-1)."""

    def body(carried: Descent, t: Int[Array, ""]) -> tuple[Descent, Descent | None]:
        value, terms, gradient = loss.with_gradient(carried.vectors, t)
        trials, ahead = carried.trials, carried.ahead
        if optimizer == "line_search":
            found, tried = search(
                lambda vectors: loss.alone(vectors, t),
                carried.vectors,
                gradient,
                value,
                rate=rate,
            )
            moved, trials = step(carried.vectors, gradient, found), trials + tried
        else:
            ahead = jax.tree.map(lambda m, g: m - rate * g, carried.vectors, gradient)
            share = t / (t + 3)
            moved = jax.tree.map(
                lambda new, old: jnp.clip(new + share * (new - old), 0.0, 1.0),
                ahead,
                carried.ahead,
            )
        after = Descent(moved, ahead, trials, value, terms)
        return after, after._replace(vectors=carried.vectors) if record else None

    shapes = jax.eval_shape(loss.with_gradient, start, jnp.int32(0))
    value, terms = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[:2])
    first = Descent(start, start, jnp.int32(0), value, terms)
    return jax.lax.scan(body, first, jnp.arange(iterations))


def search(
    loss: Callable[[Vectors], Array],
    vectors: Vectors,
    gradient: Vectors,
    value: Float[Array, ""],
    *,
    rate: Scalar,
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The rate of a backtracking line search, and how many it tried."""
    slope = sum((jnp.square(each).sum() for each in gradient), jnp.zeros(()))

    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        tried_rate, reached, _ = state
        enough = value - SUFFICIENT * tried_rate * slope
        return (reached > enough) & (tried_rate >= LEAST_RATE)

    def try_next(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        tried_rate, _, tried = state
        # the first is the rate itself: the network is compiled once, not for it alone
        following = jnp.where(tried == 0, tried_rate, DECAY * tried_rate)
        return following, loss(step(vectors, gradient, following)), tried + 1

    state: Any = (jnp.asarray(rate, jnp.float32), jnp.float32(jnp.inf), jnp.int32(0))
    found, _, tried = jax.lax.while_loop(goes_on, try_next, state)
    return found, tried


def step(vectors: Vectors, gradient: Vectors, rate: Scalar) -> Vectors:
    """Against the gradient, back into [0, 1]."""
    return jax.tree.map(lambda m, g: jnp.clip(m - rate * g, 0.0, 1.0), vectors, gradient)
