"""Ablation-CAM (Desai, Ramaswamy, WACV 2020): channels weighed by what the class loses without
each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.attribution import make_explanation
from mdm_jax.baselines.cam import check_layer, resize_to_image
from mdm_jax.errors import InputError
from mdm_jax.execution import chunked, feature_maps, intermediates
from mdm_jax.masks import HIGHEST
from mdm_jax.problem import activation, begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AblationCAM:
    """The paper's, with no numbers: a place to look at."""

    layer: str | None = field(default=None, metadata=STATIC)
    """a name of `out`; None as for the other CAMs"""
    chunk: int = field(default=32, metadata=STATIC)
    """channels evaluated at a time; it changes memory, not the map"""

    def check(self) -> None:
        """Raises InputError for a layer that is no name and for a chunk below one."""
        check_layer(self.layer)
        if self.chunk < 1:
            raise InputError(f"chunk is {self.chunk}: give a whole number from 1")


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: AblationCAM | None = None,
    trace: bool = False,
) -> Explanation:
    """S = relu(sum_k w_k A_k), w_k = (g - g_k) / |g|, g_k with channel k zero.

    The paper divides by g; its magnitude is the same for a class that is believed in, and keeps a
    negative logit from turning the map over. Forward evaluations: one, and one a channel of what
    lies behind the layer, each counted as a whole one; from a last layer they cost next to nothing.
    Image [h, w, c] in [0, 1]. Raises InputError for a network without the layer, and for a layer
    that the logits do not depend on.
    """
    config = config or AblationCAM()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    program = intermediates.trace(predict, image.shape)
    layer = config.layer or intermediates.default_layer(program, image.shape)
    value, rest = intermediates.value_and_rest(program, image, layer)
    maps = feature_maps.as_map(value, image.shape[:2], layer)

    def score(value: Array) -> Float[Array, ""]:
        outputs: Any = jax.tree.map(lambda leaf: leaf[0], rest(value))
        return activation(node, outputs, problem.target).sum()

    def without(channel: Int[Array, ""]) -> Float[Array, ""]:
        return score(jnp.where(jnp.arange(value.shape[-1]) == channel, 0.0, value))

    whole = score(value)
    channels = jnp.arange(value.shape[-1])
    scores = chunked.map_over(without, channels, config.chunk)
    weights = (whole - scores) / jnp.where(whole == 0, 1.0, jnp.abs(whole))
    cam = jnp.maximum(jnp.tensordot(maps, weights, axes=1, precision=HIGHEST), 0.0)
    return make_explanation(
        predict,
        problem,
        resize_to_image(cam, image)[..., None],
        node=node,
        forwards=len(channels) + 1,
    )


METHOD = Method("ablation_cam", explain, AblationCAM, "logit")
