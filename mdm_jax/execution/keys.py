"""Random keys: from a seed, from an image's id, and from the number of a step or a sample."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

from mdm_jax.errors import InputError


def as_key(key: Any) -> Key[Array, ""]:
    """A key, or the one that a number seeds. Raises InputError for a number out of range."""
    if not isinstance(key, int | np.integer):
        return key
    if not 0 <= key < 2**32:
        raise InputError(f"the seed is {key}: give a whole number from 0 to {2**32 - 1}")
    return jax.random.key(int(key))


def id_numbers(ids: Iterable[Any]) -> UInt32[np.ndarray, " n"]:
    """The 32-bit number of each id, to be folded into the key.

    A name's number is its checksum, so that it is the same on every machine.
    """
    return np.asarray([_id_number(each) for each in ids], np.uint32)


def _id_number(each: Any) -> int:
    if isinstance(each, int | np.integer):
        return int(each) & 0xFFFFFFFF
    if isinstance(each, str | os.PathLike):
        return zlib.crc32(os.fsencode(each))
    raise InputError(
        f"the id {each!r} is neither a whole number nor a name: give one of these for each image"
    )


def step_keys(key: Key[Array, ""], steps: int) -> Key[Array, " steps"]:
    """The keys of all steps."""
    return jax.vmap(lambda t: step_key(key, t))(jnp.arange(steps))


def step_key(key: Key[Array, ""], step: Int[Array, ""]) -> Key[Array, ""]:
    """The key of one step; it does not depend on how many steps there are."""
    return jax.random.fold_in(key, step)
