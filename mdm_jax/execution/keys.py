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
    """A key, or the one that a number seeds. Raises InputError for anything else."""
    if not isinstance(key, int | np.integer) or isinstance(key, bool):
        return _checked(key)
    if not 0 <= key < 2**32:
        raise InputError(f"the seed is {key}: give a whole number from 0 to {2**32 - 1}")
    return jax.random.key(int(key))


def _checked(key: Any) -> Key[Array, ""]:
    """A single key. Raises InputError for what is none."""
    dtype = getattr(key, "dtype", None)
    if isinstance(key, jax.Array | np.ndarray) and dtype == np.uint32 and key.shape == (2,):
        return jax.random.wrap_key_data(jnp.asarray(key))  # of jax.random.PRNGKey
    if not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        raise InputError(
            f"the key is {key!r}: give jax.random.key(0), or a whole number from 0 as its seed"
        )
    if key.ndim:
        raise InputError(
            f"the key has shape {key.shape}: give a single one, such as keys[0]"
        )
    return key


def id_numbers(ids: Any) -> UInt32[np.ndarray, " n"]:
    """The 32-bit number of each id, to be folded into the key.

    A name's number is its checksum, so that it is the same on every machine.
    """
    if not isinstance(ids, Iterable):
        raise InputError(f"ids are {ids!r}: give one number or name for each image")
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
