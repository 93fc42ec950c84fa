"""What is found out about a network and a node before anything is compiled.

Read from their programs for abstract shapes, so nothing is run; the findings are kept, so asking
again costs nothing."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mdm_jax import nodes
from mdm_jax.errors import InputError, first_line, reason_of
from mdm_jax.execution.gradients import REMEDY, WithoutGradient, why_no_gradient
from mdm_jax.execution.network import ImageShape, Rest, join, split
from mdm_jax.execution.output_forms import last_step, mixes_images, trace_batch
from mdm_jax.problem import activation
from mdm_jax.types import Node, Predict


def check_network(network: Predict, node: str | Node, shape: ImageShape) -> Predict:
    """The network of `as_network`, which refuses gradients where the node has none.

    Methods that need no gradient then work as ever, and the others raise InputError instead of
    showing an empty map. Raises InputError for a node that cannot read the outputs."""
    arrays, rest = split((network, node))
    shapes = tuple(jax.ShapeDtypeStruct(np.shape(each), each.dtype) for each in arrays)
    try:
        reason = _find_reason(rest, shapes, shape)
        hints = _find_hints(rest, shapes, shape)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        raise InputError(
            f"the network or the node cannot be told from another ({error}): give functions,"
            " modules, or dataclasses with frozen=True"
        ) from error
    for hint in hints:
        warnings.warn(hint, UserWarning, stacklevel=4)  # behind `own_settings`
    return network if reason is None else WithoutGradient(network, reason)


def require_differentiable(network: Predict, node: str | Node, shape: ImageShape) -> None:
    """Raises InputError where `check_network` would refuse gradients."""
    checked = check_network(network, node, shape)
    if isinstance(checked, WithoutGradient):
        raise InputError(checked.reason)


@lru_cache(maxsize=16)
def _find_reason(rest: Rest, shapes: tuple[Any, ...], shape: ImageShape) -> str | None:
    """Why the node has no gradient by the image, in a sentence; None where it has one."""

    # for a batch of one, as methods call it: some operations have no rule for batches
    def outputs_of(images: Array, arrays: tuple[Array, ...]) -> Any:
        network, _ = join(list(arrays), rest)
        return jax.vmap(
            lambda image: jax.tree.map(lambda leaf: leaf[0], network(image[None]))
        )(images)

    def activations(images: Array, arrays: tuple[Array, ...]) -> Array:
        _, node = join(list(arrays), rest)

        def read(outputs: Any) -> Array:
            _check_node(node, outputs)
            return activation(node, outputs, jnp.int32(0))

        return jax.vmap(read)(outputs_of(images, arrays))

    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    try:
        jax.eval_shape(outputs_of, images, shapes)
    except NotImplementedError as error:
        raise InputError(
            f"the network cannot be computed for a batch ({first_line(error)})"
        ) from error
    reason = why_no_gradient(activations, images, shapes)
    return None if reason is None else f"the network {reason}: {REMEDY}"


@lru_cache(maxsize=16)
def _find_hints(rest: Rest, shapes: tuple[Any, ...], shape: ImageShape) -> tuple[str, ...]:
    """What makes the node or the network other than they seem to be meant, a sentence each.

    Raises InputError for the softmax of one output."""

    def outputs_of(image: Array, arrays: tuple[Array, ...]) -> Any:
        network, _ = join(list(arrays), rest)
        return jax.tree.map(lambda leaf: leaf[0], network(image[None]))

    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    outputs = jax.eval_shape(outputs_of, image, shapes)
    node = nodes.resolve(join(list(shapes), rest)[1])
    is_softmax = node is nodes.probability or node is nodes.log_odds
    if is_softmax and nodes.logits_of(outputs).shape == (1,):
        raise InputError(
            "the network has one output, whose softmax is 1 for every image: give the node"
            " 'sigmoid' where it is a logit, 'logit' where it is a probability"
        )
    jaxpr = trace_batch(shapes, rest, shape)
    if jaxpr is None:
        return ()
    hints = []
    step = last_step(jaxpr)
    if step is not None and (is_softmax or node is nodes.sigmoid):
        hints.append(
            f"the network ends in a {step}, and the node takes its outputs for logits: return the"
            " logits, or give the node 'logit', which takes the outputs as they are"
        )
    if mixes_images(jaxpr):
        hints.append(
            "the network's output for an image depends on the other images of its batch, as with a"
            " batch norm in training mode: use the running averages (model.eval(), train=False)"
        )
    return tuple(hints)


def _check_node(node: str | Node, outputs: Any) -> None:
    """Raises InputError for a node that fails on one image's outputs, or gives no real numbers."""
    if nodes.has_logits(outputs) and jnp.iscomplexobj(nodes.logits_of(outputs)):
        raise InputError(
            "the network's outputs are complex numbers: return their absolute or real values"
        )
    try:
        value = nodes.resolve(node)(outputs, jnp.int32(0))
    except InputError:
        raise
    except Exception as error:  # a node of yours may raise anything
        raise InputError(
            f"the node fails on the network's outputs ({reason_of(error)}): give a"
            " function (outputs, target) -> activation, where the target is a traced number"
        ) from error
    if not isinstance(value, jax.Array) or jnp.iscomplexobj(value):
        kind = value.dtype if isinstance(value, jax.Array) else type(value).__name__
        raise InputError(
            f"the node gives a {kind}: let it give the activation, an array of real numbers"
        )
