"""Score-CAM (Wang et al., arXiv 1910.01279): channels weighed by the score of the image seen
through each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax import fills
from mdm_jax.baselines.attribution import make_explanation
from mdm_jax.baselines.cam import check_layer, resize_to_image
from mdm_jax.errors import InputError, find_renamed, unknown
from mdm_jax.execution import feature_maps, intermediates
from mdm_jax.execution.convolutions import canonical
from mdm_jax.problem import Problem, activation, begin, blend
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict

# How the weights are found and the maps added; in all of them x_k = H_k * x + (1 - H_k) * neutral
# color.
VARIANTS = {
    "paper": (
        "weights g(x_k) - g(x_b), the increase of confidence over the image of the neutral color;"
        " maps added small"
    ),
    "original": "weights g(x_k), maps resized first and added as they are: the authors' repository",
    "pytorch-grad-cam": "weights softmax over the channels of the logit at x_k, maps added small",
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ScoreCAM:
    """The paper's definition 3 and equation 6 by default."""

    layer: str | None = field(default=None, metadata=STATIC)
    """a name of `out`; None as for the other CAMs"""
    variant: str = field(default="paper", metadata=STATIC)
    """a name of `VARIANTS`"""
    chunk: int = field(default=32, metadata=STATIC)
    """channels evaluated at a time; it changes memory, not the map"""

    def check(self) -> None:
        """Raises InputError for an unknown variant and for a chunk below one."""
        check_layer(self.layer)
        if self.variant not in VARIANTS:
            raise unknown("variant", self.variant, VARIANTS)
        if self.chunk < 1:
            raise InputError(f"chunk is {self.chunk}: give a whole number from 1")


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: ScoreCAM | None = None,
    trace: bool = False,
) -> Explanation:
    """S = relu(sum_k w_k A_k), w_k = g(H_k * x + (1 - H_k) b) - g(b).

    One forward evaluation a channel and one for the maps. H_k is channel k resized to the image and
    stretched to [0, 1]; b is the network's neutral color, what zero is once images are normalized
    (`fills.neutral_color`). A constant channel has no H_k and weighs nothing. Image [h, w, c] in
    [0, 1]. Raises InputError for a network without the layer.
    """
    config = config or ScoreCAM()
    config.check()
    neutral = fills.neutral_color(predict, image.shape[-1])
    problem = begin(predict, image, target, node=node, key=key, fill=neutral)
    program = intermediates.trace(predict, image.shape)
    layer = config.layer or intermediates.default_layer(program, image.shape)
    value = intermediates.values(program, image, layer)
    maps = jnp.moveaxis(feature_maps.as_map(value, image.shape[:2], layer), -1, 0)
    as_library = config.variant == "pytorch-grad-cam"
    score_node = "logit" if as_library else node
    scores, varies = channel_scores(
        predict, problem, maps, node=score_node, chunk=config.chunk
    )
    if as_library:
        weights = jax.nn.softmax(scores)
    else:
        offset = problem.fill_activation.sum() if config.variant == "paper" else 0.0
        weights = jnp.where(varies, scores - offset, 0.0)
    cam = jnp.tensordot(weights, maps, axes=1, precision=jax.lax.Precision.HIGHEST)
    if (
        config.variant == "original"
    ):  # resizing is linear: only the place of the relu differs
        attribution = jnp.maximum(resize_to_image(cam, image), 0.0)
    else:
        attribution = resize_to_image(jnp.maximum(cam, 0.0), image)
    return make_explanation(
        predict, problem, attribution[..., None], node=node, forwards=len(maps) + 1
    )


def channel_scores(
    predict: Predict,
    problem: Problem,
    maps: Float[Array, "k gh gw"],
    *,
    node: str | Node,
    chunk: int,
) -> tuple[Float[Array, " k"], Array]:
    """The node on the image through each map, and whether the map varies at all.

    k forward evaluations.
    """
    image, background, target = problem.image, problem.background, problem.target

    def one(channel: Float[Array, "gh gw"]) -> tuple[Array, Array]:
        fine = resize_to_image(channel, image)
        low, high = fine.min(), fine.max()
        seen = jnp.where(
            high > low, (fine - low) / jnp.where(high > low, high - low, 1.0), 0.0
        )
        batched = predict(blend(seen[None], image, background))
        outputs = jax.tree.map(lambda leaf: leaf[0], batched)
        return activation(node, outputs, target).sum(), high > low

    return jax.lax.map(canonical(one), maps, batch_size=min(chunk, len(maps)))


METHOD = Method("score_cam", explain, ScoreCAM, "probability")
RENAMED = {"ScoreCAMConfig": "ScoreCAM"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
