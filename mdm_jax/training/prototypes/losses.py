"""The loss of a prototype network, term by term, as pure functions of its outputs.

    total = classification + 0.8 cluster - 0.08 separation + 1e-4 l1 + 1e-3 transformation

after ProtoPNet's authors; the last, and the length of occurrence maps, after ProtoASNet's
XProtoNet. There 1 - similarity stands for the distance, so that cluster and separation are the
published terms on similarities but for constants. ProtoPNet's code cuts both at d, the number of
channels: no squared distance of two points in the unit box is larger. Here they are not cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mdm_jax.training.classification import Labels, classification_loss
from mdm_jax.training.prototypes.config import PrototypeConfig
from mdm_jax.training.prototypes.ownership import own_prototypes, own_weights

# Terms of occurrence maps, which the last layer's stage does not have.
MAP_TERMS = ("transformation", "occurrence_norm")

# Degrees and factors that the transformation loss draws from.
TURN, SMALLEST, LARGEST = 20.0, 0.6, 1.5


def term_weights(config: PrototypeConfig) -> dict[str, float]:
    """The weight of every term of the loss."""
    return {
        "classification": 1.0,
        "cluster": config.cluster,
        "separation": -config.separation,
        "l1": config.l1,
        "transformation": config.transformation,
        "occurrence_norm": config.occurrence_norm,
    }


def term_names(config: PrototypeConfig, *, has_occurrence: bool) -> list[str]:
    """The terms that the loss has; those of occurrence maps only where they weigh anything."""
    return [
        name
        for name, weight in term_weights(config).items()
        # a term of maps costs a second forward evaluation: only where it has weight
        if name not in MAP_TERMS or (has_occurrence and weight)
    ]


def terms(
    logits: Float[Array, "b classes"],
    distances: Float[Array, "b m"],
    kernel: Float[Array, "m classes"],
    labels: Labels,
    valid: Bool[Array, " b"],
    prototype_classes: Sequence[int],
    *,
    balanced: bool,
) -> dict[str, Float[Array, " b"]]:
    """The terms that every prototype network has, of each image.

    `distances` are those of `compared_distances`."""
    own = own_prototypes(labels, prototype_classes)
    return {
        "classification": classification_loss(logits, labels, valid, balanced=balanced),
        "cluster": cluster_cost(distances, own),
        "separation": separation_cost(distances, own),
        "l1": jnp.broadcast_to(l1_cost(kernel, prototype_classes), logits.shape[:1]),
    }


def compared_distances(out: dict[str, Any]) -> Float[Array, "b m"]:
    """What cluster and separation are computed on: squared distances, or 1 - similarity.

    ProtoPNet has distances; of XProtoNet the second stands for them."""
    return out["distances"] if "distance_maps" in out else 1.0 - out["similarities"]


def cluster_cost(
    distances: Float[Array, "b m"], own: Bool[Array, "b m"]
) -> Float[Array, " b"]:
    """Distance to the nearest prototype of the image's class, min_{j own} d_j; 0 without one."""
    return _nearest(distances, own)


def separation_cost(
    distances: Float[Array, "b m"], own: Bool[Array, "b m"]
) -> Float[Array, " b"]:
    """Distance to the nearest prototype of another class, min_{j not own} d_j; 0 without one.

    It is to be large."""
    return _nearest(distances, ~own)


def _nearest(distances: Array, among: Array) -> Array:
    nearest = jnp.min(jnp.where(among, distances, jnp.inf), axis=-1)
    exists = jnp.any(among, axis=-1)
    # twice, or the gradient of the unused infinity would be NaN
    return jnp.where(exists, jnp.where(exists, nearest, 0.0), 0.0)


def l1_cost(
    kernel: Float[Array, "m classes"], prototype_classes: Sequence[int]
) -> Float[Array, ""]:
    """Sum of absolute weights of the last layer from prototypes to classes that are not theirs."""
    return jnp.sum(
        jnp.where(own_weights(prototype_classes, kernel.shape[1]), 0.0, jnp.abs(kernel))
    )


def occurrence_norm(maps: Float[Array, "b gh gw m"]) -> Float[Array, " b"]:
    """Length of each occurrence map, |M_p|_2, mean over the prototypes."""
    square = jnp.sum(maps * maps, axis=(1, 2))
    # an empty map has the gradient zero, where that of the square root is infinite
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return jnp.mean(length, axis=-1)


def transformation_cost(
    moved_maps: Float[Array, "b gh gw m"],
    maps: Float[Array, "b gh gw m"],
    angle: Float[Array, ""],
    scale: Float[Array, ""],
) -> Float[Array, " b"]:
    """|M(A(x)) - A(M(x))|, mean over positions and prototypes, A as in `transform`."""
    return jnp.mean(jnp.abs(moved_maps - transform(maps, angle, scale)), axis=(1, 2, 3))


def draw_transformation(key: Array) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """An angle in radians within 20 degrees and a factor from 0.6 to 1.5."""
    turn, size = jax.random.split(key)
    angle = jax.random.uniform(turn, (), minval=-np.deg2rad(TURN), maxval=np.deg2rad(TURN))
    return angle, jax.random.uniform(size, (), minval=SMALLEST, maxval=LARGEST)


def transform(
    x: Float[Array, "b h w c"], angle: Float[Array, ""], scale: Float[Array, ""]
) -> Float[Array, "b h w c"]:
    """Images or maps turned by `angle` and enlarged by `scale` about their center.

    Bilinear; what comes in from outside is zero. A position is read at R(-angle) (u - center) /
    scale, both sides of the image taken as 1, so that the images and the maps of any grid move
    alike; where the sides differ a turn also skews."""
    height, width = x.shape[1:3]
    rows, columns = (
        jnp.arange(height) - (height - 1) / 2,
        jnp.arange(width) - (width - 1) / 2,
    )
    y, x_ = jnp.meshgrid(rows * (1.0 / height), columns * (1.0 / width), indexing="ij")
    # pixels are read backwards: from where each one comes
    cosine, sine = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    from_y, from_x = (
        (cosine * y + sine * x_) * height,
        (cosine * x_ - sine * y) * width,
    )
    places = [from_y + (height - 1) / 2, from_x + (width - 1) / 2]

    def read(plane: Array) -> Array:
        return jax.scipy.ndimage.map_coordinates(plane, places, order=1, mode="constant")

    return jax.vmap(jax.vmap(read, in_axes=-1, out_axes=-1))(x)
