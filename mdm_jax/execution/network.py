"""From any callable to a pytree, whose weights are arguments of the compiled program.

As constants in the program, new weights would need a new compilation. `as_network(predict, shape)`
gives a callable pytree: modules (Flax NNX, Equinox, `jax.tree_util.Partial`) already are one; a
plain function is traced once and what it closes over becomes its leaves. `split` and `join` then
part any pytree into arrays, which `jit` takes as arguments, and a hashable rest, which it takes as
static. They are equinox's `partition` and `combine` with a rest that hashes; equinox itself is
needed by the tests only and no dependency of the package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.errors import TraceContextError
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jaxtyping import Array, PyTree

from mdm_jax.errors import InputError, reason_of
from mdm_jax.execution.interpreter import evaluate
from mdm_jax.types import Predict

ImageShape = tuple[int, int, int]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Traced:
    """A function that was traced for one image.

    Two traces have equal programs when they are of the same function and text, so tracing again
    after the weights have changed costs no compilation and never uses old weights.
    """

    constants: list[Any]
    """the arrays that the function closed over"""
    program: Program = field(metadata={"static": True})

    def __call__(self, images: Array) -> Any:
        def one(image: Array) -> list[Array]:
            closed = ClosedJaxpr(self.program.jaxpr, self.constants)
            return [_narrow(leaf[0]) for leaf in jaxpr_as_fun(closed)(image[None])]

        return jax.tree.unflatten(self.program.outputs, jax.vmap(one)(images))


@dataclass(frozen=True)
class Program:
    """The static part of a trace."""

    function: Predict
    text: str
    """of the jaxpr, which tells two programs apart"""
    outputs: Any
    """tree of the outputs"""
    jaxpr: Any = field(compare=False)


def as_network(predict: Any, shape: ImageShape) -> tuple[Predict, PyTree]:
    """The network as a callable pytree, and the shapes of its outputs for one image of `shape`.

    The shapes have no batch axis. NNX modules are viewed in inference mode (running averages, no
    dropout). Raises InputError when the network does not accept such images, cannot be traced by
    JAX, or does not return the batch as the leading axis.
    """
    if not callable(predict):
        raise InputError(
            f"predict is a {type(predict).__name__}: give a function of images [n, h, w, c], or a"
            " module"
        )
    if isinstance(predict, nnx.Module):
        predict = nnx.view(
            predict, deterministic=True, use_running_average=True, raise_if_not_found=False
        )
    if is_pytree(predict):
        predict = _narrow_leaves(predict)
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    closed = None
    try:
        if is_pytree(predict):
            outputs = jax.eval_shape(predict, example)
        else:
            closed, outputs = _trace(predict, example)
    except jax.errors.TracerArrayConversionError as error:
        raise InputError(
            "predict leaves JAX (it turns its input into a NumPy array): write it with jax.numpy"
        ) from error
    except TraceContextError as error:
        raise InputError(
            "the network changes its own state when called: call model.eval() or pass the module"
        ) from error
    except Exception as error:  # a network of yours may raise anything on the wrong input
        reason = reason_of(error)
        remedy = ""
        if "float64" in reason:
            remedy = ": give its arrays in float32, as everything here has 32 bits"
        raise InputError(
            f"the network does not accept images of shape {(1, *shape)} ({reason}){remedy}"
        ) from error
    kept = _is_of_batch(outputs)
    if not all(kept):
        kind = ModuleWithState if is_pytree(predict) else FunctionWithState
        return as_network(kind(predict, kept), shape)
    _check_outputs(outputs)
    if closed is not None:
        program = Program(
            predict, str(closed.jaxpr), jax.tree.structure(outputs), closed.jaxpr
        )
        predict = Traced([jnp.asarray(constant) for constant in closed.consts], program)
    one_image = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), outputs
    )
    return predict, one_image


@dataclass(frozen=True)
class FunctionWithState:
    """A function that returns, beside its logits, what has no axis of the batch: None for that.

    Such as the new statistics of a batch norm."""

    function: Any
    kept: tuple[bool, ...] = field(metadata={"static": True})
    """of each array of its outputs"""

    def __call__(self, images: Array) -> Any:
        leaves, tree = jax.tree.flatten(self.function(images))
        kept = [leaf if kept else None for leaf, kept in zip(leaves, self.kept)]
        return jax.tree.unflatten(tree, kept)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ModuleWithState(FunctionWithState):
    """The same of a module, a pytree as it is."""


def _is_of_batch(outputs: Any) -> tuple[bool, ...]:
    """Of every array behind logits, and of them, whether it leads with the axis of one image.

    Empty where there are no logits that the rest could be beside."""
    if not isinstance(outputs, tuple | list) or not outputs:
        return ()
    logits = jax.tree.leaves(outputs[0])
    leads = tuple(leaf.shape[:1] == (1,) for leaf in jax.tree.leaves(outputs))
    return leads if logits and all(leads[: len(logits)]) else ()


def _check_outputs(outputs: Any) -> None:
    """Raises InputError for no outputs, or one that is not led by the batch axis of one image."""
    if not jax.tree.leaves(outputs):
        raise InputError(
            "the network returns nothing: it must return logits [n, classes], or a tuple that"
            " begins with them"
        )
    for leaf in jax.tree.leaves(outputs):
        if leaf.shape[:1] != (1,):
            raise InputError(
                f"the network returns an array of shape {leaf.shape} for one image: every output"
                " must lead with the batch axis"
            )


def _trace(predict: Predict, example: jax.ShapeDtypeStruct) -> tuple[Any, Any]:
    """The jaxpr of a function, closed-over arrays as constants, and the shapes of its outputs."""
    # a new function each time: JAX remembers traces by function and would return old weights
    closed, outputs = jax.make_jaxpr(lambda images: predict(images), return_shape=True)(
        example
    )
    # traced twice: what an inner `jit` closes over is a constant only once it is inlined
    inline = jax.make_jaxpr(lambda images: evaluate(closed.jaxpr, closed.consts, [images]))
    return inline(example), outputs


# Types of a process that enables 64 bits, and what they are to us.
NARROW = {
    np.dtype(wide): np.dtype(narrow)
    for wide, narrow in (
        ("float64", "float32"),
        ("complex128", "complex64"),
        ("int64", "int32"),
        ("uint64", "uint32"),
    )
}


def _narrow(array: Array) -> Array:
    """An array with at most 32 bits a number."""
    if array.dtype not in NARROW:
        return array
    return jax.lax.convert_element_type(array, NARROW[array.dtype])


def _narrow_leaves(network: PyTree) -> PyTree:
    """A network whose arrays have at most 32 bits a number; itself where they do."""
    arrays, rest = split(network)
    if not any(array.dtype in NARROW for array in arrays):
        return network
    return join([_narrow(array) for array in arrays], rest)


def is_pytree(value: Any) -> bool:
    """Whether JAX can look inside: a module or container, not a bare function."""
    return not jax.tree_util.all_leaves([value])


@dataclass(frozen=True)
class Rest:
    """The hashable rest of a pytree whose arrays were taken out."""

    treedef: Any
    leaves: tuple[Any, ...]


# Stands in the rest where an array was taken out.
_ARRAY = object()


def split(tree: PyTree) -> tuple[list[Any], Rest]:
    """The arrays of a pytree, in order, and everything else."""
    leaves, treedef = jax.tree.flatten(tree)
    arrays = [leaf for leaf in leaves if _is_array(leaf)]
    others = tuple(_ARRAY if _is_array(leaf) else leaf for leaf in leaves)
    return arrays, Rest(treedef, others)


def join(arrays: list[Any], rest: Rest) -> PyTree:
    """The inverse of `split`."""
    remaining = iter(arrays)
    leaves = [next(remaining) if leaf is _ARRAY else leaf for leaf in rest.leaves]
    return jax.tree.unflatten(rest.treedef, leaves)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def residual_bytes(network: Predict, shape: ImageShape) -> int:
    """Bytes per image that a gradient keeps between the forward and the backward pass.

    Read from abstract shapes, so nothing is compiled or run.
    """

    def residuals(n: int) -> int:
        images = jax.ShapeDtypeStruct((n, *shape), jnp.float32)
        pullback = jax.eval_shape(lambda x: jax.vjp(network, x)[1], images)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pullback))

    # the difference leaves out the weights, which are kept once for all images
    image_bytes = int(np.prod(shape)) * 4
    return max(residuals(2) - residuals(1), image_bytes)
