"""What the class activation maps share: a layer, its value and gradient, the map at image size.

S = resize(combine(A, d g / d A)),    A = out[layer], a map [h, w, c], or a Transformer's patch
tokens laid out as one"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
from jaxtyping import Array, Float, Int, Key

from mdm_jax import masks
from mdm_jax.baselines.attribution import make_explanation
from mdm_jax.errors import InputError
from mdm_jax.execution import feature_maps, intermediates
from mdm_jax.problem import activation, begin
from mdm_jax.types import STATIC, Explanation, Image, Node, Predict

# From a layer's activations and their gradients to a map.
Combine = Callable[
    [Float[Array, "gh gw c"], Float[Array, "gh gw c"]], Float[Array, "gh gw"]
]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CAMConfig:
    """Grad-CAM, Grad-CAM++ and LayerCAM have no numbers, only a place to look at."""

    layer: str | None = field(default=None, metadata=STATIC)
    """a name of `out` (see `intermediates.available`); None takes the last map on the way to the
    logits, for a Transformer the tokens that enter the last block's attention"""

    def check(self) -> None:
        """Raises InputError for a layer that is no name."""
        check_layer(self.layer)


def check_layer(layer: Any) -> None:
    """Raises InputError for a layer that is neither None nor a name."""
    if layer is not None and not isinstance(layer, str):
        raise InputError(
            f"layer is {layer!r}: give the name of an intermediate, or None for the default"
        )


def weigh_gradients(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None,
    *,
    node: str | Node,
    key: Key[Array, ""],
    config: CAMConfig | None,
    combine: Combine,
) -> Explanation:
    """The explanation that `combine` makes of a layer's activations and gradients.

    One evaluation with a gradient. The attribution is the map resized to the image (bilinear,
    half-pixel centers) before it is stretched to [0, 1].
    """
    config = config or CAMConfig()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    program = intermediates.trace(predict, image.shape)
    layer = config.layer or intermediates.default_layer(program, image.shape)

    def score(outputs: Any) -> Array:
        return activation(node, outputs, problem.target).sum()

    value, gradient = intermediates.value_and_gradient(program, image, layer, score)
    size = image.shape[:2]
    maps = feature_maps.as_map(value, size, layer)
    gradients = feature_maps.as_map(gradient, size, layer)
    cam = combine(maps, gradients)
    return make_explanation(
        predict, problem, resize_to_image(cam, image)[..., None], node=node, evaluations=1
    )


def resize_to_image(cam: Float[Array, "gh gw"], image: Image) -> Float[Array, "h w"]:
    """A map at the size of the image."""
    return masks.render(cam, (image.shape[0], image.shape[1]))
