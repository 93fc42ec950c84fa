"""What may follow the optimizer's updates of the mask vectors, in the manner of optax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from mdm_jax import masks
from mdm_jax.config import MDMConfig
from mdm_jax.types import Scalar


def coarse_to_fine(steps: Scalar) -> optax.GradientTransformation:
    """Updates of the first leaf from the start, of the last after `steps`, of others in between."""

    def update(updates: Any, count: Array, parameters: Any = None) -> tuple[Any, Array]:
        del parameters
        last = max(len(updates) - 1, 1)
        joined = tuple(
            jnp.where(count >= steps * k / last, leaf, 0.0)
            for k, leaf in enumerate(updates)
        )
        return joined, count + 1

    return optax.GradientTransformation(lambda parameters: jnp.int32(0), update)


def area_projection(budget: Scalar, config: MDMConfig) -> optax.GradientTransformation:
    """Updates that leave the mean mask value at most budget^(t / T) after step t of T.

    The bound tightens step by step, because the tight one at once would hide the whole image.
    """
    project = masks.parametrization(config.parametrization).project

    def update(updates: Any, count: Array, parameters: Any = None) -> tuple[Any, Array]:
        moved = project(optax.apply_updates(parameters, updates))
        weights = masks.resolve_weights(
            config.stack_weights, [leaf.shape for leaf in moved]
        )
        bound = budget ** ((count + 1) / config.steps)
        projected = masks.project_to_area(moved, bound, config.parametrization, weights)
        return jax.tree.map(lambda new, old: new - old, projected, parameters), count + 1

    return optax.GradientTransformation(lambda parameters: jnp.int32(0), update)
