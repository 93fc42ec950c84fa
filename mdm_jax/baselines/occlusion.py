"""Occlusion (Zeiler and Fergus, arXiv 1311.2901): the node's drop under a sliding window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from mdm_jax.baselines.attribution import check_reduction, make_explanation
from mdm_jax.baselines.baseline_image import check_baseline, draw_baseline
from mdm_jax.errors import InputError, find_renamed
from mdm_jax.execution import chunked
from mdm_jax.problem import activation, begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict

Pair = tuple[int, int]

# Pixels of the short side below which an image counts as small.
SMALL = 112


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Occlusion:
    """captum's algorithm. It names no window; 15 pixels are those of PAIR's saliency library, whose
    stride is 1."""

    window: int | tuple[int, ...] | None = field(default=None, metadata=STATIC)
    """side or (height, width) in pixels; None: 15, and 8 for images whose short side is below 112
    pixels"""
    stride: int | tuple[int, ...] | None = field(default=None, metadata=STATIC)
    """step or (down, right) in pixels, at most the window; None: half the window, rounded up, and 2
    for small images"""
    baseline: Any = "zero"
    """what the window shows, see `baseline_image.draw_baseline` (leaf)"""
    average: bool = field(default=True, metadata=STATIC)
    """a pixel gets the average drop over the windows that cover it (captum), or their sum (PAIR)"""
    reduction: str = field(default="positive", metadata=STATIC)
    """a name of `attribution.REDUCTIONS`"""
    chunk: int = field(default=chunked.CHUNK, metadata=STATIC)
    """windows evaluated at a time"""

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown baseline or reduction."""
        for name in ("window", "stride"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != 2:
                raise InputError(
                    f"{name} is {value}: give one number of pixels, or (height, width)"
                )
            if value is None:
                continue
            for side in value if isinstance(value, tuple) else (value,):
                chunked.check_count(name, side)
        chunked.check_count("chunk", self.chunk)
        check_baseline(self.baseline)
        check_reduction(self.reduction)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: Occlusion | None = None,
    trace: bool = False,
) -> Explanation:
    """S(p) = mean over the windows W that cover p of g(x) - g(x with W replaced).

    Image [h, w, c] in [0, 1]. One forward evaluation a window. Raises InputError where the window
    does not fit or windows would leave gaps.
    """
    config = config or Occlusion()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    background = draw_baseline(predict, image, config.baseline, key=problem.key)
    shape = (image.shape[0], image.shape[1])
    window, stride = resolve(config, shape)
    corners = positions(shape, window, stride)

    def drop(corner: Int[Array, "2"]) -> Array:
        inside = covered(corner, window, shape)
        batched = predict(jnp.where(inside[..., None], background, image)[None])
        outputs = jax.tree.map(lambda leaf: leaf[0], batched)
        score = activation(node, outputs, problem.target)
        return (problem.reference - score).sum() * inside

    summed = chunked.sum_over(drop, jnp.asarray(corners), config.chunk)
    covers = np.zeros(shape, np.float32)
    for top, left in corners:
        covers[top : top + window[0], left : left + window[1]] += 1
    attribution = summed / covers if config.average else summed
    return make_explanation(
        predict,
        problem,
        attribution[..., None],
        node=node,
        reduction=config.reduction,
        forwards=len(corners),
    )


def resolve(config: Occlusion, shape: Pair) -> tuple[Pair, Pair]:
    """Window and stride as pairs, chosen by the image's size where they are None.

    Raises InputError for a window larger than the image, or a stride larger than the window.
    """
    small = min(shape) < SMALL
    side = min(8 if small else 15, *shape)
    window = _pair(side if config.window is None else config.window)
    step = (2, 2) if small else ((window[0] + 1) // 2, (window[1] + 1) // 2)
    if config.stride is None:
        stride = min(step[0], window[0]), min(step[1], window[1])
    else:
        stride = _pair(config.stride)
    if any(w > s for w, s in zip(window, shape)):
        raise InputError(
            f"window {window[0]}x{window[1]} does not fit: give at most the image's"
            f" {shape[0]}x{shape[1]}"
        )
    if any(step > w for step, w in zip(stride, window)):
        raise InputError(
            f"stride {stride} is larger than the window {window}, which leaves gaps: give a smaller"
            " stride"
        )
    return window, stride


def positions(shape: Pair, window: Pair, stride: Pair) -> Int[np.ndarray, "n 2"]:
    """The upper left corners of the windows; the last one of a row or column may reach over the
    border, as in captum."""
    down, right = (
        np.arange(-(-(size - w) // step) + 1) * step
        for size, w, step in zip(shape, window, stride)
    )
    return (
        np.stack(np.meshgrid(down, right, indexing="ij"), axis=-1)
        .reshape(-1, 2)
        .astype(np.int32)
    )


def covered(corner: Int[Array, "2"], window: Pair, shape: Pair) -> Bool[Array, "h w"]:
    """Which pixels lie in the window at `corner`."""
    rows, columns = (jnp.arange(size) - at for size, at in zip(shape, corner))
    return ((rows >= 0) & (rows < window[0]))[:, None] & (
        (columns >= 0) & (columns < window[1])
    )[None, :]


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value[0], value[1]) if isinstance(value, tuple) else (value, value)


METHOD = Method("occlusion", explain, Occlusion, "probability")
RENAMED = {"OcclusionConfig": "Occlusion"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
