"""Metrics of a comparison of regions; `measure(evidence)` gives the statistics of all pairs.

Two definitions of what is kept of a node, because each alone misses something. Of the similarity,
as in insertion and deletion,

    mean over pairs of  area under  g(kept) / g(x)

and of both nodes above the fill, where a node that the fill alone activates counts for little:

    sum over pairs of area under (g(kept) - g(b))  /  sum over pairs of (g(x) - g(b)),
    over pairs with g(x) > g(b)

The second has the distance with its sign turned, for which a ratio to 0, the distance after the
projection, means nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from mdm_jax.evaluation.statistics import Measured
from mdm_jax.metrics.metric import Metric
from mdm_jax.prototypes import parts as parts_
from mdm_jax.prototypes.boxes import box_area, percentile_box, ranks
from mdm_jax.prototypes.curves import (
    FILLS,
    Curves,
    area_under,
    at_areas,
    keeps_node,
    least_area,
)
from mdm_jax.prototypes.perturbations import overlap

# A node that the fill changes by less, relative to its size, is constant.
CONSTANT_BELOW = 1e-6

# Shares of the image at which regions are laid over the object.
OVERLAP_SHARES = (0.05, 0.2)

# Of the node that the least area keeps.
LEAST_AREA_SHARE = 0.9


class Evidence(NamedTuple):
    """All that is measured of one region of n pairs."""

    curves: Curves
    saliency: Float[np.ndarray, "n h w"]
    prototypes: Integer[np.ndarray, " n"]
    masks: Sequence[Any]
    """[h, w] of the object, or None"""
    parts: Sequence[Any]
    """(x, y) [p, 2] of the object's parts in pixels, NaN for what is not seen, or None"""
    others: dict[str, Float[np.ndarray, "n h w"]]
    """the region's maps under changes: "noise", "prototypes", "backbone" """
    part_names: Sequence[str] = ()
    """[p], by which left and right parts are one for purity"""


def informative_pairs(curves: Curves) -> Bool[np.ndarray, " n"]:
    """Pairs whose prototype has something to keep: g(x) > 0, and some fill changes it.

    The same for every region."""
    similarity = np.asarray(curves.kept.similarity, np.float64)
    whole, fill = similarity[:, 0, -1], similarity[..., 0]
    change = np.abs(whole[:, None] - fill)
    constant = (change <= CONSTANT_BELOW * np.abs(whole[:, None])).all(axis=1)
    # a pair that failed (NaN) stays in, so that it is seen
    return (whole > CONSTANT_BELOW) & ~constant | ~np.isfinite(whole)


def _retention(evidence: Evidence, fill: int) -> Measured:
    kept = np.asarray(evidence.curves.kept.similarity, np.float64)[:, fill]
    rows = np.flatnonzero(informative_pairs(evidence.curves))
    # the last rung is the clean image
    kept = kept[rows] / kept[rows, -1:]
    return Measured(area_under(at_areas(kept), kept[:, 0]), rows)


def _removal(evidence: Evidence, fill: int) -> Measured:
    rows = np.flatnonzero(informative_pairs(evidence.curves))
    whole = np.asarray(evidence.curves.kept.similarity, np.float64)[rows, fill, -1:]
    removed = np.asarray(evidence.curves.removed.similarity)[rows, fill]
    return Measured(area_under(removed / whole, 1.0), rows)


def _above_fill(evidence: Evidence, fill: int, node: str, kind: str) -> Measured:
    """(area under the node above the fill, node of the clean image above the fill), by pair.

    Of each pair whose clean image is above the fill."""
    sign = {"similarity": 1.0, "distance": -1.0}[node]
    kept = sign * np.asarray(getattr(evidence.curves.kept, node), np.float64)[:, fill]
    removed = sign * np.asarray(getattr(evidence.curves.removed, node), np.float64)[:, fill]
    nothing, whole = kept[:, 0], kept[:, -1] - kept[:, 0]
    # written so that NaN, a failure, stays in
    rows = np.flatnonzero(informative_pairs(evidence.curves) & ~(whole <= 0))
    start: Any = 0.0
    if kind == "retention":
        curve = at_areas(kept[rows])
    else:
        curve, start = removed[rows], whole[rows]
    under = area_under(curve - nothing[rows, None], start)
    return Measured(np.stack([under, whole[rows]], axis=-1), rows)


def ratio(statistics: Float[np.ndarray, "n 2"]) -> float:
    """Sum of the first over the sum of the second."""
    # a ratio of means is that of sums, and a bootstrap resamples rows
    first, second = np.asarray(statistics, np.float64).mean(axis=0)
    return float(first / second)


def _least_area(evidence: Evidence, fill: int, node: str) -> Measured:
    rows = np.flatnonzero(informative_pairs(evidence.curves))
    # one fill at a time: a prototype may be seen on one and not on the other
    kept = jax.tree.map(lambda leaf: np.asarray(leaf)[rows, fill], evidence.curves.kept)
    return Measured(least_area(keeps_node(kept, LEAST_AREA_SHARE)[node]), rows)


def _on_object(evidence: Evidence, share: float | None) -> Measured:
    """Part of the region on the object at an area, or (None) IoU at the object's own area."""
    rows = np.asarray([i for i, mask in enumerate(evidence.masks) if mask is not None], int)
    if not len(rows):
        return Measured(np.zeros(0), rows)
    masks = np.stack([evidence.masks[i] for i in rows])
    if share is None:
        counts = masks.sum(axis=(1, 2))
    else:
        counts = np.full(len(rows), max(1, round(share * masks[0].size)))
    saliency = jnp.asarray(evidence.saliency[rows])
    hits = _hits(saliency, jnp.asarray(masks), jnp.asarray(counts))
    inside = np.asarray(hits, np.float64)
    if share is None:  # two sets of `counts` pixels each
        return Measured(inside / (2 * counts - inside), rows)
    return Measured(inside / counts, rows)


@jax.jit
# one program for all shares, since the count is data
@jax.vmap
def _hits(saliency: Array, mask: Array, count: Array) -> Array:
    """Pixels of the object among the `count` that the map ranks first."""
    return (mask & (ranks(saliency) < count)).sum()


def _box(evidence: Evidence) -> Measured:
    def measure(saliency: Array) -> Array:
        return box_area(percentile_box(saliency), (saliency.shape[0], saliency.shape[1]))

    areas = np.asarray(jax.vmap(measure)(jnp.asarray(evidence.saliency)), np.float64)
    return Measured(areas, np.arange(len(areas)))


def _overlap_with_changed(evidence: Evidence, change: str) -> Measured:
    # a check that was not asked for has no maps
    if change not in evidence.others:
        return Measured(np.zeros(0), np.zeros(0, int))
    rows = np.flatnonzero(informative_pairs(evidence.curves))
    compared = _overlaps(
        jnp.asarray(evidence.saliency[rows]),
        jnp.asarray(evidence.others[change][rows]),
    )
    return Measured(np.asarray(compared, np.float64), rows)


_overlaps = jax.jit(jax.vmap(overlap))


def _parts(evidence: Evidence, side: float, merge: bool = False) -> Measured:
    rows = np.asarray([i for i, part in enumerate(evidence.parts) if part is not None], int)
    if not len(rows):
        return Measured(np.zeros((0, 3)), rows)
    places = np.stack([evidence.parts[i] for i in rows])
    find_near = jax.vmap(partial(parts_.near_peak, side=side))
    near = np.asarray(find_near(jnp.asarray(evidence.saliency[rows]), jnp.asarray(places)))
    seen = np.isfinite(places).all(axis=-1)
    if merge and evidence.part_names:
        near = parts_.merge_sides(near, evidence.part_names)
        seen = parts_.merge_sides(seen, evidence.part_names)
    return Measured(parts_.statistics(evidence.prototypes[rows], near, seen), rows)


def _metrics_of_fill(number: int, fill: str) -> list[Metric]:
    """The metrics that look at one fill."""
    found = []
    for kind, better, what in (
        ("retention", "higher", "stays"),
        ("removal", "lower", "is gone"),
    ):
        simple = partial(_retention if kind == "retention" else _removal, fill=number)
        description = (
            f"Area under g / g(x) over 0 to 50 % of the image as the region {what}, on {fill}; g:"
            " similarity."
        )
        found.append(Metric(kind, fill, simple, better, description=description))
        for node in ("similarity", "distance"):
            description = (
                f"The same of the {node} above the fill's, summed over the pairs where the image is"
                f" above it, on {fill}."
            )
            protocol, above = (
                f"{node}-above-{fill}",
                partial(_above_fill, fill=number, node=node, kind=kind),
            )
            found.append(
                Metric(
                    kind,
                    protocol,
                    above,
                    better,
                    reduce=ratio,
                    description=description,
                    reduces_mean=True,
                )
            )
    for node, what in (
        ("similarity", "of the similarity"),
        ("distance", "of the way from the fill's distance to the image's"),
    ):
        what_is_measured = f"keeps 90 % {what}, on {fill}"
        description = (
            f"Least share of the image, by the region's order, that {what_is_measured}."
        )
        found.append(
            Metric(
                "least_area",
                f"{node}-{fill}",
                partial(_least_area, fill=number, node=node),
                "lower",
                description=description,
            )
        )
    return found


_all_metrics = [
    *(
        metric
        for number, fill in enumerate(FILLS)
        for metric in _metrics_of_fill(number, fill)
    ),
    *(
        Metric(
            "object_overlap",
            f"{share:.0%}",
            partial(_on_object, share=share),
            "higher",
            description=(
                f"Share of the region of {share:.0%} of the image that lies on the object; the rest"
                " is background."
            ),
        )
        for share in OVERLAP_SHARES
    ),
    Metric(
        "object_iou",
        "own-area",
        partial(_on_object, share=None),
        "higher",
        description="IoU of the object with the region of the object's own area.",
    ),
    Metric(
        "box_area",
        "95",
        _box,
        "none",
        description="Share of the image in the box about the map's 95th percentile.",
    ),
    Metric(
        "stability",
        "noise",
        partial(_overlap_with_changed, change="noise"),
        "higher",
        description=(
            "IoU of the regions of 10 % with and without noise N(0, 0.2), cut at 0.25, on the"
            " normalized image."
        ),
    ),
    *(
        Metric(
            "sanity",
            what,
            partial(_overlap_with_changed, change=what),
            "lower",
            description=(
                "IoU of the regions of 10 % with those of the network whose"
                f" {change}; chance is .05."
            ),
        )
        for what, change in (
            ("prototypes", "prototypes are permuted"),
            ("backbone", "backbone has fresh weights"),
        )
    ),
    Metric(
        "purity",
        "box-32",
        partial(_parts, side=parts_.PURITY_SIDE, merge=True),
        "higher",
        reduce=parts_.purity,
        description=(
            "Presence of each prototype's best part in the box of 32/224 about the peak, mean over"
            " prototypes."
        ),
    ),
    Metric(
        "consistency",
        "box-72",
        partial(_parts, side=parts_.CONSISTENCY_SIDE),
        "higher",
        reduce=parts_.consistency,
        description=(
            "Share of prototypes near whose peak (box of 72/224) some part lies in 80 % of the"
            " images that show it."
        ),
    ),
]

# Every measure by its id, `name:protocol`.
METRICS: dict[str, Metric] = {metric.id: metric for metric in _all_metrics}
