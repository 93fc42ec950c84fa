"""What must be the same for results to belong together: a checksum of a network."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any

import jax
import numpy as np

from mdm_jax.execution.network import Traced
from mdm_jax.models.classifier import Classifier


def network_fingerprint(network: Any) -> dict[str, Any]:
    """A checksum of the weights, and what else tells a network from another.

    That is preprocessing and dtype of a classifier, the program of any other network."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(network):
        # Dropout holds a key, which numpy cannot take as it is.
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        ):
            leaf = jax.random.key_data(leaf)
        digest.update(np.ascontiguousarray(leaf).tobytes())
    identity: dict[str, Any] = {"weights": digest.hexdigest()[:16]}
    if isinstance(network, Classifier):
        identity["dtype"] = network.dtype
        identity["preprocessing"] = dataclasses.asdict(network.preprocessing)
    elif isinstance(network, Traced):
        # A function's address, which is another in every process, is no part of the program.
        program = re.sub(r" at 0x[0-9a-f]+", "", network.program.text)
        identity["program"] = hashlib.sha256(program.encode()).hexdigest()[:16]
    return identity
