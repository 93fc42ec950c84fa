"""Purity and consistency of prototypes against annotated part locations (CUB's 15).

They ask whether a prototype looks at one part of the object.

A box is laid about the place where a map is highest, in proportion to ProtoPNet's 224 pixels, and
it is noted which parts lie in it. Any map can take the place of the activation map; no new
annotation is needed.

    purity_j      = max over parts of  #(part in box) / #(images of j)
    consistency   = fraction of prototypes with
                    max over parts of  #(part in box) / #(part is seen) >= 0.8

For purity the left and the right of a part are one, as in PIP-Net, where the parts' names are
known; else each counts alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from mdm_jax.errors import InputError
from mdm_jax.prototypes.boxes import ranks
from mdm_jax.types import AnyArray

# Side of the box for purity, as a fraction of the image's: 32 pixels of 224, "otherwise the bigger
# the patch, the higher the purity" (PIP-Net, Nauta et al. 2023).
PURITY_SIDE = 32 / 224

# Side of the box for consistency (Huang et al., "Evaluation and improvement of interpretability
# ...", 2212.05946).
CONSISTENCY_SIDE = 72 / 224

# Share of the images with a part from which a prototype is consistent.
CONSISTENCY_SHARE = 0.8


def peak(saliency: Float[AnyArray, "h w"]) -> Float[Array, "2"]:
    """(x, y) of the center of the pixel that the map ranks first (see `boxes.ranks` for ties)."""
    row, column = jnp.divmod(jnp.argmin(ranks(saliency)), saliency.shape[1])
    return jnp.stack([column, row]) + 0.5


def near_peak(
    saliency: Float[AnyArray, "h w"], parts: Float[AnyArray, "p 2"], side: float
) -> Bool[Array, " p"]:
    """Which parts (x, y), in pixels of the map, lie in the box about its peak.

    One that is not seen (NaN) lies in none. `side` is the box's as a share of the image's: 72 / 224
    is 36 pixels to either side at 224."""
    reach = jnp.asarray([saliency.shape[1], saliency.shape[0]]) * side / 2
    # a comparison with NaN is false: a part that is not seen is not near
    return (jnp.abs(jnp.asarray(parts) - peak(saliency)) <= reach).all(axis=-1)


def merge_sides(
    found: Bool[AnyArray, "n p"], names: Sequence[str]
) -> Bool[np.ndarray, "n q"]:
    """What holds of "left X" or of "right X" for each X; other parts as they are.

    In the order of the names."""
    columns: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        plain = name.removeprefix("left ").removeprefix("right ")
        columns.setdefault(plain, []).append(i)
    merged = [np.asarray(found)[:, own].any(axis=1) for own in columns.values()]
    return np.stack(merged, axis=1)


def check_parts(parts: Sequence[Any], names: Sequence[str] | None) -> None:
    """Raises InputError unless all given parts have one shape [p, 2], and a name for each."""
    shapes = [np.shape(each) for each in parts if each is not None]
    for shape in shapes:
        if len(shape) != 2 or shape[1] != 2 or shape != shapes[0]:
            raise InputError(
                f"parts have shape {shape}, the first have {shapes[0]}: give (x, y) [p, 2] with the"
                " same p parts for each pair, NaN for one that is not seen"
            )
    if names and shapes and len(names) != shapes[0][0]:
        raise InputError(
            f"{len(names)} part names for {shapes[0][0]} parts: give one for each"
        )


def statistics(
    prototypes: Integer[AnyArray, " n"],
    near: Bool[AnyArray, "n p"],
    seen: Bool[AnyArray, "n p"],
) -> Float[np.ndarray, "n s"]:
    """Statistics of `purity` and `consistency`, a row a pair.

    The prototype, the parts near its peak, the parts seen."""
    columns = [np.asarray(prototypes)[:, None], np.asarray(near), np.asarray(seen)]
    return np.concatenate(columns, axis=1).astype(np.float64)


def purity(rows: Float[np.ndarray, "n s"]) -> float:
    """Mean over prototypes of the presence of each one's best part, in [0, 1].

    Raises InputError without pairs."""
    images, near, _ = _sum_by_prototype(rows)
    return float((near / images[:, None]).max(axis=1).mean())


def consistency(rows: Float[np.ndarray, "n s"]) -> float:
    """Fraction of prototypes that are near one part in `CONSISTENCY_SHARE` of their images.

    Raises InputError without pairs."""
    _, near, seen = _sum_by_prototype(rows)
    # a part that is never seen is never near: 0 / 1
    return float(((near / np.maximum(seen, 1)).max(axis=1) >= CONSISTENCY_SHARE).mean())


def _sum_by_prototype(
    rows: Float[np.ndarray, "n s"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each prototype that occurs: its images [j], parts near [j, p] and parts seen [j, p]."""
    if not len(rows):
        raise InputError(
            "no pairs: purity and consistency need at least one image with parts"
        )
    count = (rows.shape[1] - 1) // 2
    _, numbers = np.unique(rows[:, 0], return_inverse=True)
    # sums over pairs of a prototype as a product with its 0/1 row
    own = np.arange(numbers.max() + 1)[:, None] == numbers
    sums = own.astype(np.float64) @ rows[:, 1:]
    return own.sum(axis=1), sums[:, :count], sums[:, count:]
