"""Runs a traced program equation by equation, with other rules for some of its operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.extend.core.primitives import jit_p

from mdm_jax.execution.dependence import primitives


def evaluate(
    jaxpr: Any,
    constants: Sequence[Any],
    arguments: Sequence[Any],
    rules: Mapping[Any, Callable[..., Any]] | None = None,
    intercept: Callable[[Any, Any], Any] | None = None,
    *,
    whole: str | None = None,
) -> list[Any]:
    """The outputs of a jaxpr; inner `jit`s are inlined.

    `rules` maps a primitive to the function that replaces it. `intercept(variable, value)` is
    called with what each equation computes, and what it returns takes the value's place. `whole` is
    the name of functions whose `jit` stays where no rule concerns it: JAX differentiates, batches
    and lowers such a function once, however often it is called. Follows JAX's guide to custom jaxpr
    interpreters.
    """
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments]))
    return evaluate_equations(
        jaxpr.eqns, values, jaxpr.outvars, rules, intercept, whole=whole
    )


def evaluate_equations(
    equations: Sequence[Any],
    values: dict[Any, Any],
    outputs: Sequence[Any],
    rules: Mapping[Any, Callable[..., Any]] | None = None,
    intercept: Callable[[Any, Any], Any] | None = None,
    *,
    whole: str | None = None,
) -> list[Any]:
    """The values of the atoms `outputs` after some equations of a jaxpr, see `evaluate`.

    `values` maps variables to what is known before; those that the equations compute are added.
    """
    rules = rules or {}

    def read(atom: Any) -> Any:
        # an atom is a variable, or a literal that holds its value
        return atom.val if hasattr(atom, "val") else values[atom]

    for equation in equations:
        inputs = [read(atom) for atom in equation.invars]
        if equation.primitive in rules:
            results = rules[equation.primitive](*inputs, **equation.params)
            results = results if equation.primitive.multiple_results else [results]
        elif equation.primitive is jit_p and not _stays(equation, whole, rules):
            inner = equation.params["jaxpr"]
            results = evaluate(
                inner.jaxpr, inner.consts, inputs, rules, intercept, whole=whole
            )
        else:
            parameters = equation.primitive.get_bind_params(equation.params)
            results = equation.primitive.bind(*inputs, **parameters)
            results = results if equation.primitive.multiple_results else [results]
        for variable, value in zip(equation.outvars, results):
            values[variable] = value if intercept is None else intercept(variable, value)
    return [read(atom) for atom in outputs]


def _stays(equation: Any, whole: str | None, rules: Mapping[Any, Any]) -> bool:
    """Whether an inner `jit` has the name, and no operation that has a rule."""
    if equation.params["name"] != whole:
        return False
    return not any(each in rules for each in primitives(equation.params["jaxpr"].jaxpr))
