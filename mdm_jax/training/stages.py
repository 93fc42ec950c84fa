"""The stages of a training as data, known before the first step.

A plain classifier has one stage. A prototype network (Chen, Li et al., arXiv 1806.10574) has

    warm, joint, push, last layer, joint, push, last layer, ..., prune, last layer

A step is one batch in the warm and the joint stage, one pass over all training images in the last
layer's, and the whole of a push or a pruning. So a training goes on from a step alone, in whichever
stage it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mdm_jax.training.prototypes.config import PrototypeConfig

PLAIN, WARM, JOINT = "train", "warm", "joint"
PUSH, LAST_LAYER, PRUNE = "push", "last layer", "prune"

# Stages in which a step is a batch of augmented images.
BATCHED = (PLAIN, WARM, JOINT)


class Stage(NamedTuple):
    """Steps `start` to `stop` - 1."""

    kind: str
    start: int
    stop: int
    passes: int
    """over the augmented images, before it begins"""
    period: int
    """steps from one measurement to the next"""

    def passes_after(self, step: int) -> int:
        """Passes over the augmented images that are done after `step` steps."""
        if self.kind not in BATCHED:
            return self.passes
        return self.passes + (step - self.start) // self.period

    def batch(self, step: int) -> int:
        """Number of the batch that step `step` takes, counted over all stages."""
        return self.passes * self.period + step - self.start


class Timeline(NamedTuple):
    """The stages, each beginning where the one before it stops."""

    stages: tuple[Stage, ...]

    @property
    def steps(self) -> int:
        """Of all stages together."""
        return self.stages[-1].stop

    def at(self, step: int) -> Stage:
        """The stage that step `step`, counted from 0, belongs to."""
        return next(stage for stage in self.stages if step < stage.stop)

    def ends_pass(self, step: int) -> bool:
        """Whether something is measured once `step` steps are done."""
        if step == 0:
            return False
        stage = self.at(step - 1)
        return (step - stage.start) % stage.period == 0


def plain_timeline(epochs: int, steps_per_epoch: int) -> Timeline:
    """The one stage of a plain classifier."""
    return Timeline((Stage(PLAIN, 0, epochs * steps_per_epoch, 0, steps_per_epoch),))


def prototype_timeline(
    config: PrototypeConfig, epochs: int, steps_per_epoch: int
) -> Timeline:
    """The stages of a prototype network.

    `epochs` passes over augmented images, and what comes between and after them."""
    stages: list[Stage] = []

    def add(kind: str, steps: int, period: int) -> None:
        start = stages[-1].stop if stages else 0
        if steps:
            stages.append(Stage(kind, start, start + steps, done, period))

    done = 0
    for push in push_passes(config, epochs):
        # a push within the warm passes leaves no joint stage before it
        for kind, until in ((WARM, min(push, config.warm)), (JOINT, push)):
            if until > done:
                add(kind, (until - done) * steps_per_epoch, steps_per_epoch)
                done = until
        add(PUSH, 1, 1)
        add(LAST_LAYER, config.last_layer, config.last_layer)
    if config.prune:
        add(PRUNE, 1, 1)
        add(LAST_LAYER, config.prune_last_layer, config.prune_last_layer)
    return Timeline(tuple(stages))


def push_passes(config: PrototypeConfig, epochs: int) -> Sequence[int]:
    """Passes after which there is a push: every so many, and always the last."""
    # the last push is at the end, where `range` does not reach
    regular = range(config.push_from, epochs, config.push_every)
    return [*regular, epochs]
