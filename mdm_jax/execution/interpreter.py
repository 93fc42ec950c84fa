"""Runs a traced program equation by equation, with other rules for some of its operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.extend.core.primitives import jit_p


def evaluate(
    jaxpr: Any,
    constants: Sequence[Any],
    arguments: Sequence[Any],
    rules: Mapping[Any, Callable[..., Any]] | None = None,
    intercept: Callable[[Any, Any], Any] | None = None,
) -> list[Any]:
    """The outputs of a jaxpr; inner `jit`s are inlined.

    `rules` maps a primitive to the function that replaces it. `intercept(variable, value)` is
    called with what each equation computes, and what it returns takes the value's place. Follows
    JAX's guide to custom jaxpr interpreters.
    """
    rules = rules or {}
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments]))

    def read(atom: Any) -> Any:
        # an atom is a variable, or a literal that holds its value
        return atom.val if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        if equation.primitive in rules:
            outputs = rules[equation.primitive](*inputs, **equation.params)
            outputs = outputs if equation.primitive.multiple_results else [outputs]
        elif equation.primitive is jit_p:
            inner = equation.params["jaxpr"]
            outputs = evaluate(inner.jaxpr, inner.consts, inputs, rules, intercept)
        else:
            parameters = equation.primitive.get_bind_params(equation.params)
            outputs = equation.primitive.bind(*inputs, **parameters)
            outputs = outputs if equation.primitive.multiple_results else [outputs]
        for variable, value in zip(equation.outvars, outputs):
            values[variable] = value if intercept is None else intercept(variable, value)
    return [read(atom) for atom in jaxpr.outvars]
