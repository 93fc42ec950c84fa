"""Insertion and deletion under several fills: a score that does not rest on one of them.

The curves of `curves.py`, with the removed pixels replaced by, in turn:

    blur      the image blurred as RISE does it
    zero      the color that the network sees as zero
    mean      the mean color of the image
    noise     Gaussian noise of deviation 0.2 around the mean color, one draw for all steps
    inpaint   painted by Telea's method from the pixels that are there, anew at each step; the mean
              color where none is there

The score under a fill is the area under its curve; the metric is the mean over the fills, and its
spread their standard deviation. 14 steps are half of RISE's, so that five fills cost 75 forwards,
where RISE's one costs 29. A network that is right or wrong under one fill only shows in the spread.
Ties go row by row; a map with a NaN gives NaN. The metrics take the order from the method's ranking
where it has one, see `Sample.ranking`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from mdm_jax import fills
from mdm_jax.errors import InputError, unknown
from mdm_jax.execution.chunked import map_over
from mdm_jax.metrics.curves import area, rise_blur
from mdm_jax.metrics.inpainting import ORDERS, inpainted_steps
from mdm_jax.metrics.metric import Metric, Sample
from mdm_jax.metrics.perturbed import chunk_for, ranks, score, unless_nan
from mdm_jax.types import AnyArray, Node, Predict

FILLS = ("blur", "zero", "mean", "noise", "inpaint")
STEPS = 14


@dataclass(frozen=True)
class FillProtocol:
    """Which curves are measured."""

    order: str
    """insertion: the most salient pixels appear; deletion: they go"""
    names: tuple[str, ...] = FILLS
    """the fills, of `FILLS`"""
    steps: int = STEPS
    """those of `curves.curve`"""

    def check(self) -> None:
        """Raises InputError for another order or fill, or no step."""
        if self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)
        for name in self.names:
            if name not in FILLS:
                raise unknown("fill", name, FILLS)
        if self.steps < 1:
            raise InputError(f"steps is {self.steps}: give a whole number from 1")


def fill_curves(
    predict: Predict,
    image: Float[AnyArray, "h w c"],
    saliency: Float[AnyArray, "h w"],
    target: Any,
    *,
    protocol: FillProtocol,
    key: Key[Array, ""],
    inpainted: UInt8[AnyArray, "inner h w c"] | None = None,
    node: str | Node = "probability",
) -> Float[Array, "fills scores"]:
    """p_0 .. p_K under each of the protocol's fills, as the most salient pixels appear or go.

    `inpainted` is what `inpainted_steps` returns for the same image, map, order and steps; only the
    fill "inpaint" needs it. Raises InputError for a protocol that is not valid, and where "inpaint"
    lacks its images.
    """
    protocol.check()
    names, order = protocol.names, protocol.order
    image = jnp.asarray(image)
    step = -(-saliency.size // protocol.steps)
    counts = step * np.arange(-(-saliency.size // step) + 1)
    stacks = [_background(name, predict, image, key, inpainted) for name in names]
    backgrounds = jnp.concatenate(stacks)
    # which background each step of each fill sees
    first, rows = 0, []
    for stack in stacks:
        own = np.arange(len(counts)) if len(stack) > 1 else np.zeros(len(counts), int)
        rows.append(first + own)
        first += len(stack)
    rank = ranks(saliency)[..., None]

    def score_after(step: tuple[Array, Array]) -> Array:
        count, row = step
        changed = rank < count
        is_seen = changed if order == "insertion" else ~changed
        seen = jnp.where(is_seen, image, backgrounds[row])
        return score(predict, seen, target, node=node)

    taken = jnp.asarray(np.tile(counts, len(names))), jnp.asarray(np.concatenate(rows))
    scores = map_over(score_after, taken, chunk_for(image.shape))
    return unless_nan(saliency, scores.reshape(len(names), len(counts)))


def _background(
    name: str,
    predict: Predict,
    image: Float[Array, "h w c"],
    key: Key[Array, ""],
    inpainted: UInt8[AnyArray, "inner h w c"] | None,
) -> Float[Array, "one_or_steps h w c"]:
    """What a fill puts in place of removed pixels: one image, or one for each step."""
    neutral = fills.neutral_color(predict, image.shape[-1])
    mean_color = jnp.broadcast_to(image.mean(axis=(0, 1)), image.shape)[None]
    if name == "blur":
        return rise_blur(image, neutral)[None]
    if name == "zero":
        return jnp.broadcast_to(neutral, image.shape)[None]
    if name == "mean":
        return mean_color
    if name == "noise":
        return fills.noise()(image, key=key)[None]
    if inpainted is None:
        raise InputError(
            "the fill 'inpaint' needs inpainted=: give what inpainted_steps returns for the image"
        )
    # at one end everything is removed and at the other nothing, where no background is seen
    inner = jnp.asarray(inpainted).astype(image.dtype) / 255
    return jnp.concatenate([mean_color, inner, mean_color])


def _measure(
    predict: Predict, sample: Sample, *, key: Key[Array, ""], protocol: FillProtocol
) -> Float[Array, "*fills"]:
    scores = fill_curves(
        predict,
        sample.image,
        sample.ranking,
        sample.target,
        protocol=protocol,
        key=key,
        inpainted=sample.prepared,
    )
    areas = jax.vmap(area)(scores)
    return areas if len(protocol.names) > 1 else areas[0]


def _prepare(sample: Sample, *, order: str) -> UInt8[np.ndarray, "inner h w c"]:
    return inpainted_steps(sample.image, sample.ranking, order=order, steps=STEPS)


_LOOKS = {
    "blur": "RISE's blurred image",
    "zero": "the network's zero",
    "mean": "the image's mean color",
    "noise": "Gaussian noise around the mean color",
    "inpaint": "what Telea's inpainting (radius 3) makes of the pixels that are there",
}


def _row(order: str, names: tuple[str, ...]) -> Metric:
    several = len(names) > 1
    place = f"{len(names)} fills in turn ({', '.join(names)})" if several else ""
    place = place or _LOOKS[names[0]]
    way = (
        f"from {place} to the image"
        if order == "insertion"
        else f"from the image to {place}"
    )
    text = (
        f"Area under the probability of the class {way}, the most salient pixels first, in"
    )
    text += f" {STEPS} steps, {len(names) * (STEPS + 1)} forwards"
    text += "; mean over fills ± their standard deviation." if several else "."
    return Metric(
        order,
        f"{'fills' if several else names[0]}-{STEPS}",
        partial(_measure, protocol=FillProtocol(order, names)),
        "higher" if order == "insertion" else "lower",
        description=text,
        parts=names if several else (),
        reads="ranking",
        prepare=partial(_prepare, order=order) if "inpaint" in names else None,
    )


METRICS = tuple(
    _row(order, names)
    for order in ("insertion", "deletion")
    for names in (FILLS, *((name,) for name in FILLS))
)
