"""The maps that prototype networks show of themselves, brought to the size of the image.

ProtoPNet: the similarity s_j(z) at every position of the feature grid, by cubic interpolation as
  its authors display it.
XProtoNet: the occurrence map M_j(u), bilinear. A grid of 7x7 blown up to the image says where a
  position's center is, not what the position has seen, which is why these are compared with regions
  that are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.attribution import make_explanation
from mdm_jax.errors import InputError, unknown
from mdm_jax.masks import HIGHEST, Size, bilinear_matrix
from mdm_jax.problem import begin
from mdm_jax.types import STATIC, Explanation, Image, Node, Predict

# Parameter a of the cubic kernel: that of OpenCV's INTER_CUBIC, which ProtoPNet uses; Pillow and
# JAX take -0.5.
CUBIC_SHARPNESS = -0.75


@cache
def cubic_interpolation(cells: int, pixels: int) -> np.ndarray:
    """Cubic interpolation matrix [pixels, cells], as OpenCV's INTER_CUBIC.

    Half-pixel centers; beyond the border the edge cell is repeated."""
    centers = (np.arange(pixels) + 0.5) * cells / pixels - 0.5
    first = np.floor(centers).astype(int)
    matrix = np.zeros((pixels, cells))
    a = CUBIC_SHARPNESS
    for tap in range(-1, 3):
        distance = np.abs(centers - first - tap)
        near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
        far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        weight = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
        np.add.at(matrix, (np.arange(pixels), np.clip(first + tap, 0, cells - 1)), weight)
    return matrix.astype(np.float32)


INTERPOLATIONS: dict[str, Callable[[int, int], np.ndarray]] = {
    "cubic": cubic_interpolation,
    "bilinear": bilinear_matrix,
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MapConfig:
    """How a map of the feature grid comes to the size of the image."""

    interpolation: str | None = field(default=None, metadata=STATIC)
    """"cubic" (as OpenCV's) or "bilinear"; None is what the network's authors show: cubic for
    activation maps, bilinear for occurrence maps"""

    def check(self) -> None:
        """Raises InputError for another interpolation."""
        if self.interpolation is not None and self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)


def upsample(
    grid: Float[Array, "gh gw"], size: Size, kind: str = "cubic"
) -> Float[Array, "h w"]:
    """A map of the feature grid at a size (height, width), R_h G R_w^T."""
    # full precision: on a TPU the default would round maps to bfloat16
    rows, columns = (
        INTERPOLATIONS[kind](cells, pixels) for cells, pixels in zip(grid.shape, size)
    )
    return jnp.matmul(
        jnp.matmul(rows, grid, precision=HIGHEST), columns.T, precision=HIGHEST
    )


def read_map(predict: Predict, image: Image, name: str) -> Float[Array, "gh gw m"]:
    """`out[name]` of one image (one forward evaluation).

    Raises InputError for a network without it."""
    # other networks return logits alone, or a tuple whose second part is no mapping
    outputs = predict(image[None])
    out = outputs[1] if isinstance(outputs, tuple | list) and len(outputs) > 1 else None
    if not isinstance(out, Mapping) or name not in out:
        raise InputError(
            f"the network returns no out[{name!r}]: activation maps and receptive fields are"
            " ProtoPNet's, occurrence maps XProtoNet's; leave the region out, or choose from"
            " regions.applicable(network, shape)"
        )
    return out[name][0].astype(jnp.float32)


def _explain_map(
    predict: Predict,
    image: Image,
    target: Any,
    config: MapConfig | None,
    name: str,
    usual: str,
    **begun: Any,
) -> Explanation:
    config = config or MapConfig()
    config.check()
    problem = begin(predict, image, target, **begun)
    grid = read_map(predict, image, name)[..., problem.target]
    whole = upsample(grid, (image.shape[0], image.shape[1]), config.interpolation or usual)
    return make_explanation(
        predict, problem, whole[..., None], node=begun["node"], forwards=1
    )


def activation_map(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "similarity",
    key: Key[Array, ""],
    config: MapConfig | None = None,
    trace: bool = False,
) -> Explanation:
    """S = upsample(s_j(z)), the similarity of prototype j = `target` at every position.

    It is what ProtoPNet shows. Image [h, w, c] in [0, 1]; the attribution is the map in the
    similarity's own units, the saliency stretched to [0, 1]. Raises InputError for a network
    without out["similarity_maps"]. Source: ProtoPNet's `push.py`."""
    return _explain_map(
        predict,
        image,
        target,
        config,
        "similarity_maps",
        "cubic",
        node=node,
        key=key,
    )


def occurrence_map(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "similarity",
    key: Key[Array, ""],
    config: MapConfig | None = None,
    trace: bool = False,
) -> Explanation:
    """S = upsample(M_j(u)), where prototype j = `target` occurs: what XProtoNet shows.

    Image [h, w, c] in [0, 1]. Raises InputError for a network without out["occurrence_maps"].
    """
    return _explain_map(
        predict,
        image,
        target,
        config,
        "occurrence_maps",
        "bilinear",
        node=node,
        key=key,
    )
