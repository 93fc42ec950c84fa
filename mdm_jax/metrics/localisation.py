"""Localisation: does the map lie on the object?"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def energy_pointing(saliency: Float[Array, "h w"], mask: Bool[Array, "h w"]) -> Float[Array, ""]:
    """Share of the map's energy inside the object, sum(S * mask) / sum(S), in [0, 1]; 0 for an all-zero map.

    Energy-based pointing game of Score-CAM (arXiv 1910.01279), with the exact mask for its box. Chance is the mask's area.
    """
    whole = saliency.sum()
    return jnp.where(whole > 0, (saliency * mask).sum() / jnp.where(whole > 0, whole, 1.0), 0.0)
