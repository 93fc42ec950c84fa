"""Loops over many samples in bounded memory: a chunk at a time, every chunk one batch of the
network.

What depends on a sample's number alone (its key, its window) gives the same result for every size
of chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from mdm_jax.errors import InputError
from mdm_jax.execution.convolutions import canonical
from mdm_jax.execution.keys import step_keys

CHUNK = 16
"""samples at a time: enough to keep a device busy once images are batched too; on CPU larger ones
leave the caches"""
MAX_SAMPLES = 1_000_000

Tree = TypeVar("Tree")


def sum_over(function: Callable[[Any], Tree], inputs: Any, chunk: int = CHUNK) -> Tree:
    """sum_i function(inputs_i), over the leading axis of every array in `inputs` (keys are arrays
    too).

    `function` is for one sample and is vmapped over chunks of at most `chunk`, as equal as they can
    be; a chunk that is not full is filled up with copies of the last sample, which do not count in
    the sum."""
    batched, rows, used = _chunks(function, inputs, chunk)

    def total(rows: Array, used: Array) -> Tree:
        def kept(leaf: Array) -> Array:
            return jnp.where(used.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0).sum(axis=0)

        return jax.tree.map(kept, batched(rows))

    if len(rows) == 1:
        return total(rows[0], used[0])
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(total, rows[0], used[0])
    )
    summed, _ = jax.lax.scan(
        lambda sums, now: (jax.tree.map(jnp.add, sums, total(*now)), None), zeros, (rows, used)
    )
    return summed


def mean_over(function: Callable[[Any], Tree], inputs: Any, chunk: int = CHUNK) -> Tree:
    """(1 / n) sum_i function(inputs_i); see `sum_over`."""
    n = _length(inputs)
    return jax.tree.map(lambda leaf: leaf / n, sum_over(function, inputs, chunk))


def map_over(function: Callable[[Any], Tree], inputs: Any, chunk: int = CHUNK) -> Tree:
    """function(inputs_i) for every i, stacked along a leading axis; see `sum_over`."""
    batched, rows, _ = _chunks(function, inputs, chunk)
    if len(rows) == 1:
        return batched(rows[0])
    _, results = jax.lax.scan(lambda nothing, now: (nothing, batched(now)), None, rows)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: _length(inputs)], results)


def keys(key: Key[Array, ""], n: int) -> Key[Array, " n"]:
    """One key for each of n samples; that of sample i does not depend on n."""
    return step_keys(key, n)


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raises InputError unless `value` is a whole number from `least` to `MAX_SAMPLES`."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | np.integer)
        or not least <= value <= MAX_SAMPLES
    ):
        raise InputError(f"{name} is {value!r}: give a whole number from {least} to {MAX_SAMPLES}")


def check_above_zero(name: str, value: Any, below: float = np.inf) -> None:
    """Raises InputError unless 0 < `value` < `below`; a value under a JAX trace is not looked
    at."""
    if isinstance(value, jax.core.Tracer):
        return
    number = np.ndim(value) == 0 and not isinstance(value, str | bool | None)
    if not number or not 0 < float(value) < below:
        limit = "" if below == np.inf else f" and below {below:g}"
        raise InputError(f"{name} is {value!r}: give a number above zero{limit}")


def _chunks(
    function: Callable[[Any], Tree], inputs: Any, chunk: int
) -> tuple[Callable[[Array], Tree], Array, Array]:
    """The function of one chunk's row numbers, those numbers [chunks, size], and which of them are
    samples."""
    n = _length(inputs)
    chunks = -(-n // chunk)
    numbers = np.arange(chunks * -(-n // chunks)).reshape(chunks, -1)

    def batched(rows: Array) -> Tree:
        return jax.vmap(function)(jax.tree.map(lambda leaf: leaf[rows], inputs))

    return canonical(batched), jnp.asarray(np.minimum(numbers, n - 1)), jnp.asarray(numbers < n)


def _length(inputs: Any) -> int:
    return jax.tree.leaves(inputs)[0].shape[0]
