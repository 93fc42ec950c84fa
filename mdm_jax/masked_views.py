"""The objective of a step: the image seen through masks, the network's outputs, and the terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax import fills, nodes, objectives
from mdm_jax.config import MDMConfig
from mdm_jax.problem import Problem, activation, blend
from mdm_jax.types import Image, Node, Predict
from mdm_jax.view import View

# Folded into the keys of shifts: out of reach of the step numbers, which count from 0.
SHIFT = 2**31

# `objective(seen_masks, view_masks, key, step) -> (value, terms)`
ViewsObjective = Callable[..., tuple[Float[Array, ""], dict[str, Any]]]


def objective_of_views(
    predict: Predict,
    problem: Problem,
    *,
    node: str | Node,
    config: MDMConfig,
    tells_kept: bool = False,
) -> ViewsObjective:
    """The weighted terms of masked images, the mean over them, as a function of their masks.

    The image is seen through `seen_masks` [v, h, w], and terms that look at the mask itself look at
    `view_masks`: the same values, whose gradients may go elsewhere. With `tells_kept` the terms
    also say, as "kept", which share of the activation the view keeps.
    """
    image, target = problem.image, problem.target
    turns = fills.resolve_turns(config.fill)
    redraw = config.redraw_fill or len(turns) > 1
    needs_complement = objectives.need_complement(config.objective)

    def background_of_step(key: Key[Array, ""], step: Int[Array, ""]) -> Image:
        if not redraw:
            return problem.background
        backgrounds = jnp.stack([fills.draw(fill, image, key=key) for fill in turns])
        return backgrounds[step % len(turns)]

    def objective(
        seen_masks: Float[Array, "v h w"],
        view_masks: Float[Array, "v h w"],
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], dict[str, Any]]:
        background = background_of_step(key, step)
        masked = blend(seen_masks, image, background)
        inputs = masked
        if needs_complement:
            complement = blend(1.0 - seen_masks, image, background)
            inputs = jnp.concatenate([masked, complement])
        if config.jitter:
            inputs = random_shift(inputs, key, config.jitter)

        # one call of the network for both halves: larger batches cost less an image
        all_outputs = predict(inputs)
        views = len(seen_masks)
        outputs = jax.tree.map(lambda leaf: leaf[:views], all_outputs)
        complement_outputs = None
        if needs_complement:
            complement_outputs = jax.tree.map(lambda leaf: leaf[views:], all_outputs)

        def weigh_terms(
            mask: Array, masked: Array, outputs: Any, complement_outputs: Any
        ) -> tuple[Array, dict[str, Array]]:
            complement_activation = None
            if needs_complement:
                complement_activation = activation(node, complement_outputs, target)
            view = View(
                mask=mask,
                activation=activation(node, outputs, target),
                reference=problem.reference,
                image=image,
                masked=masked,
                outputs=outputs,
                target=target,
                fill_activation=problem.fill_activation,
                progress=step / config.steps,
                complement_activation=complement_activation,
                direction=nodes.direction(node),
            )
            value, terms = objectives.total(config.objective, view)
            if tells_kept:
                terms = terms | {"kept": view.kept}
            return value, terms

        of_views = jax.vmap(weigh_terms)(view_masks, masked, outputs, complement_outputs)
        return jax.tree.map(jnp.mean, of_views)

    return objective


def random_shift(
    images: Float[Array, "v h w c"], key: Key[Array, ""], max_pixels: int
) -> Float[Array, "v h w c"]:
    """Images shifted alike by up to `max_pixels` each way, wrapped around at the borders."""
    shift_key = jax.random.fold_in(key, SHIFT)
    offset = jax.random.randint(shift_key, (2,), -max_pixels, max_pixels + 1)
    return jnp.roll(images, offset, axis=(1, 2))
