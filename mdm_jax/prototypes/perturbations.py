"""Changes that regions must survive (noise on the image) or must not (other weights)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from mdm_jax.errors import InputError, unknown
from mdm_jax.execution.keys import as_key, id_numbers
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.protopnet import ProtoPNet
from mdm_jax.models.reinitialize import (
    constructor_arguments,
    named_weights,
    reinitialize,
)
from mdm_jax.models.xprotonet import XProtoNet
from mdm_jax.prototypes.boxes import top_share
from mdm_jax.types import AnyArray, Image, Scalar

# Of the noise on the normalized image (Huang et al., 2212.05946).
NOISE_DEVIATION, NOISE_LIMIT = 0.2, 0.25

# Share of the image whose regions are compared.
REGION_SHARE = 0.1
CHANGES = ("prototypes", "backbone")


def add_noise(image: Image, std: Any, *, key: Key[Array, ""]) -> Image:
    """x + std * clip(N(0, 0.2), -0.25, 0.25) of an image [h, w, c], cut to [0, 1].

    `std` is that of the normalization. Where the network normalizes by (x - mean) / std this is the
    noise of the stability score, but for what [0, 1] cuts off."""
    drawn = jnp.clip(
        NOISE_DEVIATION * jax.random.normal(key, image.shape),
        -NOISE_LIMIT,
        NOISE_LIMIT,
    )
    return jnp.clip(image + jnp.asarray(std, jnp.float32) * drawn, 0.0, 1.0)


def add_noise_to_images(
    classifier: Any, images: Any, *, key: Any = 0, ids: Any = None
) -> Float[np.ndarray, "n h w c"]:
    """`add_noise` to each image, drawn by its id.

    A network without preprocessing counts as normalized by 1."""
    std = getattr(getattr(classifier, "preprocessing", None), "std", 1.0)
    numbers = id_numbers(range(len(images)) if ids is None else ids)
    keys = jax.vmap(lambda number: jax.random.fold_in(as_key(key), number))(numbers)
    return np.asarray(
        jax.vmap(lambda image, key: add_noise(image, std, key=key))(
            jnp.asarray(images), keys
        )
    )


def overlap(
    a: Float[AnyArray, "h w"],
    b: Float[AnyArray, "h w"],
    share: Scalar = REGION_SHARE,
) -> Float[Array, ""]:
    """Intersection over union, in [0, 1], of the regions of equal area that two maps give."""
    first, second = top_share(a, share), top_share(b, share)
    return ((first & second).sum() / jnp.maximum((first | second).sum(), 1)).astype(
        jnp.float32
    )


def check_change(classifier: Any, what: str) -> None:
    """Raises InputError where `change_weights` cannot change `what`. Nothing is computed."""
    if what not in CHANGES:
        raise unknown("change", what, CHANGES)
    if not isinstance(classifier, Classifier):
        raise InputError(
            f"the {what} of a {type(classifier).__name__} cannot be changed: give a Classifier, see"
            " load_model"
        )
    if not any(
        name.partition(".")[0] == what for name, _ in named_weights(classifier.network)
    ):
        raise InputError(
            f"{classifier.name} has no weights under the name {what!r}: ours have prototypes and"
            " backbone.*"
        )
    if what == "backbone":
        network = classifier.network
        constructor_arguments(
            network.backbone if isinstance(network, ProtoPNet | XProtoNet) else network
        )


def change_weights(classifier: Classifier, what: str, *, seed: int = 1) -> Classifier:
    """The classifier with its prototypes permuted, or its backbone's weights drawn anew.

    "prototypes": prototype j becomes another one, none stays; "backbone": fresh weights
    `backbone.*`, as the network's own initializers draw them. Raises InputError for anything else,
    and for a network that has no such weights or is none of ours."""
    check_change(classifier, what)
    weights = named_weights(classifier.network)
    drawn = (
        dict(named_weights(reinitialize(classifier.network, seed)))
        if what == "backbone"
        else {}
    )

    def anew(name: str, leaf: Any) -> Any:
        if what == "backbone":
            return drawn[name] if name.startswith("backbone.") else leaf
        return leaf[derangement(len(leaf), seed)] if name == "prototypes" else leaf

    # leaf by leaf, so that the structure of the network stays as it is
    leaves = [anew(name, leaf) for name, leaf in weights]
    return replace(
        classifier,
        network=jax.tree.unflatten(jax.tree.structure(classifier.network), leaves),
    )


def derangement(n: int, seed: int) -> np.ndarray:
    """A permutation of n without a fixed point: a random cycle through all (of one, itself)."""
    order = np.random.default_rng(seed).permutation(n)
    moved = np.empty(n, int)
    # each element goes to its successor in a random cycle, so none stays
    moved[order] = np.roll(order, -1)
    return moved
