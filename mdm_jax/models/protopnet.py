"""ProtoPNet, Flax NNX, NHWC.

Chen, Li et al., "This looks like that", NeurIPS 2019, arXiv 1806.10574.
`ProtoPNet(backbone, ...)(images) -> (logits, out)`, on any backbone of ours. For the patches z of
an image and prototype p_j

    d_j(z) = |z - p_j|^2,    s_j = max over z of log((d_j + 1) / (d_j + epsilon)),    logits = s W

where W begins at 1 for a prototype's own class and at -1/2 for the others. Coefficients follow the
authors' code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mdm_jax.models.layers import Outputs
from mdm_jax.models.prototype_layers import (
    add_on_layers,
    apply_layers,
    assign_classes,
    feature_map,
    last_layer,
)

EPSILON = 1e-4

# Similarity at distance zero, 9.21.
LARGEST = math.log(1.0 / EPSILON)

# Weight of a prototype in the other classes' logits at the start.
OTHER_CLASS = -0.5


class ProtoPNet(nnx.Module):
    """Classifier by similarity of image patches to learned prototypes.

    `backbone` is a network without its head, which names its last map by `feature_layer` and counts
    its channels by `width`. `prototypes_per_class` is one number or one for each class;
    `prototype_classes` gives the class of every prototype instead, as it is after pruning. Input
    [n, h, w, channels], already normalized; `out` has what the backbone names and

      patches [n, gh, gw, d] in (0, 1); distance_maps, similarity_maps [n, gh, gw, m]; distances,
      similarities, normalized_similarities [n, m]: at the closest patch; the last as a share of
      `LARGEST`.

    Raises InputError for an unknown add-on and impossible numbers of prototypes.
    """

    def __init__(
        self,
        backbone: Any,
        *,
        num_classes: int = 10,
        prototypes_per_class: int | Sequence[int] = 10,
        prototype_classes: Sequence[int] | None = None,
        width: int = 128,
        add_on: str = "regular",
        rngs: nnx.Rngs,
    ):
        self.prototype_classes = assign_classes(
            num_classes, prototypes_per_class, prototype_classes
        )
        self.num_classes, self.add_on_kind = num_classes, add_on
        self.backbone = backbone
        self.add_on = add_on_layers(add_on, backbone.width, width, rngs=rngs)
        self.prototypes = nnx.Param(
            jax.random.uniform(rngs.params(), (len(self.prototype_classes), width))
        )
        self.last_layer = last_layer(
            self.prototype_classes, num_classes, OTHER_CLASS, rngs=rngs
        )

    @property
    def feature_layer(self) -> str:
        """The name in `out` of the backbone's last map."""
        return self.backbone.feature_layer

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was made with, beside its backbone."""
        return {
            "num_classes": self.num_classes,
            "prototype_classes": self.prototype_classes,
            "width": self.prototypes.shape[-1],
            "add_on": self.add_on_kind,
        }

    def __call__(self, images: Float[Array, "n h w c"]) -> Outputs:
        features, out = feature_map(self.backbone, images)
        patches = out["patches"] = jax.nn.sigmoid(apply_layers(self.add_on, features))
        distances = out["distance_maps"] = squared_distances(patches, self.prototypes[...])
        maps = out["similarity_maps"] = log_similarity(distances)
        out["distances"] = jnp.min(distances, axis=(1, 2))
        similarities = out["similarities"] = jnp.max(maps, axis=(1, 2))
        out["normalized_similarities"] = similarities / LARGEST
        return self.last_layer(similarities.astype(patches.dtype)), out


def squared_distances(
    patches: Float[Array, "n gh gw d"], prototypes: Float[Array, "m d"]
) -> Float[Array, "n gh gw m"]:
    """|z - p|^2 = relu(|z|^2 - 2 z.p + |p|^2), by a 1x1 convolution in float32."""
    z, p = patches.astype(jnp.float32), prototypes.astype(jnp.float32)
    # At full precision wherever it runs: the three terms nearly cancel where a patch is close to
    # its prototype.
    products = jnp.einsum("nhwd,md->nhwm", z, p, precision=jax.lax.Precision.HIGHEST)
    return jax.nn.relu(
        jnp.sum(z * z, axis=-1, keepdims=True) - 2 * products + jnp.sum(p * p, axis=-1)
    )


def log_similarity(distances: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """log((d + 1) / (d + epsilon)), from `LARGEST` at d = 0 down to 0."""
    return jnp.log((distances + 1.0) / (distances + EPSILON))
