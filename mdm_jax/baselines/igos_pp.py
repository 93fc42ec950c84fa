"""iGOS++ (Khorram, Lawson, Li, arXiv 2012.15783): masks that both destroy and restore the score.

Two masks are moved along integrated gradients: one deletes, one inserts, and their product does
both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax import masks
from mdm_jax.baselines.integrated_masks import (
    IntegratedMasks,
    Vectors,
    Views,
    edge_aware_roughness,
    explain_by_masks,
    left_out,
    roughness,
)
from mdm_jax.execution.chunked import check_above_zero
from mdm_jax.types import Explanation, Image, Method, Node, Predict

# The first mask deletes, the second inserts, their product does both.
BILATERAL = Views(
    np.array([[True, False], [False, True], [True, True], [True, True]]),
    np.array([False, True, False, True]),
    weight=0.5,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class IGOSPlusPlus(IntegratedMasks):
    """The authors' code (`khorrams/IGOS_pp`), as far as `IGOS` says."""

    edge_sigma: Any = 0.01
    """squared step of the image, in units of the network's normalized input, at which the total
    variation of the rendered mask counts 1 / e (leaf)"""

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown optimizer."""
        super().check()
        check_above_zero("edge_sigma", self.edge_sigma)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: IGOSPlusPlus | None = None,
    trace: bool = False,
) -> Explanation:
    """S = 1 - render(m d), m and d the masks [28, 28] that insert and delete.

    argmin 1/2 (g(D x + (1 - D) b) - g(M b + (1 - M) x) + g(P x + (1 - P) b) - g(P b + (1 - P) x))
    + l1 mean |1 - m d| + tv bilateral(m d),  P = M D, b = blur(x). The gradient
    of each g is the mean over its mask times k / 20, k = 1 ... 20, of noisy images. Image [h, w, c]
    in [0, 1]. 1600 evaluations with a gradient, and 80 forwards for every rate that the line search
    tries; see `integrated_masks`. Raises InputError for a config that is not valid."""
    return explain_by_masks(
        predict,
        image,
        target,
        node=node,
        key=key,
        config=config or IGOSPlusPlus(),
        trace=trace,
        method=(BILATERAL, penalty),
    )


def penalty(vectors: Vectors, normalized: Image, config: Any) -> Float[Array, ""]:
    """l1 mean |1 - p| + tv / 2 (roughness of p + that of render(p), free at the image's edges).

    p = m d. The authors' code takes the mean over channels before squaring the image's differences
    down, and after it for those to the right; here it is before in both."""
    both = jnp.stack(vectors).prod(axis=0)
    size = (normalized.shape[0], normalized.shape[1])
    wide = masks.render(both, size)
    area = left_out(both)
    edges = edge_aware_roughness(wide, normalized, config.edge_sigma)
    return config.area_weight * area + 0.5 * config.smoothness_weight * (
        roughness(both) + edges
    )


METHOD = Method("igos_pp", explain, IGOSPlusPlus, "probability")
