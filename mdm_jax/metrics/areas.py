"""Minimal sufficient and minimal necessary area: how few pixels carry the decision?

Of the image x with the share a of its pixels, the most salient, and of x without them, the rest in
both replaced by RISE's blurred image, p_keep(a) and p_drop(a) are the softmax probabilities of the
class. With p(x) on the image and p(f) on the blurred one,

    sufficient = min { a : p_keep(a) - p(f) >= 0.9 (p(x) - p(f)) }
    necessary  = min { a : p_drop(a) - p(f) <= 0.1 (p(x) - p(f)) }

so that where nothing of the class is left in the fill, the first keeps 90 % of its probability and
the second leaves 10 %. Lower is better: the fewer pixels, the more the map says. 1 where the image
is not more probable than its fill, so that there is nothing to keep or lose. The areas are (i /
32)^2, which resolves small ones, with straight lines between them; the first crossing counts. Each
metric is 33 forwards. Ties go row by row; a map with a NaN gives NaN. The metrics take the top
pixels from the method's ranking where it has one, see `Sample.ranking`.

The smallest region that keeps a class: Dabkowski and Gal, arXiv 1705.07857; Fong and Vedaldi, arXiv
1704.03296 (their "smallest deletion region"). Their regions are boxes or masks of their own; here
they are the map's top pixels, so that any map can be asked.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from mdm_jax import fills
from mdm_jax.errors import InputError, unknown
from mdm_jax.execution.chunked import map_over
from mdm_jax.metrics.curves import rise_blur
from mdm_jax.metrics.metric import Metric, Sample
from mdm_jax.metrics.perturbed import chunk_for, ranks, score, unless_nan
from mdm_jax.types import AnyArray, Node, Predict

STEPS = 32
SHARE = 0.9

KINDS = ("sufficient", "necessary")


def minimal_area(
    predict: Predict,
    image: Float[AnyArray, "h w c"],
    saliency: Float[AnyArray, "h w"],
    target: Any,
    *,
    kind: str,
    share: float = SHARE,
    steps: int = STEPS,
    node: str | Node = "probability",
) -> Float[Array, ""]:
    """The least share of top pixels that wins `share` of the way from the fill to the image
    ("sufficient"), or whose removal loses as much of it ("necessary"); in (0, 1].

    Raises InputError for another kind, a share outside (0, 1], or no step.
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    if not 0 < share <= 1:
        raise InputError(f"share is {share}: give a number above 0, at most 1")
    if steps < 1:
        raise InputError(f"steps is {steps}: give a whole number from 1")
    image = jnp.asarray(image)
    background = rise_blur(image, fills.neutral_color(predict, image.shape[-1]))
    counts = np.rint((np.arange(steps + 1) / steps) ** 2 * saliency.size).astype(int)
    rank = ranks(saliency)[..., None]

    def score_of(count: Array) -> Array:
        is_top = rank < count
        is_seen = is_top if kind == "sufficient" else ~is_top
        return score(predict, jnp.where(is_seen, image, background), target, node=node)

    scores = map_over(score_of, jnp.asarray(counts), chunk_for(image.shape))
    # from nothing done to everything done: 0 to 1 for both kinds
    way = scores[-1] - scores[0]
    can_move = way > 0 if kind == "sufficient" else way < 0
    done = (scores - scores[0]) / jnp.where(can_move, way, 1.0)
    reached = first_reached(jnp.asarray(counts / saliency.size), done, share)
    area = jnp.where(can_move, reached, 1.0)
    is_broken = jnp.isnan(scores).any()
    return unless_nan(saliency, jnp.where(is_broken, jnp.nan, area))


def first_reached(
    places: Float[AnyArray, " n"], values: Float[AnyArray, " n"], level: float
) -> Float[Array, ""]:
    """Where the broken line through the values first reaches the level; 1 where it never does.

    Places ascend, and the first value lies below the level.
    """
    is_reached = values >= level
    after = jnp.maximum(jnp.argmax(is_reached), 1)
    below, above = values[after - 1], values[after]
    is_rising = above > below
    part = (level - below) / jnp.where(is_rising, above - below, 1.0)
    place = places[after - 1] + part * (places[after] - places[after - 1])
    return jnp.where(is_reached.any(), place, 1.0)


def _measure(
    predict: Predict, sample: Sample, *, key: Key[Array, ""], kind: str
) -> Float[Array, ""]:
    del key
    return minimal_area(predict, sample.image, sample.ranking, sample.target, kind=kind)


METRICS = (
    Metric(
        "sufficient_area",
        "blur-90",
        partial(_measure, kind="sufficient"),
        "lower",
        description=(
            "Least share of top pixels, over RISE's blurred image, that wins 90 % of the way from"
            " its probability of the class to the image's; 33 forwards."
        ),
        reads="ranking",
    ),
    Metric(
        "necessary_area",
        "blur-90",
        partial(_measure, kind="necessary"),
        "lower",
        description=(
            "Least share of top pixels whose blurring, as RISE's, loses 90 % of the way from the"
            " image's probability of the class to the blurred image's; 33 forwards."
        ),
        reads="ranking",
    ),
)
