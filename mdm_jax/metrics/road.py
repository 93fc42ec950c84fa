"""ROAD (Rong et al., arXiv 2202.00449): remove pixels so that the removal itself is invisible.

The fraction q of the pixels is removed, the most salient first (MoRF) or the least (LeRF), and
imputed
from what remains (see `imputation.py`), plus Gaussian noise of deviation 0.01 of the image in [0,
1]. With p(q) the softmax probability of the class

    MoRF = mean_q p(q), lower is better
    LeRF = mean_q p(q), higher is better
    combined = (LeRF - MoRF) / 2, higher is better

over q = 10, 20 ... 90 %, as pytorch-grad-cam has it; it takes p(q) - p(0) for p(q), which leaves
the combination the same. The q h w pixels, rounded down, are those first in order of saliency, ties
row by row: exactly as many whatever the map, where a threshold would remove all of a constant one.
A map with a NaN gives NaN. The metrics take the order from the method's ranking where it has one,
see `Sample.ranking`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from mdm_jax.errors import InputError
from mdm_jax.execution.chunked import map_over
from mdm_jax.metrics.imputation import impute
from mdm_jax.metrics.metric import Metric, Sample
from mdm_jax.metrics.perturbed import chunk_for, ranks, score, unless_nan
from mdm_jax.types import AnyArray, Node, Predict, Scalar

PERCENTAGES = (10, 20, 30, 40, 50, 60, 70, 80, 90)
NOISE = 0.01
ORDERS = ("morf", "lerf")


def probabilities(
    predict: Predict,
    image: Float[AnyArray, "h w c"],
    saliency: Float[AnyArray, "h w"],
    target: Any,
    *,
    key: Key[Array, ""],
    orders: Sequence[str] = ORDERS,
    percentages: Sequence[int | float] = PERCENTAGES,
    noise: Scalar = NOISE,
    node: str | Node = "probability",
    chunk: int | None = None,
) -> Float[Array, "orders percentages"]:
    """p(q) for each order of removal and each percentage.

    `chunk` images are evaluated at a time.
    """
    removed = jnp.concatenate([removals(saliency, percentages, order) for order in orders])
    filled = impute(image, removed)
    # one draw for each percentage, the same for both orders: their difference must not come from
    # the noise
    drawn = jax.random.normal(key, (len(percentages), *image.shape))
    noisy = filled + noise * removed[..., None] * jnp.tile(drawn, (len(orders), 1, 1, 1))
    at_once = chunk_for(image.shape, chunk)
    scores = map_over(lambda each: score(predict, each, target, node=node), noisy, at_once)
    return unless_nan(saliency, scores.reshape(len(orders), len(percentages)))


def removals(
    saliency: Float[AnyArray, "h w"],
    percentages: Sequence[int | float] = PERCENTAGES,
    order: str = "morf",
) -> Bool[Array, "percentages h w"]:
    """The pixels removed at each percentage.

    Raises InputError for a percentage outside 0 to 100, 100 excluded, or another order.
    """
    if order not in ORDERS:
        raise InputError(
            f"order is {order!r}: give 'morf' (most relevant first) or 'lerf' (least relevant"
            " first)"
        )
    if not all(0 <= percentage < 100 for percentage in percentages):
        raise InputError(
            f"percentages are {tuple(percentages)}: give numbers from 0 to below 100, something"
            " must remain"
        )
    rank = ranks(saliency)
    if order == "lerf":
        rank = saliency.size - 1 - rank
    counts = [int(percentage * saliency.size / 100) for percentage in percentages]
    return jnp.stack([rank < count for count in counts])


def _measure(
    predict: Predict,
    sample: Sample,
    *,
    key: Key[Array, ""],
    orders: tuple[str, ...],
    combined: bool = False,
) -> Float[Array, ""]:
    by_percentage = probabilities(
        predict, sample.image, sample.ranking, sample.target, key=key, orders=orders
    )
    means = by_percentage.mean(axis=1)
    if combined:
        return (means[1] - means[0]) / 2  # LeRF - MoRF
    return means[0]


_DESCRIPTION = (
    "Mean probability of the class with 10 to 90 % of the pixels removed, the {} salient first, and"
    " imputed."
)
METRICS = (
    Metric(
        "road",
        "linear",
        partial(_measure, orders=ORDERS, combined=True),
        "higher",
        description="Half of LeRF - MoRF.",
        reads="ranking",
    ),
    Metric(
        "road_morf",
        "linear",
        partial(_measure, orders=("morf",)),
        "lower",
        description=_DESCRIPTION.format("most"),
        reads="ranking",
    ),
    Metric(
        "road_lerf",
        "linear",
        partial(_measure, orders=("lerf",)),
        "higher",
        description=_DESCRIPTION.format("least"),
        reads="ranking",
    ),
)
