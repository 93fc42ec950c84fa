"""What must be the same for results to belong together: a checksum of a network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mdm_jax.execution.network import Traced
from mdm_jax.models.classifier import Classifier
from mdm_jax.storage.differences import flat


def network_fingerprint(network: Any) -> dict[str, Any]:
    """A checksum of the weights, and what else tells a network from another.

    That is preprocessing, dtype and arguments of a classifier (weights of the same shapes mean
    another network with other heads), the program of any other network."""
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
        identity["arguments"] = _arguments(network.network)
    elif isinstance(network, Traced):
        # A function's address, which is another in every process, is no part of the program.
        program = re.sub(r" at 0x[0-9a-f]+", "", network.program.text)
        identity["program"] = hashlib.sha256(program.encode()).hexdigest()[:16]
    return identity


def _arguments(module: Any) -> dict[str, Any]:
    """The class of a network and what it was made with, of its backbone too."""
    made = {"class": type(module).__name__, **getattr(module, "arguments", {})}
    if hasattr(module, "backbone"):
        made["backbone"] = _arguments(module.backbone)
    return made


def argument_defaults(identity: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The arguments in a `network_fingerprint`, by dotted name after a prefix: what records mean
    that were written before these were, or before there was one of them."""
    arguments = identity.get("arguments", {})
    return dict(flat(json.loads(json.dumps(arguments)), f"{prefix}arguments."))
