"""EigenCAM (Muhammad, Yeasin, arXiv 2008.00299): the first principal component of a layer."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.attribution import make_explanation
from mdm_jax.baselines.cam import check_layer, resize_to_image
from mdm_jax.errors import unknown
from mdm_jax.execution import feature_maps, intermediates
from mdm_jax.masks import HIGHEST
from mdm_jax.problem import begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict

# What the component is taken of, and whether its negative part is cut off.
VARIANTS = {
    "paper": "of the maps as they are, both signs kept",
    "pytorch-grad-cam": "of the maps less each channel's mean over places, then relu",
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EigenCAM:
    """The paper's by default."""

    layer: str | None = field(default=None, metadata=STATIC)
    """a name of `out`; None as for the other CAMs"""
    variant: str = field(default="paper", metadata=STATIC)
    """a name of `VARIANTS`"""

    def check(self) -> None:
        """Raises InputError for a layer that is no name and for an unknown variant."""
        check_layer(self.layer)
        if self.variant not in VARIANTS:
            raise unknown("variant", self.variant, VARIANTS)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: EigenCAM | None = None,
    trace: bool = False,
) -> Explanation:
    """S = A v_1, with A [places, channels] the layer's maps and A = U S V'.

    One forward evaluation; node and target play no part. The sign of v_1, which a singular value
    decomposition leaves open, is the one for which S is larger where A is: sum_p S_p |A_p| >= 0.
    For maps that are not negative S then has no negative value. Of a Transformer's tokens the first
    component is close to their mean, large in the background too: there the centered variant tells
    the object better. Image [h, w, c] in [0, 1]. Raises InputError for a network without the layer.
    """
    config = config or EigenCAM()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    program = intermediates.trace(predict, image.shape)
    layer = config.layer or intermediates.default_layer(program, image.shape)
    value = intermediates.values(program, image, layer)
    maps = feature_maps.as_map(value, image.shape[:2], layer)
    if config.variant == "paper":
        cam = project(maps)
    else:
        cam = jnp.maximum(project(maps - maps.mean(axis=(0, 1))), 0.0)
    return make_explanation(
        predict, problem, resize_to_image(cam, image)[..., None], node=node, forwards=1
    )


def project(maps: Float[Array, "gh gw c"]) -> Float[Array, "gh gw"]:
    """The places' coordinates along the first right singular vector, with the sign of `explain`."""
    height, width, channels = maps.shape
    rows = maps.reshape(height * width, channels)
    # the eigenvectors of the smaller of A A' and A' A: 49 x 49 for 49 places of 512 channels; with
    # A A' = U S^2 U' the coordinates A v_1 are s_1 u_1
    if height * width <= channels:
        squares, vectors = jnp.linalg.eigh(jnp.matmul(rows, rows.T, precision=HIGHEST))
        coordinates = vectors[:, -1] * jnp.sqrt(jnp.maximum(squares[-1], 0.0))
    else:
        _, vectors = jnp.linalg.eigh(jnp.matmul(rows.T, rows, precision=HIGHEST))
        coordinates = jnp.matmul(rows, vectors[:, -1], precision=HIGHEST)
    agreement = (coordinates * jnp.linalg.norm(rows, axis=-1)).sum()
    signed = jnp.where(agreement < 0, -coordinates, coordinates)
    return signed.reshape(height, width)


METHOD = Method("eigen_cam", explain, EigenCAM, "logit")
