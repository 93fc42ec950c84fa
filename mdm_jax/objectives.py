"""Objectives: terms on one masked view of the image, and their weighted sum.

    L = sum_i weight_i * term_i(view)

A term is any function of a `View`; a mask that is small and keeps the activation has a low
objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdm_jax import plugins
from mdm_jax.errors import InputError, find_renamed, unknown, warn_renamed
from mdm_jax.types import STATIC, Scalar
from mdm_jax.view import EPSILON as EPSILON
from mdm_jax.view import LEAST_RANGE as LEAST_RANGE
from mdm_jax.view import View as View
from mdm_jax.view import drop_of, gap_of, range_of


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Term:
    """One weighted term; the weight is a pytree leaf, so a sweep over it compiles once."""

    weight: Any  # a Scalar; Any, because JAX rebuilds pytrees with leaves of its own
    name: str = field(metadata=STATIC)
    function: Callable[[View], Float[Array, ""]] = field(metadata=STATIC)
    needs_complement: bool = field(default=False, metadata=STATIC)
    """whether it reads `View.complement_activation`, which costs one more evaluation a view and
    step"""

    @property
    def needs_rest(self) -> bool:
        """Deprecated: now `needs_complement`."""
        warn_renamed("Term.needs_rest", "Term.needs_complement")
        return self.needs_complement


def absolute(view: View) -> Float[Array, ""]:
    """|g - a|, averaged over the node's elements."""
    return jnp.mean(jnp.abs(view.activation - view.reference))


def squared(view: View) -> Float[Array, ""]:
    """(g - a)^2, averaged over the node's elements."""
    return jnp.mean(jnp.square(view.activation - view.reference))


def relative(view: View) -> Float[Array, ""]:
    """|g - a| / |a|, averaged over the node's elements: free of the node's unit."""
    return jnp.mean(
        jnp.abs(view.activation - view.reference)
        / jnp.maximum(jnp.abs(view.reference), EPSILON)
    )


def relative_change(view: View) -> Float[Array, ""]:
    """|g - a| / |a - n|, averaged over the node's elements, where n is the node on the fill alone.

    Free of the node's unit and zero: 0 for the original's activation and 1 for the fill's, of a
    similarity or a distance.
    """
    return jnp.mean(jnp.abs(view.activation - view.reference) / _range(view))


def relative_drop(view: View) -> Float[Array, ""]:
    """max(0, (a - g) sign(a - n)) / max(|a - n|, 0.3 |a|), averaged over the node's elements.

    n is the node on the fill alone. As `relative_change`, but to exceed the original costs nothing:
    0 where the activation does not drop. Where the network says nearly the same of the fill as of
    the image, as without training, a tiny change would else count as a large drop (`LEAST_RANGE`).
    """
    return drop_of(view.activation, view.reference, view.fill_activation)


def signed_drop(view: View) -> Float[Array, ""]:
    """(a - g) s / max(|a - n|, 0.3 |a|), averaged over the node's elements, s its direction.

    Below 0 where the activation exceeds the original, and never without a gradient there. The
    direction is the node's, whatever the fill says: else a class for which the fill alone speaks
    more than the image would be explained by what speaks against it.
    """
    gap = gap_of(view.activation, view.reference, view.fill_activation, view.direction)
    return jnp.mean(gap)


def shortfall(view: View) -> Float[Array, ""]:
    """max(0, a - g), averaged over the node's elements: to exceed the original costs nothing."""
    return jnp.mean(jnp.maximum(view.reference - view.activation, 0.0))


def kl(view: View) -> Float[Array, ""]:
    """KL(p || q) of the original's distribution p and the masked image's q, in nats.

    Cross-entropy minus entropy. A vector node is read as logits (softmax), a scalar node as a
    probability (Bernoulli).
    """
    p, log_p, log_q = _distributions(view)
    return jnp.sum(p * (log_p - log_q))


def cross_entropy(view: View) -> Float[Array, ""]:
    """-sum p log q of the distributions p and q of `kl`, in nats."""
    p, _, log_q = _distributions(view)
    return -jnp.sum(p * log_q)


def negative_log_likelihood(view: View) -> Float[Array, ""]:
    """-log g of a probability g in [0, 1], in nats, whatever the original's probability is."""
    return -jnp.mean(jnp.log(jnp.clip(view.activation, EPSILON, 1.0)))


def mask_area(view: View) -> Float[Array, ""]:
    """mean(M): the fraction of the image that is kept."""
    return jnp.mean(view.mask)


def late_area(view: View) -> Float[Array, ""]:
    """t mean(M), where t in [0, 1) is the fraction of the steps that are done.

    The mask first finds the object and then shrinks.
    """
    return view.progress * jnp.mean(view.mask)


def mask_variation(view: View) -> Float[Array, ""]:
    """Anisotropic total variation per pixel, mean |dM/dy| + mean |dM/dx|."""
    down = jnp.mean(jnp.abs(jnp.diff(view.mask, axis=0)))
    across = jnp.mean(jnp.abs(jnp.diff(view.mask, axis=1)))
    return down + across


def complement_activity(view: View) -> Float[Array, ""]:
    """max(0, (g' - n) / (a - n)), averaged over the node's elements, with g' on the complement.

    What the mask has missed: 1 where the complement activates the node as the original does, 0
    where no more than the fill does.
    """
    if view.complement_activation is None:
        raise InputError(
            "this view has no complement_activation: mark the term that reads it by"
            " needs_complement=True"
        )
    activity = view.complement_activation - view.fill_activation
    activity = activity * jnp.sign(view.reference - view.fill_activation)
    return jnp.mean(jnp.maximum(activity, 0.0) / _range(view))


def _range(view: View) -> Array:
    return range_of(view.reference, view.fill_activation)


# These names are settings in files and columns of stored results ("term_lost_share"). A run that
# goes on must write the columns that it began with, and names also order the terms of a compiled
# program, so they stay where a function gets a better name.
DISTANCES: dict[str, Callable[[View], Float[Array, ""]]] = {
    "absolute": absolute,
    "squared": squared,
    "relative": relative,
    "share": relative_change,
    "lost_share": relative_drop,
    "shortfall": shortfall,
    "kl": kl,
    "cross_entropy": cross_entropy,
}
TERMS = DISTANCES | {
    "signed_share": signed_drop,
    "area": mask_area,
    "late_area": late_area,
    "surprise": negative_log_likelihood,
    "total_variation": mask_variation,
    "removal": complement_activity,
}
COMPLEMENT_TERMS = frozenset({"removal"})


def consistency(distance: str = "lost_share", weight: Scalar = 1.0) -> Term:
    """The activation must stay: D(g(f(x_masked)), g(f(x))) by one of `DISTANCES`."""
    if distance not in DISTANCES:
        raise unknown("distance", distance, DISTANCES)
    return Term(weight, distance, DISTANCES[distance])


def high_activation(weight: Scalar = 1.0) -> Term:
    """The activation must be high; to exceed the original's is rewarded too."""
    return Term(weight, "signed_share", signed_drop)


def area(weight: Scalar = 30.0) -> Term:
    """The mask must be small."""
    return Term(weight, "area", mask_area)


def total_variation(weight: Scalar = 0.1) -> Term:
    """The mask must be smooth."""
    return Term(weight, "total_variation", mask_variation)


def removal(weight: Scalar = 1.0) -> Term:
    """The complement must not activate the node; costs a second evaluation a step."""
    return Term(weight, "removal", complement_activity, needs_complement=True)


def term(
    function: Callable[[View], Float[Array, ""]],
    weight: Scalar = 1.0,
    name: str = "",
    *,
    needs_complement: bool = False,
    needs_rest: bool = False,
) -> Term:
    """A term of your own: any function of a `View` that returns a scalar to minimize.

    `needs_complement` is for a function that reads `View.complement_activation`; it is also known
    by its former name `needs_rest`.
    """
    name = name or str(getattr(function, "__name__", "term"))
    return Term(weight, name, function, needs_complement or needs_rest)


def from_mapping(weights: Mapping[str, Any]) -> tuple[Term, ...]:
    """Terms from names and weights, as a config file writes them.

    A name may be that of your own function (`mdm_jax.plugins`), such as "my_terms.py:edges"; one
    that reads `View.complement_activation` says so by its attribute `edges.needs_complement =
    True`. Raises InputError for an unknown name.
    """
    return tuple(_from_name(name, float(weight)) for name, weight in weights.items())


def _from_name(name: str, weight: float) -> Term:
    if name in TERMS:
        return Term(weight, name, TERMS[name], name in COMPLEMENT_TERMS)
    if not plugins.is_reference(name):
        raise unknown("objective term", name, TERMS)
    function = plugins.load_function(name, "objective term")
    needs_complement = getattr(function, "needs_complement", False)
    former_name = getattr(function, "needs_rest", False)
    return Term(weight, name, function, bool(needs_complement or former_name))


def check(terms: Sequence[Term]) -> None:
    """Raises InputError for no terms, two of one name, or a weight below 0 or not finite."""
    if not terms:
        raise InputError(
            "the objective has no terms: give for example (consistency(), area(30.0))"
        )
    names = [each.name for each in terms]
    if len(set(names)) < len(names):
        raise InputError(
            f"two objective terms are named alike in {names}: give each its own name"
        )
    for each in terms:
        if isinstance(each.weight, jax.core.Tracer):
            continue
        if not (np.isfinite(each.weight) and each.weight >= 0):
            raise InputError(
                f"the weight of {each.name!r} is {each.weight}: give a finite number that is not"
                " negative"
            )


def need_complement(terms: Sequence[Term]) -> bool:
    """Whether one of the terms reads the complement, which costs another evaluation a view."""
    return any(each.needs_complement for each in terms)


def check_node(terms: Sequence[Term], node: Any) -> None:
    """Raises InputError for a divergence on a node that is no probability and no logits."""
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
    weighted = (each.weight * values[each.name] for each in terms)
    return sum(weighted, jnp.zeros(())), values


def _distributions(view: View) -> tuple[Array, Array, Array]:
    """p, log p and log q along the last axis, of vector (logits) or scalar (probability) nodes."""
    if view.reference.ndim:
        log_p = jax.nn.log_softmax(view.reference)
        log_q = jax.nn.log_softmax(view.activation)
    else:
        p = jnp.clip(view.reference, EPSILON, 1 - EPSILON)
        q = jnp.clip(view.activation, EPSILON, 1 - EPSILON)
        log_p = jnp.log(jnp.stack([p, 1 - p]))
        log_q = jnp.log(jnp.stack([q, 1 - q]))
    return jnp.exp(log_p), log_p, log_q


RENAMED = {
    "lost_share": "relative_drop",
    "share": "relative_change",
    "surprise": "negative_log_likelihood",
    "rest_share": "complement_activity",
}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
