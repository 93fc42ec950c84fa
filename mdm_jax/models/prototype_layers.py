"""What prototype networks share: a backbone's last map, classes of prototypes, the last layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mdm_jax.errors import InputError, unknown
from mdm_jax.models.layers import pointwise
from mdm_jax.models.limits import check_prototypes

ADD_ONS = ("regular", "bottleneck")


def feature_map(
    backbone: Any, images: Float[Array, "n h w c"]
) -> tuple[Float[Array, "n gh gw d"], dict[str, Any]]:
    """The backbone's last map, and everything else that it names.

    A Transformer's patch tokens are laid out as a map."""
    _, out = backbone(images)
    features = out[backbone.feature_layer]
    if features.ndim == 3:
        # The tokens before the patches, of the class and DeiT's, have no place in the image.
        rows, columns = (side // backbone.patch for side in images.shape[1:3])
        features = features[:, -rows * columns :].reshape(len(images), rows, columns, -1)
    return features, out


def assign_classes(
    num_classes: int,
    prototypes_per_class: int | Sequence[int],
    prototype_classes: Sequence[int] | None,
) -> tuple[int, ...]:
    """The class of each prototype.

    Given outright, or as one number of prototypes for all classes, or one for each. Raises
    InputError for numbers that no network can have, and for a class that does not exist."""
    if prototype_classes is not None:
        check_prototypes(len(prototype_classes), num_classes)
        classes = tuple(int(each) for each in prototype_classes)
        if not classes or min(classes) < 0 or max(classes) >= num_classes:
            raise InputError(
                f"prototype_classes is {list(classes)}: give each prototype's class, 0 to"
                f" {num_classes - 1}"
            )
        return classes
    given: Any = prototypes_per_class
    counts = list(given) if isinstance(given, Sequence) else [given] * num_classes
    # By type, because a bool is an int too.
    are_possible = all(type(count) is int and count >= 1 for count in counts)
    if len(counts) != num_classes or not are_possible:
        raise InputError(
            f"prototypes_per_class is {prototypes_per_class}: give a whole number from 1, or one"
            f" for each of {num_classes}"
        )
    check_prototypes(sum(counts), num_classes)
    return tuple(number for number, count in enumerate(counts) for _ in range(count))


def add_on_layers(kind: str, inputs: int, width: int, *, rngs: nnx.Rngs) -> Any:
    """Pointwise convolutions from the backbone's channels to `width`: see `apply_layers`.

    `regular`: two. `bottleneck`: pairs that halve the channels until `width` is reached. Source:
    ProtoPNet's `model.py`. Raises InputError for another kind."""
    if kind not in ADD_ONS:
        raise unknown("add_on", kind, ADD_ONS)
    if type(width) is not int or width < 1:
        raise InputError(
            f"width is {width}: give the number of channels of a prototype, from 1"
        )
    if kind == "regular":
        return nnx.List(
            [pointwise(inputs, width, rngs=rngs), pointwise(width, width, rngs=rngs)]
        )
    layers: list[nnx.Conv] = []
    while inputs > width or not layers:
        outputs = max(width, inputs // 2)
        layers += [
            pointwise(inputs, outputs, rngs=rngs),
            pointwise(outputs, outputs, rngs=rngs),
        ]
        inputs = outputs
    return nnx.List(layers)


def apply_layers(layers: Any, x: Float[Array, "n gh gw c"]) -> Float[Array, "n gh gw d"]:
    """Convolutions with a ReLU between each two, none after the last."""
    for index, layer in enumerate(layers):
        x = layer(jax.nn.relu(x) if index else x)
    return x


def last_layer(
    classes: Sequence[int], num_classes: int, other: float, *, rngs: nnx.Rngs
) -> nnx.Linear:
    """Similarities to logits, without a bias.

    Weights begin at 1 for a prototype's own class and at `other` for the others."""
    layer = nnx.Linear(len(classes), num_classes, use_bias=False, rngs=rngs)
    own = np.arange(num_classes) == np.asarray(classes)[:, None]
    layer.kernel = nnx.Param(jnp.where(own, 1.0, other).astype(jnp.float32))
    return layer
