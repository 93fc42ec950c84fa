"""Objectives: terms on one masked view of the image, and their weighted sum.

    L = sum_i weight_i * term_i(view)

A term is any function of a `View`; a mask that is small and keeps the activation has a low
objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdm_jax import plugins
from mdm_jax.errors import InputError, unknown
from mdm_jax.types import Image, Mask, Scalar

EPSILON = 1e-6
LEAST = 0.3
"""share of the activation that a range between image and fill is taken to be at least, in
`lost_share`"""


class View(NamedTuple):
    """One masked image and what the network says of it: everything that a term may use."""

    mask: Mask
    """rendered mask in [0, 1]"""
    activation: Float[Array, "..."]
    """node on the masked image"""
    reference: Float[Array, "..."]
    """node on the original image"""
    image: Image
    """the original image"""
    masked: Image
    """mask * image + (1 - mask) * fill"""
    outputs: Any
    """the network's outputs on the masked image"""
    target: Int[Array, ""]
    nothing: Float[Array, "..."]
    """node on the fill alone; on the first one, where several take turns or are drawn anew"""
    progress: Float[Array, ""]
    """share of the steps that are done, in [0, 1): for terms that come and go (with
    `until_converged`, of the most steps)"""
    rest: Float[Array, "..."] | None = None
    """node on the rest, (1 - mask) * image + mask * fill, where a term asks for it"""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Term:
    """One weighted term; the weight is a pytree leaf, so a sweep over it compiles once."""

    weight: Any  # a Scalar; Any, because JAX rebuilds pytrees with leaves of its own
    name: str = field(metadata={"static": True})
    function: Callable[[View], Float[Array, ""]] = field(metadata={"static": True})
    needs_rest: bool = field(default=False, metadata={"static": True})
    """whether it looks at `View.rest`, which costs one more evaluation a view and step"""


def absolute(view: View) -> Float[Array, ""]:
    """|g - a|, averaged over the node's elements."""
    return jnp.mean(jnp.abs(view.activation - view.reference))


def squared(view: View) -> Float[Array, ""]:
    """(g - a)^2, averaged over the node's elements."""
    return jnp.mean(jnp.square(view.activation - view.reference))


def relative(view: View) -> Float[Array, ""]:
    """|g - a| / |a|, averaged over the node's elements: free of the node's unit."""
    return jnp.mean(
        jnp.abs(view.activation - view.reference) / jnp.maximum(jnp.abs(view.reference), EPSILON)
    )


def share(view: View) -> Float[Array, ""]:
    """|g - a| / |a - n|, averaged over the node's elements, where n is the node on the fill alone.

    Free of the node's unit and zero: 0 for the original's activation and 1 for the fill's, of a
    similarity or a distance."""
    return jnp.mean(jnp.abs(view.activation - view.reference) / _range(view))


def lost_share(view: View) -> Float[Array, ""]:
    """max(0, (a - g) sign(a - n)) / max(|a - n|, 0.3 |a|), averaged over the node's elements; n is
    the node on the fill alone.

    As `share`, but to go beyond the original costs nothing: 0 where nothing of the activation is
    lost. Where the fill says nearly what the image says, as to a network without training, every
    trifle would else be worth keeping (`LEAST`)."""
    lost = (view.reference - view.activation) * jnp.sign(view.reference - view.nothing)
    return jnp.mean(
        jnp.maximum(lost, 0.0) / jnp.maximum(_range(view), LEAST * jnp.abs(view.reference))
    )


def shortfall(view: View) -> Float[Array, ""]:
    """max(0, a - g), averaged over the node's elements: to activate the node more than the original
    does costs nothing."""
    return jnp.mean(jnp.maximum(view.reference - view.activation, 0.0))


def kl(view: View) -> Float[Array, ""]:
    """KL(p || q) of the original's distribution p and the masked image's q, in nats: cross-entropy
    minus entropy.

    A vector node is read as logits (softmax), a scalar node as a probability (Bernoulli).
    """
    p, log_p, log_q = _distributions(view)
    return jnp.sum(p * (log_p - log_q))


def cross_entropy(view: View) -> Float[Array, ""]:
    """-sum p log q of the original's distribution p and the masked image's q, in nats; read as in
    `kl`."""
    p, _, log_q = _distributions(view)
    return -jnp.sum(p * log_q)


def surprise(view: View) -> Float[Array, ""]:
    """-log g of a probability g in [0, 1], in nats: it should be as high as it can be, whatever the
    original's is."""
    return -jnp.mean(jnp.log(jnp.clip(view.activation, EPSILON, 1.0)))


def mask_area(view: View) -> Float[Array, ""]:
    """mean(M): the share of the image that is kept."""
    return jnp.mean(view.mask)


def late_area(view: View) -> Float[Array, ""]:
    """t mean(M), where t in [0, 1) is the share of the steps that are done: first find the object,
    then make it small."""
    return view.progress * jnp.mean(view.mask)


def mask_variation(view: View) -> Float[Array, ""]:
    """Anisotropic total variation per pixel, mean |dM/dy| + mean |dM/dx|."""
    return jnp.mean(jnp.abs(jnp.diff(view.mask, axis=0))) + jnp.mean(
        jnp.abs(jnp.diff(view.mask, axis=1))
    )


def rest_share(view: View) -> Float[Array, ""]:
    """max(0, (g' - n) / (a - n)), averaged over the node's elements, with g' on the rest: what the
    mask has left outside.

    1 where the rest activates the node as the original does, 0 where it does so no more than the
    fill."""
    if view.rest is None:
        raise InputError("this view has no rest: mark the term that looks at it by needs_rest=True")
    towards = (view.rest - view.nothing) * jnp.sign(view.reference - view.nothing)
    return jnp.mean(jnp.maximum(towards, 0.0) / _range(view))


def _range(view: View) -> Array:
    return jnp.maximum(jnp.abs(view.reference - view.nothing), EPSILON)


DISTANCES: dict[str, Callable[[View], Float[Array, ""]]] = {
    "absolute": absolute,
    "squared": squared,
    "relative": relative,
    "share": share,
    "lost_share": lost_share,
    "shortfall": shortfall,
    "kl": kl,
    "cross_entropy": cross_entropy,
}
TERMS = DISTANCES | {
    "area": mask_area,
    "late_area": late_area,
    "surprise": surprise,
    "total_variation": mask_variation,
    "removal": rest_share,
}
OF_REST = frozenset({rest_share})


def consistency(distance: str = "lost_share", weight: Scalar = 1.0) -> Term:
    """The activation must stay: D(g(f(x_masked)), g(f(x))) by one of `DISTANCES`."""
    if distance not in DISTANCES:
        raise unknown("distance", distance, DISTANCES)
    return Term(weight, distance, DISTANCES[distance])


def area(weight: Scalar = 30.0) -> Term:
    """The mask must be small."""
    return Term(weight, "area", mask_area)


def total_variation(weight: Scalar = 0.1) -> Term:
    """The mask must be smooth."""
    return Term(weight, "total_variation", mask_variation)


def removal(weight: Scalar = 1.0) -> Term:
    """Nothing that activates the node may be left outside the mask; costs a second evaluation a
    step."""
    return Term(weight, "removal", rest_share, needs_rest=True)


def term(
    function: Callable[[View], Float[Array, ""]],
    weight: Scalar = 1.0,
    name: str = "",
    *,
    needs_rest: bool = False,
) -> Term:
    """A term of your own: any function of a `View` that returns a scalar to be made small."""
    return Term(weight, name or str(getattr(function, "__name__", "term")), function, needs_rest)


def from_mapping(weights: Mapping[str, Any]) -> tuple[Term, ...]:
    """Terms from names and weights, as a config file writes them. Raises InputError for an unknown
    name.

    A name may be that of your own function (`mdm_jax.plugins`), such as "my_terms.py:edges"; one
    that looks at `View.rest` says so by an attribute of its own, `edges.needs_rest = True`."""
    return tuple(Term(float(weight), name, *_named(name)) for name, weight in weights.items())


def _named(name: str) -> tuple[Callable[[View], Float[Array, ""]], bool]:
    """A term's function, and whether it needs the rest."""
    if name in TERMS:
        return TERMS[name], TERMS[name] in OF_REST
    if not plugins.is_name(name):
        raise unknown("objective term", name, TERMS)
    function = plugins.find(name, "objective term")
    return function, bool(getattr(function, "needs_rest", False))


def check(terms: Sequence[Term]) -> None:
    """Raises InputError for no terms, two of one name, or a weight that is negative or not
    finite."""
    if not terms:
        raise InputError("the objective has no terms: give for example (consistency(), area(30.0))")
    names = [each.name for each in terms]
    if len(set(names)) < len(names):
        raise InputError(f"two objective terms are named alike in {names}: give each its own name")
    for each in terms:
        if not isinstance(each.weight, jax.core.Tracer) and not (
            np.isfinite(each.weight) and each.weight >= 0
        ):
            raise InputError(
                f"the weight of {each.name!r} is {each.weight}: give a finite number that is not"
                " negative"
            )


def check_node(terms: Sequence[Term], node: Any) -> None:
    """Raises InputError for a divergence on a node that is neither a probability nor a vector of
    logits."""
    unfit = [each.name for each in terms if each.function in (kl, cross_entropy)]
    if unfit and node in ("logit", "log_odds"):
        raise InputError(
            f"the term {unfit[0]!r} compares probabilities, and {node!r} is none: use node"
            " 'probability' or 'logits'"
        )


def total(
    terms: Sequence[Term], view: View
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The weighted sum of the terms on one view, and each term's unweighted value by name.

    Raises InputError for a term that is no single number.
    """
    values = {each.name: each.function(view) for each in terms}
    for name, value in values.items():
        if shape := jnp.shape(value):
            raise InputError(
                f"the objective term {name!r} has the shape {shape}: return one number, such as its"
                " mean"
            )
    return sum((each.weight * values[each.name] for each in terms), jnp.zeros(())), values


def _distributions(view: View) -> tuple[Array, Array, Array]:
    """p, log p and log q along the last axis, for vector (logits) and scalar (probability)
    nodes."""
    if view.reference.ndim:
        log_p, log_q = jax.nn.log_softmax(view.reference), jax.nn.log_softmax(view.activation)
    else:
        p, q = (jnp.clip(a, EPSILON, 1 - EPSILON) for a in (view.reference, view.activation))
        log_p, log_q = jnp.log(jnp.stack([p, 1 - p])), jnp.log(jnp.stack([q, 1 - q]))
    return jnp.exp(log_p), log_p, log_q
