"""The optimizers of a prototype network: which weights each stage moves, and at which rate.

As in ProtoPNet's code each kind of stage has an Adam of its own, which goes on where the last stage
of its kind left it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax

from mdm_jax.training.prototypes.config import PrototypeConfig
from mdm_jax.training.stages import BATCHED, JOINT, LAST_LAYER, WARM, Stage

# Whose learning rate each part of a network has, where that is not its own.
PART_OF_MODULE = {"backbone": "features", "occurrence": "add_on"}
FROZEN = "frozen"


def stage_rates(config: PrototypeConfig, kind: str) -> dict[str, float]:
    """The learning rate of each part that learns in a stage, at the stage's first step."""
    if kind == LAST_LAYER:
        return {"last_layer": config.last_layer_rate}
    if kind not in BATCHED:
        return {}
    joint = {"features": config.features_rate} if kind == JOINT else {}
    new = {
        "add_on": config.add_on_rate,
        "prototypes": config.prototypes_rate,
        "last_layer": config.joint_last_layer_rate,
    }
    return {part: rate for part, rate in (joint | new).items() if rate > 0}


def rate_factor(
    config: PrototypeConfig, kind: str, steps_per_epoch: int
) -> Callable[[Any], Any]:
    """The factor of a stage's rates at each step: `decay` for every `decay_every` passes."""
    if kind != JOINT:
        return lambda step: 1.0
    period = config.decay_every * steps_per_epoch
    return lambda step: config.decay ** (step // period)


def optimizers(
    config: PrototypeConfig, steps_per_epoch: int
) -> dict[str, optax.GradientTransformation]:
    """Adam for each kind of stage.

    The decay is L2, part of the gradient, as torch's Adam has it. Checkpoints depend on the order
    of the chain."""

    def adam(part: str, rate: float, kind: str) -> optax.GradientTransformation:
        factor = rate_factor(config, kind, steps_per_epoch)
        moves = [optax.adam(lambda step: rate * factor(step))]
        if part in ("features", "add_on"):
            moves.insert(0, optax.add_decayed_weights(config.weight_decay))
        return optax.chain(*moves)

    found = {}
    for kind in (WARM, JOINT, LAST_LAYER):
        rates = stage_rates(config, kind)
        moving = {part: adam(part, rate, kind) for part, rate in rates.items()}
        # what rests is in the partition too, since every parameter needs a label
        transforms = moving | {FROZEN: optax.set_to_zero()}
        found[kind] = optax.partition(transforms, partial(_part_labels, moving.keys()))
    return found


def _part_labels(moving: Any, params: Any) -> Any:
    """The part that each parameter belongs to, `FROZEN` for one that rests."""

    def label(path: tuple[Any, ...], leaf: Any) -> str:
        # parameters belong to the network's top-level attribute that holds them
        name = str(getattr(path[0], "key", path[0]))
        part = PART_OF_MODULE.get(name, name)
        return part if part in moving else FROZEN

    return jax.tree_util.tree_map_with_path(label, params)


def highest_rate(config: PrototypeConfig, stage: Stage, step: int) -> float:
    """The highest learning rate in step `step` of a training."""
    joint = stage.passes_after(step) - config.warm
    falls = joint // config.decay_every if stage.kind == JOINT else 0
    return max(stage_rates(config, stage.kind).values(), default=0.0) * config.decay**falls


def freeze(learns: Any, params: Any) -> Any:
    """The parameters, those that rest cut off from the gradient, so that none is computed."""

    def cut_off(leaf: Any, label: str) -> Any:
        return jax.lax.stop_gradient(leaf) if label == FROZEN else leaf

    return jax.tree.map(cut_off, params, _part_labels(learns, params))
