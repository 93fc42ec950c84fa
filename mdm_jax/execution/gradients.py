"""Whether a function has a gradient, and networks without one.

Nothing is computed to find out: where an output does not depend differentiably on the input, JAX
hands a symbolic zero on instead of an array of zeros."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

from mdm_jax.errors import InputError, reason_of
from mdm_jax.execution.dependence import primitives, upstream_of
from mdm_jax.types import Predict

# Primitives whose derivative is zero, the likeliest causes first: a softmax has a `stop_gradient`,
# a ReLU a comparison.
FLAT = (
    ("round", "floor", "ceil", "sign", "argmax", "argmin"),
    ("stop_gradient",),
    ("gt", "ge", "lt", "le", "eq", "ne"),
)
REMEDY = (
    "explain the network without that, or use a method without gradients, such as rise or"
    " occlusion"
)


def why_no_gradient(
    function: Callable[..., Array], argument: Any, *others: Any
) -> str | None:
    """Why the gradient of `function` by its first argument is zero everywhere or cannot be taken.

    None where it can. `function` gives an array of real numbers; arguments may be shapes. Raises
    what `function` raises."""
    reached = []

    @jax.custom_jvp
    def probe(values: Array) -> Array:
        return values

    def observe(primals: Any, tangents: Any) -> tuple[Array, Any]:
        reached.append(not isinstance(tangents[0], SymbolicZero))
        return primals[0], tangents[0]

    probe.defjvp(observe, symbolic_zeros=True)

    def observed(*arguments: Any) -> Array:
        return probe(function(*arguments)).sum()

    closed = jax.make_jaxpr(function)(argument, *others)
    try:
        jax.eval_shape(jax.grad(observed), argument, *others)
    except Exception as error:  # a rule of differentiation may raise anything
        return f"cannot be differentiated ({reason_of(error).rstrip('.')})"
    if any(reached):
        return None
    inputs = closed.jaxpr.invars[: len(jax.tree.leaves(argument))]
    if upstream_of(closed.jaxpr, closed.jaxpr.outvars).isdisjoint(inputs):
        return (
            "gives the same activation for every image and its fill (it looks at neither)"
        )
    found = {each.name for each in primitives(closed.jaxpr)}
    causes = [[name for name in names if name in found] for names in FLAT]
    named = ", ".join(next(filter(None, causes), ["a conversion to whole numbers"]))
    return f"passes no gradient on (its output hangs on the image through {named} alone)"


def require_gradient(function: Callable[[Any], Array], argument: Any, what: str) -> None:
    """Raises InputError where `function` has no gradient by its argument, which is `what`."""
    reason = why_no_gradient(function, argument)
    if reason is not None:
        raise InputError(f"behind {what} the network {reason}: {REMEDY}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WithoutGradient:
    """A network that can be evaluated and not be differentiated, which raises InputError."""

    network: Predict
    reason: str = field(metadata={"static": True})

    def __call__(self, images: Array, **options: Any) -> Any:
        return self.network(self.gate(images), **options)

    def gate(self, images: Array) -> Array:
        """The images, whose gradient is refused."""

        @jax.custom_jvp
        def same(images: Array) -> Array:
            return images

        @same.defjvp
        def refuse(primals: Any, tangents: Any) -> Any:
            raise InputError(self.reason)

        return same(images)
