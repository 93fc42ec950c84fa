"""Many images in slices that fit in memory, on whatever memory there is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
import psutil

from mdm_jax.errors import InputError
from mdm_jax.execution.gradients import WithoutGradient
from mdm_jax.execution.network import ImageShape, residual_bytes
from mdm_jax.types import Predict

# Images solved at a time on an accelerator when memory allows; more gain little once the device is
# busy.
MAX_MICRO_BATCH = 64

# How the message of XLA's error begins.
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
# What it says of an error in `jax.pure_callback` and its like.
CALLBACK_FAILED = "error calling callback"

Tree = TypeVar("Tree")


def run_in_micro_batches(
    program: Callable[..., Tree],
    batch: tuple[Any, ...],
    size: int,
    on_progress: Callable[[int], None],
) -> Tree:
    """Run `program` on slices of `size` rows and join the results on the host.

    The last slice is padded to the same shape, so that nothing is compiled twice. When the device
    is out of memory the size is halved, with a warning, and the work continues where it stopped.
    `on_progress` is called with the number of rows finished.
    """
    n = len(batch[0])
    start = 0
    parts = []
    while start < n:
        rows = np.minimum(np.arange(start, start + size), n - 1)
        slices = [array[rows] for array in batch]
        try:
            part = jax.device_get(program(*slices))
        except jax.errors.JaxRuntimeError as error:
            if CALLBACK_FAILED in str(error):
                reason = str(error).strip().split("\n")[-1]
                raise InputError(f"a callback of the network fails: {reason}") from error
            if OUT_OF_MEMORY not in str(error):
                raise
            size = _halve(size, error)
            continue
        used = min(size, n - start)
        parts.append(jax.tree.map(lambda leaf: leaf[:used], part))  # noqa: B023 (used at once)
        start += used
        on_progress(start)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def check_micro_batch(micro_batch: Any) -> None:
    """Raises InputError for anything but None or a whole number from 1."""
    is_whole = isinstance(micro_batch, int | np.integer) and not isinstance(
        micro_batch, bool
    )
    if micro_batch is not None and (not is_whole or micro_batch < 1):
        raise InputError(f"micro_batch is {micro_batch!r}: give a whole number from 1")


def _halve(size: int, error: Exception) -> int:
    if size == 1:
        raise InputError(
            "the device has not enough memory for a single image: use a smaller network or"
            " image size, or bfloat16"
        ) from error
    size //= 2
    warnings.warn(
        f"out of memory: going on with {size} images at a time",
        RuntimeWarning,
        stacklevel=4,
    )
    return size


def choose_micro_batch(network: Predict, shape: ImageShape, n: int) -> int:
    """Images at a time for `n` images of `shape`.

    One on CPU, else as many as keep their gradients in a third of the free memory.
    """
    if jax.default_backend() == "cpu":
        return 1
    # some devices have no statistics; their memory is taken to be the host's
    stats = jax.local_devices()[0].memory_stats() or {}
    limit = stats.get("bytes_limit", psutil.virtual_memory().available)
    free = limit - stats.get("bytes_in_use", 0)
    if isinstance(network, WithoutGradient):
        return min(n, MAX_MICRO_BATCH)
    fitting = free / 3 // residual_bytes(network, shape)
    return int(np.clip(fitting, 1, min(n, MAX_MICRO_BATCH)))
