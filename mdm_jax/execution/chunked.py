"""Loops over many samples in bounded memory: every chunk is one batch of the network.

What depends on a sample's number alone (its key, its window) gives the same result for every size
of chunk. `jax.lax.map(batch_size=)` is not used: it compiles the network twice, for the full
batches and for the remainder, and leaves convolutions in the layout that is slow in loops.
"""

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

# Samples at a time: enough to keep a device busy once images are batched too; on CPU, larger chunks
# overflow the caches.
CHUNK = 16
MAX_SAMPLES = 1_000_000

Tree = TypeVar("Tree")


def sum_over(function: Callable[[Any], Tree], inputs: Any, chunk: int = CHUNK) -> Tree:
    """sum_i function(inputs_i), over the leading axis of every array in `inputs`.

    `function` is for one sample and is vmapped over chunks of at most `chunk`, as equal as they can
    be. A chunk that is not full is filled up with copies of the last sample, which do not count in
    the sum.
    """
    batched, rows, used = _chunks(function, inputs, chunk)

    def sum_chunk(rows: Array, used: Array) -> Tree:
        def sum_used(leaf: Array) -> Array:
            mask = used.reshape(-1, *[1] * (leaf.ndim - 1))
            return jnp.where(mask, leaf, 0).sum(axis=0)

        return jax.tree.map(sum_used, batched(rows))

    if len(rows) == 1:
        return sum_chunk(rows[0], used[0])
    shapes = jax.eval_shape(sum_chunk, rows[0], used[0])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add_chunk(sums: Tree, chunk: tuple[Array, Array]) -> tuple[Tree, None]:
        return jax.tree.map(jnp.add, sums, sum_chunk(*chunk)), None

    total, _ = jax.lax.scan(add_chunk, zeros, (rows, used))
    return total


def mean_over(function: Callable[[Any], Tree], inputs: Any, chunk: int = CHUNK) -> Tree:
    """(1 / n) sum_i function(inputs_i); see `sum_over`."""
    n = _length(inputs)
    return jax.tree.map(lambda leaf: leaf / n, sum_over(function, inputs, chunk))


def map_over(function: Callable[[Any], Tree], inputs: Any, chunk: int = CHUNK) -> Tree:
    """function(inputs_i) for every i, stacked along a leading axis; see `sum_over`."""
    batched, rows, _ = _chunks(function, inputs, chunk)
    if len(rows) == 1:
        return batched(rows[0])
    _, results = jax.lax.scan(lambda carry, chunk: (carry, batched(chunk)), None, rows)
    n = _length(inputs)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], results)


def keys(key: Key[Array, ""], n: int) -> Key[Array, " n"]:
    """One key for each of n samples; that of sample i does not depend on n."""
    return step_keys(key, n)


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raises InputError unless `value` is a whole number from `least` to `MAX_SAMPLES`."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (is_whole and least <= value <= MAX_SAMPLES):
        raise InputError(
            f"{name} is {value!r}: give a whole number from {least} to {MAX_SAMPLES}"
        )


def check_above_zero(name: str, value: Any, below: float = np.inf) -> None:
    """Raises InputError unless 0 < `value` < `below`; a traced value is not checked."""
    if isinstance(value, jax.core.Tracer):
        return
    is_number = np.ndim(value) == 0 and not isinstance(value, str | bool | None)
    if not is_number or not 0 < float(value) < below:
        limit = "" if below == np.inf else f" and below {below:g}"
        raise InputError(f"{name} is {value!r}: give a number above zero{limit}")


def _chunks(
    function: Callable[[Any], Tree], inputs: Any, chunk: int
) -> tuple[Callable[[Array], Tree], Array, Array]:
    """The function of a chunk's rows, the rows [chunks, size], and which of them are samples."""
    n = _length(inputs)
    chunks = -(-n // chunk)
    size = -(-n // chunks)
    numbers = np.arange(chunks * size).reshape(chunks, size)

    def batched(rows: Array) -> Tree:
        return jax.vmap(function)(jax.tree.map(lambda leaf: leaf[rows], inputs))

    rows = np.minimum(numbers, n - 1)
    return canonical(batched), jnp.asarray(rows), jnp.asarray(numbers < n)


def _length(inputs: Any) -> int:
    return jax.tree.leaves(inputs)[0].shape[0]
