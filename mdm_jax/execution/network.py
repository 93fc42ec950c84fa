"""From any callable to a pytree: a network whose weights are arguments of the compiled program, not
constants in it.

`as_network(predict, shape)` gives a callable pytree: modules (Flax NNX, Equinox,
`jax.tree_util.Partial`) already are one; a plain function is traced once and what it closes over
becomes its leaves. `split` and `join` then part any pytree into arrays, which `jit` takes as
arguments, and a hashable rest, which it takes as static."""

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

from mdm_jax.errors import InputError
from mdm_jax.execution.interpreter import evaluate
from mdm_jax.types import Predict

ImageShape = tuple[int, int, int]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Traced:
    """A function that was traced for one image: `constants` are the arrays that it closed over.

    Two traces are equal when they are of the same function and program, so tracing again after the
    weights have changed costs no compilation and never uses stale weights."""

    constants: list[Any]
    program: Program = field(metadata={"static": True})

    def __call__(self, images: Array) -> Any:
        def one(image: Array) -> list[Array]:
            closed = ClosedJaxpr(self.program.jaxpr, self.constants)
            return [leaf[0] for leaf in jaxpr_as_fun(closed)(image[None])]

        return jax.tree.unflatten(self.program.outputs, jax.vmap(one)(images))


@dataclass(frozen=True)
class Program:
    """The static part of a trace."""

    function: Predict
    text: str
    outputs: Any
    jaxpr: Any = field(compare=False)


def as_network(predict: Any, shape: ImageShape) -> tuple[Predict, PyTree]:
    """The network as a callable pytree, and the shapes of its outputs for one image of `shape` (no
    batch axis).

    NNX modules are viewed in inference mode (running averages, no dropout). Raises InputError when
    the network does not accept such images, cannot be traced by JAX, or does not return the batch
    as the leading axis."""
    if not callable(predict):
        raise InputError(
            f"predict is a {type(predict).__name__}: give a function of images [n, h, w, c], or a"
            " module"
        )
    if isinstance(predict, nnx.Module):
        predict = nnx.view(
            predict, deterministic=True, use_running_average=True, raise_if_not_found=False
        )
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
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
    except Exception as error:  # whatever a stranger's network raises on the wrong input
        reason = f"{type(error).__name__}: {str(error).strip()}".split("\n")[0]
        raise InputError(
            f"the network does not accept images of shape {(1, *shape)} ({reason})"
        ) from error
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
    if not is_pytree(predict):
        program = Program(predict, str(closed.jaxpr), jax.tree.structure(outputs), closed.jaxpr)
        predict = Traced([jnp.asarray(c) for c in closed.consts], program)
    return predict, jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), outputs
    )


def _trace(predict: Predict, example: jax.ShapeDtypeStruct) -> tuple[Any, Any]:
    """The jaxpr of a function and the shapes of its outputs, with every array that it closes over
    as a constant.

    A new function each time, because JAX remembers traces by function and would return old weights;
    traced twice, because what an inner `jit` closes over comes to light only when it is inlined.
    """
    closed, outputs = jax.make_jaxpr(lambda images: predict(images), return_shape=True)(example)
    return (
        jax.make_jaxpr(lambda images: evaluate(closed.jaxpr, closed.consts, [images]))(example),
        outputs,
    )


def is_pytree(value: Any) -> bool:
    """Whether JAX can look inside: a module or container, not a bare function."""
    return not jax.tree_util.all_leaves([value])


@dataclass(frozen=True)
class Rest:
    """The hashable rest of a pytree whose arrays were taken out."""

    treedef: Any
    leaves: tuple[Any, ...]


_ARRAY = object()


def split(tree: PyTree) -> tuple[list[Any], Rest]:
    """The arrays of a pytree, in order, and everything else."""
    leaves, treedef = jax.tree.flatten(tree)
    arrays = [leaf for leaf in leaves if _is_array(leaf)]
    return arrays, Rest(treedef, tuple(_ARRAY if _is_array(leaf) else leaf for leaf in leaves))


def join(arrays: list[Any], rest: Rest) -> PyTree:
    """The inverse of `split`."""
    remaining = iter(arrays)
    return jax.tree.unflatten(
        rest.treedef, [next(remaining) if leaf is _ARRAY else leaf for leaf in rest.leaves]
    )


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def residual_bytes(network: Predict, shape: ImageShape) -> int:
    """Bytes that one more image adds to what a gradient of the network keeps between its forward
    and backward pass.

    Read from abstract shapes, so nothing is compiled or run: the residuals of two images minus
    those of one."""

    def kept(n: int) -> int:
        images = jax.ShapeDtypeStruct((n, *shape), jnp.float32)
        pullback = jax.eval_shape(lambda x: jax.vjp(network, x)[1], images)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pullback))

    return max(kept(2) - kept(1), int(np.prod(shape)) * 4)
