"""Detection nodes: the activation that a mask must preserve.

A node is `node(outputs, target) -> activation`. `outputs` are one image's network outputs without a
batch axis: the logits [classes], or a tuple that begins with them. The target is a class, or for an
`Entry` the index of an element in a named output, such as the number of a prototype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdm_jax import plugins
from mdm_jax.errors import InputError, unknown
from mdm_jax.types import Node


def logits_of(outputs: Any) -> Any:
    """The logits in one image's outputs, arrays or their shapes.

    Raises InputError where there are none.
    """
    if not has_logits(outputs):
        raise InputError(
            f"the network's outputs ({_describe(outputs)}) have no logits [classes]: give a node"
            " that reads them, for example node=lambda outputs, target: outputs['logits'][target],"
            " and give the targets"
        )
    return _head(outputs)


def has_logits(outputs: Any) -> bool:
    """Whether one image's outputs are a vector, or a tuple or list that begins with one."""
    return len(getattr(_head(outputs), "shape", ())) == 1


def _head(outputs: Any) -> Any:
    is_sequence = isinstance(outputs, tuple | list)
    return outputs[0] if is_sequence and outputs else outputs


def _describe(outputs: Any) -> str:
    head = _head(outputs)
    if hasattr(head, "shape"):
        return f"an array of shape {(1, *head.shape)} for one image"
    return f"a {type(outputs).__name__}"


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
    """The whole logit vector z: the mask must preserve the scores of all classes."""
    del target
    return _logits(outputs)


@dataclass(frozen=True)
class Entry:
    """Element `target` of `out[name]`, flattened, where the network returns `(logits, out)`.

    Of `similarities` [m] the target is a prototype's number; of `similarity_maps` [gh, gw, m] it is
    a prototype at one position, `np.ravel_multi_index((y, x, prototype), (gh, gw, m))`. Raises
    InputError for a network without that output.
    """

    name: str
    strongest: Callable[[Array], Array] = jnp.argmax
    """the default target, from the flattened output; `jnp.argmin` where less is more, as of a
    distance"""

    def __call__(self, outputs: Any, target: Int[Array, ""]) -> Float[Array, ""]:
        return self._values(outputs).reshape(-1)[target].astype(jnp.float32)

    def count(self, outputs: Any) -> int:
        """How many targets there are."""
        return int(np.prod(self._values(outputs).shape))

    def first(self, outputs: Any) -> Int[Array, ""]:
        """The default target."""
        return self.strongest(self._values(outputs).reshape(-1))

    def _values(self, outputs: Any) -> Any:
        out = outputs
        if isinstance(outputs, tuple | list) and len(outputs) > 1:
            out = outputs[1]
        if not isinstance(out, Mapping) or self.name not in out:
            raise InputError(
                f"the network returns no {self.name!r}: this node is for networks that do, see"
                " mdm_jax.models"
            )
        return out[self.name]


# Those from `similarity` on are of prototype networks; `..._at` is a prototype at one position of
# the map.
NODES: dict[str, Node] = {
    "logit": logit,
    "probability": probability,
    "log_odds": log_odds,
    "sigmoid": sigmoid,
    "logits": logits,
    "similarity": Entry("similarities"),
    "distance": Entry("distances", jnp.argmin),
    "normalized_similarity": Entry("normalized_similarities"),
    "similarity_at": Entry("similarity_maps"),
    "distance_at": Entry("distance_maps", jnp.argmin),
}


def direction(node: Any) -> float:
    """1 where more of a node means more of what is explained; -1 where less does, as of a distance.

    Of your own functions it is 1: return the negative of a distance, or give an `Entry`.
    """
    return -1.0 if getattr(resolve(node), "strongest", None) is jnp.argmin else 1.0


def targets_of(node: Any, outputs: Any) -> int | None:
    """How many targets a node has in these outputs, or their shapes; None where it is unknown."""
    count = getattr(resolve(node), "count", None)
    if count is not None:
        return count(outputs)
    return logits_of(outputs).shape[-1] if has_logits(outputs) else None


def first_target(node: Any, outputs: Any) -> Int[Array, ""]:
    """The default target: the node's own, or the class of the highest logit.

    Raises InputError where there are no logits to choose from.
    """
    choose = getattr(resolve(node), "first", None)
    if choose is not None:
        return choose(outputs).astype(jnp.int32)
    return jnp.argmax(logits_of(outputs), axis=-1).astype(jnp.int32)


def resolve(node: Any) -> Node:
    """A node from its name, or the function that it is.

    A name may be that of your own function, see `mdm_jax.plugins`. Raises InputError for anything
    else.
    """
    if isinstance(node, str):
        if node in NODES:
            return NODES[node]
        if plugins.is_reference(node):
            return plugins.load_function(node, "node")
        raise unknown("node", node, NODES)
    if not callable(node):
        raise InputError(
            f"node is a {type(node).__name__}: give a name or a function (outputs, target) ->"
            " activation"
        )
    return node
