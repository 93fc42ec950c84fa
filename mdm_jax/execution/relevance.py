"""Relevance of a Transformer's values by gradients under other rules, without hooks.

Layer-wise relevance propagation is input times a gradient that some operations take otherwise
(Achtibat et al., arXiv 2402.05602). In a traced network these are few kinds of equations:

    a product of two values that depend on the image   the gradient halved, for each its half
                                                       (attention times values, queries times keys)
    1 / standard deviation of a norm                   a constant
    the gate of x * gate(x) (GELU, SiLU)               a constant: the relevance goes to x alone

All else, softmax and linear layers, keep their own gradient (a softmax's is its deep Taylor rule).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mdm_jax.execution.dependence import equations_on_the_way, variables
from mdm_jax.execution.gradients import require_gradient
from mdm_jax.execution.intermediates import TracedNetwork, run
from mdm_jax.types import Image

# Of norms, and of gates.
CONSTANT = frozenset({"rsqrt", "sqrt", "erf", "erfc", "tanh", "logistic"})
PRODUCTS = frozenset({"dot_general", "mul"})

Change = Callable[[Array], Array]


def rules(program: TracedNetwork) -> dict[Any, Change]:
    """The variables whose gradient follows another rule, and how.

    Raises InputError for equations that hide others.
    """
    depends = set(program.jaxpr.invars)
    changes: dict[Any, Change] = {}
    for equation in equations_on_the_way(program.jaxpr, program.upstream):
        inputs = [atom for atom in variables(equation.invars) if atom in depends]
        if not inputs:
            continue
        (first, *_) = equation.outvars
        if equation.primitive.name in CONSTANT:
            changes[first] = lax.stop_gradient
            continue
        if equation.primitive.name in PRODUCTS and len(inputs) == 2:
            changes[first] = halve_gradient
        depends.update(equation.outvars)
    return changes


def halve_gradient(value: Array) -> Array:
    """The value, with half its gradient."""
    return 0.5 * value + lax.stop_gradient(0.5 * value)


def at_pixels(
    program: TracedNetwork, image: Image, score: Callable[[Any], Float[Array, ""]]
) -> Float[Array, "h w c"]:
    """The gradient d score / d image under the rules, to be multiplied by the image.

    One forward and one backward pass. Raises InputError as `rules`.
    """
    changes = rules(program)

    def scored(image: Image) -> Array:
        outputs, _ = run(program, image, changes)
        return score(jax.tree.map(lambda leaf: leaf[0], outputs))

    return jax.grad(scored)(image)


def at_tokens(
    program: TracedNetwork,
    image: Image,
    tokens: Any,
    score: Callable[[Any], Float[Array, ""]],
) -> Float[Array, "t k"]:
    """The relevance of a variable [1, t, k]: its value times d score / d value under the rules.

    One forward and one backward pass. Raises InputError as `rules`.
    """
    changes = rules(program)

    def tapped(tap: Array) -> tuple[Array, Array]:
        outputs, known = run(program, image, changes | {tokens: partial(jnp.add, tap)})
        value = score(jax.tree.map(lambda leaf: leaf[0], outputs))
        return value, known[tokens]

    tap = jnp.zeros(tokens.aval.shape, tokens.aval.dtype)
    require_gradient(lambda tap: tapped(tap)[0], tap, "the tokens")
    gradient, value = jax.grad(tapped, has_aux=True)(tap)
    return (value * gradient)[0]
