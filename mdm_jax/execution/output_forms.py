"""What a network's program says of its outputs: how they end, and whether images are mixed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core.primitives import custom_jvp_call_p
from jaxtyping import Array

from mdm_jax.execution.dependence import equations_behind, is_literal, upstream_of
from mdm_jax.execution.interpreter import evaluate
from mdm_jax.execution.network import ImageShape, Rest, Traced, join

# A batch of so many images is looked at: a number that sizes of layers are no multiples of.
BATCH = 61

# Steps that hand on the same numbers in another form.
SAME = frozenset(
    {
        "reshape",
        "squeeze",
        "broadcast_in_dim",
        "convert_element_type",
        "copy",
        "stop_gradient",
        "transpose",
    }
)


def trace_batch(arrays: Any, rest: Rest, shape: ImageShape) -> Any:
    """The jaxpr of a network (`split` in two) for a batch, with its inner functions written out.

    Its first output are the logits, its last input the images. None where the network cannot be
    traced for such a batch."""
    images = jax.ShapeDtypeStruct((BATCH, *shape), jnp.float32)

    def call(arrays: Any, images: Array) -> Any:
        network, _ = join(list(arrays), rest)
        # the function itself, as its trace is of one image
        function = network.program.function if isinstance(network, Traced) else network
        return function(images)

    def written_out(*arguments: Any, call_jaxpr: Any, **_: Any) -> list[Any]:
        return evaluate(call_jaxpr.jaxpr, call_jaxpr.consts, arguments, rules)

    rules = {custom_jvp_call_p: written_out}
    try:
        closed = jax.make_jaxpr(call)(arrays, images)
    except Exception:  # a network of a fixed batch size may raise anything
        return None
    flat = jax.tree.leaves((arrays, images))
    inline = jax.make_jaxpr(
        lambda *inputs: evaluate(closed.jaxpr, closed.consts, inputs, rules)
    )
    return inline(*flat).jaxpr


def last_step(jaxpr: Any) -> str | None:
    """ "softmax" or "sigmoid" where the first output is one; None for any other."""
    made_by = {variable: each for each in jaxpr.eqns for variable in each.outvars}

    def origin(variable: Any) -> Any:
        """The equation that computed it; None for none."""
        while not is_literal(variable) and variable in made_by:
            equation = made_by[variable]
            if equation.primitive.name not in SAME:
                return equation
            variable = equation.invars[0]
        return None

    equation = origin(jaxpr.outvars[0])
    if equation is None:
        return None
    if equation.primitive.name == "logistic":
        return "sigmoid"
    if equation.primitive.name != "div":
        return None
    top, bottom = map(origin, equation.invars)
    names = [None if each is None else each.primitive.name for each in (top, bottom)]
    if names != ["exp", "reduce_sum"]:
        return None
    return "softmax" if origin(bottom.invars[0]) is top else None


def mixes_images(jaxpr: Any) -> bool:
    """Whether the first output of an image depends on the other images of its batch.

    Seen by a value on the way from the images to it without the axis of the batch."""
    images = jaxpr.invars[-1]
    needed = upstream_of(jaxpr, jaxpr.outvars[:1])
    for equation in equations_behind(jaxpr, images):
        for variable in needed.intersection(equation.outvars):
            if not any(size % BATCH == 0 for size in variable.aval.shape):
                return True
    return False
