"""What depends on what in a traced program, and what cannot be seen in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax

from mdm_jax.errors import InputError

# Operations that hold equations of their own, which a look at the program's equations misses.
# (Those inside of a ReLU, a `custom_jvp_call`, have no weights.)
HIDING = frozenset(
    {"checkpoint", "remat2", "scan", "while", "cond", "custom_vjp_call", "shard_map"}
)


def is_literal(atom: Any) -> bool:
    """Whether an atom of a jaxpr is a number written in it, and no variable."""
    return hasattr(atom, "val")


def variables(atoms: Iterable[Any]) -> list[Any]:
    """The atoms that are variables."""
    return [atom for atom in atoms if not is_literal(atom)]


def primitives(jaxpr: Any) -> Iterator[Any]:
    """The primitives of a program, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation.primitive
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(inner):
                yield from primitives(getattr(inner, "jaxpr", inner))


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns")


def upstream_of(jaxpr: Any, outputs: list[Any]) -> frozenset[Any]:
    """The variables that `outputs` depend on, themselves included."""
    needed = set(variables(outputs))
    for equation in reversed(jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            needed.update(variables(equation.invars))
    return frozenset(needed)


def equations_behind(jaxpr: Any, start: Any) -> list[Any]:
    """The equations that depend on the variable `start`, in order."""
    behind, equations = {start}, []
    for equation in jaxpr.eqns:
        if not behind.isdisjoint(variables(equation.invars)):
            behind.update(equation.outvars)
            equations.append(equation)
    return equations


def equations_on_the_way(jaxpr: Any, needed: frozenset[Any]) -> list[Any]:
    """The equations from the image to the variables `needed`, in order.

    Raises InputError where one of them hides equations: a loop, a checkpoint, a custom gradient.
    """
    (image,) = jaxpr.invars
    equations = [
        equation
        for equation in equations_behind(jaxpr, image)
        if not needed.isdisjoint(equation.outvars)
    ]
    hiding = sorted({each.primitive.name for each in equations} & HIDING)
    if hiding:
        raise InputError(
            f"the network computes inside of a {hiding[0]}, where this method cannot see what it"
            " does: write it without loops and custom gradients, and build it without remat"
        )
    return equations
