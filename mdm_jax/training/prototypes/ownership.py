"""Which prototypes are of an image's class, and which weights are of a prototype's class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Bool, Float, Int


def own_prototypes(
    labels: Int[Array, " b"] | Float[Array, "b classes"],
    prototype_classes: Sequence[int],
) -> Bool[Array, "b m"]:
    """Whether image i is of the class of prototype j.

    `labels` are class numbers, or 1 for each class that an image has."""
    classes = np.asarray(prototype_classes)
    return labels[:, None] == classes if labels.ndim == 1 else labels[:, classes] > 0


def own_weights(
    prototype_classes: Sequence[int], num_classes: int
) -> Bool[np.ndarray, "m classes"]:
    """Whether weight [j, c] of the last layer is from prototype j to its own class."""
    return np.asarray(prototype_classes)[:, None] == np.arange(num_classes)
