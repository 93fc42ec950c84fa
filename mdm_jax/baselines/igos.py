"""I-GOS (Qi, Khorram, Li, arXiv 1905.00954): a mask moved along integrated gradients.

The smallest smooth region whose blurring destroys the score, as in meaningful perturbation, but
with the integrated gradient in place of the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.integrated_masks import (
    IntegratedMasks,
    Vectors,
    Views,
    explain_by_masks,
    left_out,
    roughness,
)
from mdm_jax.types import Explanation, Image, Method, Node, Predict

DELETION = Views(np.array([[True]]), np.array([False]), weight=1.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class IGOS(IntegratedMasks):
    """The authors' code (`khorrams/IGOS_pp`): masks of 28 cells, 20 iterations of 20 points, the
    line search, which is what runs there whatever optimizer is asked for.

    Three things differ. Masks are upsampled with half-pixel centers, there with the corners lined
    up. A line search compares rates under the noise of the gradient, there under new noise each
    time. And lengths are in pixels at 224, there 51 below 500 pixels, 151 and 201 above."""


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: IGOS | None = None,
    trace: bool = False,
) -> Explanation:
    """S = 1 - M, m = argmin g(M x + (1 - M) blur(x)) + l1 mean |1 - m| + tv roughness(m).

    M is m [28, 28] at the image's size. The gradient of g is the mean over the masks M k / 20, k =
    1 ... 20, of noisy images. Image [h, w, c] in [0, 1]. 400 evaluations with a
    gradient, and 20 forwards for every rate that the line search tries; see `integrated_masks`.
    Raises InputError for a config that is not valid."""
    return explain_by_masks(
        predict,
        image,
        target,
        node=node,
        key=key,
        config=config or IGOS(),
        trace=trace,
        method=(DELETION, penalty),
    )


def penalty(vectors: Vectors, normalized: Image, config: Any) -> Float[Array, ""]:
    """l1 mean |1 - m| + tv (mean of squared differences down + to the right)."""
    del normalized
    (mask,) = vectors
    area = left_out(mask)
    return config.area_weight * area + config.smoothness_weight * roughness(mask)


METHOD = Method("igos", explain, IGOS, "probability")
