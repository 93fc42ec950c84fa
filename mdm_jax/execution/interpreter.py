"""Running a traced program equation by equation, with rules of one's own for some of its
operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.extend.core.primitives import jit_p


def evaluate(
    jaxpr: Any,
    constants: Sequence[Any],
    arguments: Sequence[Any],
    rules: Mapping[Any, Callable[..., Any]] | None = None,
    passing: Callable[[Any, Any], Any] | None = None,
) -> list[Any]:
    """The outputs of a jaxpr. `rules` maps a primitive to the function that replaces it; inner
    `jit`s are inlined.

    `passing(variable, value)` sees what each equation computes, and what it returns takes the
    value's place. Literals are the atoms that hold a `val`. As in JAX's guide to writing custom
    jaxpr interpreters."""
    rules = rules or {}
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments]))

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        if equation.primitive in rules:
            outputs = rules[equation.primitive](*inputs, **equation.params)
            outputs = outputs if equation.primitive.multiple_results else [outputs]
        elif equation.primitive is jit_p:
            inner = equation.params["jaxpr"]
            outputs = evaluate(inner.jaxpr, inner.consts, inputs, rules, passing)
        else:
            outputs = equation.primitive.bind(
                *inputs, **equation.primitive.get_bind_params(equation.params)
            )
            outputs = outputs if equation.primitive.multiple_results else [outputs]
        if passing is not None:
            outputs = [
                passing(variable, value) for variable, value in zip(equation.outvars, outputs)
            ]
        values.update(zip(equation.outvars, outputs))
    return [read(atom) for atom in jaxpr.outvars]
