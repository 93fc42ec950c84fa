"""FullGrad (Srinivas, Fleuret, arXiv 1905.00780): gradients of the input and of every bias."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.attribution import make_explanation
from mdm_jax.baselines.cam import resize_to_image
from mdm_jax.errors import unknown
from mdm_jax.execution import biases, intermediates
from mdm_jax.problem import activation, begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict

# What psi stretches to [0, 1] by its least and greatest value.
VARIANTS = {
    "paper": "each channel by itself; pytorch-grad-cam too",
    "original": "all channels of a layer together: the authors' repository",
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FullGrad:
    """The paper's psi by default: magnitude, stretched to [0, 1], resized to the image."""

    variant: str = field(default="paper", metadata=STATIC)
    """a name of `VARIANTS`"""

    def check(self) -> None:
        """Raises InputError for an unknown variant."""
        if self.variant not in VARIANTS:
            raise unknown("variant", self.variant, VARIANTS)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: FullGrad | None = None,
    trace: bool = False,
) -> Explanation:
    """S = sum_c psi(z_c * dg/dz_c) + sum_l sum_c psi(b_lc * dg/db_lc), psi = resize(stretch(|.|)).

    One evaluation with a gradient. `g` is the logit, z the image as the network has normalized it,
    b_l [h, w, c] the bias of layer l at every place of its map, that of a batch norm too; biases of
    vectors are left out, as everywhere. A norm right behind a convolution is one layer with it,
    which in pytorch-grad-cam are two if the convolution has a bias of its own. For networks of maps
    [n, h, w, c]. Image [h, w, c] in [0, 1]. Raises InputError for a network that returns no
    intermediates, that has no bias of maps or has those of tokens, as a Transformer, or that
    computes in loops or checkpoints.
    """
    config = config or FullGrad()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    program = intermediates.trace(predict, image.shape)

    def score(outputs: Any) -> Array:
        return activation(node, outputs, problem.target).sum()

    of_input, of_biases = biases.shares(program, image, score)
    total = add_channels(of_input, config.variant)
    for share in of_biases:
        total = total + resize_to_image(add_channels(share, config.variant), image)
    return make_explanation(predict, problem, total[..., None], node=node, evaluations=1)


def add_channels(share: Float[Array, "h w c"], variant: str) -> Float[Array, "h w"]:
    """Magnitudes stretched to [0, 1] and added up; a constant channel adds nothing.

    Resizing is linear, so it may follow the sum.
    """
    size = jnp.abs(share)
    axes = (0, 1) if variant == "paper" else (0, 1, 2)
    low, high = size.min(axis=axes, keepdims=True), size.max(axis=axes, keepdims=True)
    stretched = (size - low) / jnp.where(high > low, high - low, 1.0)
    return stretched.sum(axis=-1)


METHOD = Method("fullgrad", explain, FullGrad, "logit", is_pixelwise=True)
