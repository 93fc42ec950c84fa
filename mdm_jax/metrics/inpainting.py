"""Telea's inpainting on the host: removed pixels are painted from those that remain, step by step.

Telea, An image inpainting technique based on the fast marching method, J. Graphics Tools 9(1),
2004, as OpenCV has it. It walks from pixel to pixel and so runs in NumPy, before the network's
program and not called from within it: a program on one CPU core waits forever for a callback that
reads its inputs, which JAX copies on that same core.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mdm_jax.types import AnyArray

# Pixels around a removed one that it is painted from; what OpenCV's examples take. The 13 steps of
# a map of 224x224 take 0.5 s of one core by 3, and 0.25 s by 2.
RADIUS = 3.0

ORDERS = ("insertion", "deletion")


def inpainted_steps(
    image: Float[AnyArray, "h w c"],
    saliency: Float[AnyArray, "h w"],
    *,
    order: str,
    steps: int,
    radius: float = RADIUS,
) -> UInt8[np.ndarray, "inner h w c"]:
    """The image at each step between the first and the last, in 8 bits, removed pixels inpainted.

    After k steps of ceil(h w / `steps`) pixels the most salient are removed ("deletion") or all
    others ("insertion"). Nothing is removed at one end and everything at the other, so neither is
    among them. Steps run in threads.
    """
    values = np.asarray(saliency, np.float32)
    ranks = np.empty(values.size, np.int64)
    # stable, so that ties go row by row as everywhere
    ranks[np.argsort(-values.ravel(), kind="stable")] = np.arange(values.size)
    step = -(-values.size // steps)
    counts = step * np.arange(1, -(-values.size // step))
    changed = ranks.reshape(1, *values.shape) < counts[:, None, None]
    removed = changed if order == "deletion" else ~changed
    pixels = np.rint(np.clip(np.asarray(image), 0.0, 1.0) * 255).astype(np.uint8)
    if not len(removed):
        return np.zeros((0, *pixels.shape), np.uint8)
    with ThreadPoolExecutor() as threads:
        painted = threads.map(partial(telea, pixels, radius=radius), removed)
        return np.stack(list(painted))


def telea(
    pixels: UInt8[np.ndarray, "h w c"], removed: Bool[np.ndarray, "h w"], *, radius: float
) -> UInt8[np.ndarray, "h w c"]:
    """The pixels with the removed ones inpainted; all channels together where there are three."""
    import cv2

    mask = removed.astype(np.uint8)
    if pixels.shape[-1] == 3:
        return np.asarray(cv2.inpaint(pixels, mask, radius, cv2.INPAINT_TELEA))
    # OpenCV takes one channel or three
    channels = [
        cv2.inpaint(np.ascontiguousarray(channel), mask, radius, cv2.INPAINT_TELEA)
        for channel in np.moveaxis(pixels, -1, 0)
    ]
    return np.stack(channels, axis=-1)
