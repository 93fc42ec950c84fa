"""Detection nodes: the activation that a mask must preserve. A node is `node(outputs, target) -> activation`.

`outputs` are one image's network outputs without a batch axis: the logits [classes], or a tuple that begins with them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.errors import InputError, unknown
from mdm_jax.types import Node


def logits_of(outputs: Any) -> Any:
    """The logits in one image's outputs, arrays or their shapes. Raises InputError where there are none."""
    if not has_logits(outputs):
        raise InputError(
            f"the network's outputs ({_described(outputs)}) have no logits [classes]: give a node that reads them, for "
            "example node=lambda outputs, target: outputs['logits'][target], and give the targets"
        )
    return _head(outputs)


def has_logits(outputs: Any) -> bool:
    """Whether one image's outputs are a vector, or a tuple or list that begins with one."""
    return len(getattr(_head(outputs), "shape", ())) == 1


def _head(outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, tuple | list) and outputs else outputs


def _described(outputs: Any) -> str:
    head = _head(outputs)
    return f"an array of shape {(1, *head.shape)} for one image" if hasattr(head, "shape") else f"a {type(outputs).__name__}"


def _logits(outputs: Any) -> Float[Array, " classes"]:
    """The logits in float32: a softmax or a distance in half precision would lose small changes."""
    return logits_of(outputs).astype(jnp.float32)


def logit(outputs: Any, target: Int[Array, ""]) -> Float[Array, ""]:
    """z_c, the class logit."""
    return _logits(outputs)[target]


def probability(outputs: Any, target: Int[Array, ""]) -> Float[Array, ""]:
    """softmax(z)_c, for networks that choose one class."""
    return jax.nn.softmax(_logits(outputs))[target]


def log_odds(outputs: Any, target: Int[Array, ""]) -> Float[Array, ""]:
    """log p_c / (1 - p_c) = z_c - logsumexp of the other logits; does not saturate."""
    z = _logits(outputs)
    return z[target] - jax.nn.logsumexp(z, where=jnp.arange(z.shape[-1]) != target)


def sigmoid(outputs: Any, target: Int[Array, ""]) -> Float[Array, ""]:
    """sigmoid(z_c), the probability of one label in a multi-label network."""
    return jax.nn.sigmoid(_logits(outputs)[target])


def logits(outputs: Any, target: Int[Array, ""]) -> Float[Array, " classes"]:
    """The whole logit vector z: the mask must preserve everything that the network says, not one class."""
    del target
    return _logits(outputs)


NODES: dict[str, Node] = {
    "logit": logit,
    "probability": probability,
    "log_odds": log_odds,
    "sigmoid": sigmoid,
    "logits": logits,
}


def resolve(node: Any) -> Node:
    """A node from its name, or the function that it is. Raises InputError for anything else."""
    if isinstance(node, str):
        if node not in NODES:
            raise unknown("node", node, NODES)
        return NODES[node]
    if not callable(node):
        raise InputError(f"node is a {type(node).__name__}: give a name or a function (outputs, target) -> activation")
    return node
