"""`[prototypes]` of a training config: the stages of a prototype network, its losses and its
learning rates.

Defaults are those of ProtoPNet's authors (github.com/cfchen-duke/ProtoPNet); a public XProtoNet,
ProtoASNet's, shares the coefficients (github.com/hooman007/ProtoASNet)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from mdm_jax.errors import InputError

# Of passes, steps or images: more is a mistake.
MOST = 10**7


@dataclass(frozen=True)
class PrototypeConfig:
    """How a prototype network is trained; `epochs` counts the passes of its warm and joint stages
    together."""

    warm: int = 5
    """passes in which the backbone rests and only what is new learns"""
    push_from: int = 10
    """passes before the first push"""
    push_every: int = 10
    """passes between pushes; there is one after the last pass whatever this says"""
    last_layer: int = 20
    """passes that only the last layer learns in, after each push"""
    cluster: float = 0.8
    """weight of the distance to the nearest prototype of the image's own class"""
    separation: float = 0.08
    """weight of the distance to the nearest prototype of another class, which is to be large"""
    l1: float = 1e-4
    """weight of the sum of the last layer's absolute weights from prototypes to classes that are
    not theirs"""
    transformation: float = 1e-3
    """XProtoNet: weight of the difference of an occurrence map of a turned and scaled image from
    the map so turned"""
    occurrence_norm: float = 0.0
    """XProtoNet: weight of the length of the occurrence maps"""
    balanced: bool = False
    """multi-label: in each batch and class, images that have it count together as much as those
    that have it not"""
    features_rate: float = 1e-4
    """learning rate of the backbone in the joint stage"""
    add_on_rate: float = 3e-3
    """learning rate of the layers between backbone and prototypes, in the warm and the joint
    stage"""
    prototypes_rate: float = 3e-3
    """learning rate of the prototypes, in the warm and the joint stage"""
    last_layer_rate: float = 1e-4
    """learning rate of the last layer in its own stage"""
    joint_last_layer_rate: float = 0.0
    """learning rate of the last layer in the warm and the joint stage"""
    weight_decay: float = 1e-3
    """L2 decay of the backbone and the layers behind it; neither prototypes nor last layer decay"""
    decay_every: int = 5
    """passes of the joint stage after which its learning rates fall"""
    decay: float = 0.1
    """what they are then multiplied by"""
    prune: bool = False
    """drop prototypes that are not of their class, at the end"""
    prune_nearest: int = 6
    """nearest training images of a prototype that are looked at"""
    prune_fewer: int = 3
    """a prototype with fewer of its own class among them is dropped"""
    prune_last_layer: int = 100
    """passes that only the last layer learns in, after the pruning"""

    def check(self) -> None:
        """Raises InputError naming the first setting whose value cannot be."""
        least = {
            "push_from": 1,
            "push_every": 1,
            "decay_every": 1,
            "prune_nearest": 1,
        }
        for name, value in ((each.name, getattr(self, each.name)) for each in fields(self)):
            if isinstance(value, float) and not 0 <= value < math.inf:
                raise InputError(
                    f"the setting prototypes.{name} is {value!r}: give a number from 0"
                )
            if type(value) is int and not least.get(name, 0) <= value <= MOST:
                raise InputError(
                    f"the setting prototypes.{name} is {value!r}: give a whole number from"
                    f" {least.get(name, 0)} to {MOST}"
                )
        if self.prune_fewer > self.prune_nearest:
            raise InputError(
                f"the setting prototypes.prune_fewer is {self.prune_fewer}, more than the"
                f" {self.prune_nearest} images of prototypes.prune_nearest: every prototype would"
                " be dropped, give a smaller one"
            )
