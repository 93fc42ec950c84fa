"""One masked view of an image: what the terms of an objective see, and how much of it is kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.errors import warn_renamed
from mdm_jax.types import Image, Mask

EPSILON = 1e-6

# Of `drop_of`: a range between image and fill counts as at least this part of the activation.
LEAST_RANGE = 0.3


def range_of(
    reference: Float[Array, "..."], fill_activation: Float[Array, "..."]
) -> Float[Array, "..."]:
    """|a - n|, above zero: the way from the fill's activation to the image's."""
    return jnp.maximum(jnp.abs(reference - fill_activation), EPSILON)


def drop_of(
    activation: Float[Array, "..."],
    reference: Float[Array, "..."],
    fill_activation: Float[Array, "..."],
) -> Float[Array, ""]:
    """max(0, (a - g) sign(a - n)) / max(|a - n|, 0.3 |a|), averaged over the node's elements."""
    drop = (reference - activation) * jnp.sign(reference - fill_activation)
    drop = jnp.maximum(drop, 0.0)
    full_range = range_of(reference, fill_activation)
    return jnp.mean(drop / jnp.maximum(full_range, LEAST_RANGE * jnp.abs(reference)))


def gap_of(
    activation: Float[Array, "..."],
    reference: Float[Array, "..."],
    fill_activation: Float[Array, "..."],
    direction: float,
) -> Float[Array, "..."]:
    """(a - g) s / max(|a - n|, 0.3 |a|), element by element: above 0 where something is missing.

    s is the node's `direction`; of a vector sign(a - n), as its elements have none in common.
    """
    sign = jnp.sign(reference - fill_activation) if reference.ndim else direction
    full_range = range_of(reference, fill_activation)
    least = LEAST_RANGE * jnp.abs(reference)
    return (reference - activation) * sign / jnp.maximum(full_range, least)


def kept_share(
    activation: Float[Array, "..."],
    reference: Float[Array, "..."],
    fill_activation: Float[Array, "..."],
    direction: float,
) -> Float[Array, ""]:
    """1 - max(0, `gap_of`), averaged over the node's elements: the share of the activation that is
    kept, at most 1, and maybe below 0."""
    gap = gap_of(activation, reference, fill_activation, direction)
    return 1.0 - jnp.mean(jnp.maximum(gap, 0.0))


class View(NamedTuple):
    """One masked image and the network's outputs on it: everything that a term may use."""

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
    fill_activation: Float[Array, "..."]
    """node on the fill alone; on the first one, where several take turns or are drawn anew"""
    progress: Float[Array, ""]
    """fraction of the steps that are done, in [0, 1): for terms that come and go (with
    `until_converged`, of the most steps)"""
    complement_activation: Float[Array, "..."] | None = None
    """node on the complement, (1 - mask) * image + mask * fill, where a term needs it"""
    direction: float = 1.0
    """1 where more of the node means more of what is explained, -1 where less does"""

    @property
    def kept(self) -> Float[Array, ""]:
        """The share of the activation that the view keeps, see `kept_share`."""
        return kept_share(
            self.activation, self.reference, self.fill_activation, self.direction
        )

    @property
    def nothing(self) -> Float[Array, "..."]:
        """Deprecated: now `fill_activation`."""
        warn_renamed("View.nothing", "View.fill_activation")
        return self.fill_activation

    @property
    def rest(self) -> Float[Array, "..."] | None:
        """Deprecated: now `complement_activation`."""
        warn_renamed("View.rest", "View.complement_activation")
        return self.complement_activation
