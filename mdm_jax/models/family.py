"""What the file of a network family tells: how one is built, named, and loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flax import nnx


@dataclass(frozen=True)
class Variant:
    """A published network of a family."""

    arguments: Mapping[str, Any]
    """those of its constructor that differ from the family's own"""
    preprocessing: Mapping[str, Any] | None = None
    """in place of the family's"""


@dataclass(frozen=True)
class Family:
    """A family of classifiers.

    The network takes `num_classes`, `channels` and `rngs`, and its property `arguments` tells what
    it was made with; see `ResNet` for what it returns."""

    network: type[nnx.Module]
    first_layer: str
    """timm's name of the layer that reads the image; its weight tells the number of channels"""
    head: str
    """timm's name of the layer that gives the logits"""
    preprocessing: Mapping[str, Any]
    """what published weights were evaluated with, in the terms of timm's `pretrained_cfg`; used
    for a weight file without config.json"""
    usual_weights: Callable[[str], str | None]
    """hub id of the weights of a variant whose numbers the literature quotes, where there are"""
    variants: Mapping[str, Variant] = field(default_factory=dict)
    """published networks by name"""
    pool: str = "avg"
    """what timm's config calls the features that reach the head"""
    has_position_embeddings: bool = False
    """whether the network is built for an input `size`, which its names may end in, as in
    `..._patch16_224`"""
    can_remat: bool = False
    """whether it takes `remat`, to compute its blocks again in the backward pass"""
