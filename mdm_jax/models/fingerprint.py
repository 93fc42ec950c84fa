"""What must be the same for results to belong together: checksums of a network and of a data
source."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mdm_jax.data.source import Listed, Source, checksum
from mdm_jax.execution.network import Traced
from mdm_jax.models.classifier import Classifier


def of_network(network: Any) -> dict[str, Any]:
    """A checksum of the weights, and what else tells a network from another: preprocessing and
    dtype, or the program."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(network):
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        ):  # of dropout
            leaf = jax.random.key_data(leaf)
        digest.update(np.ascontiguousarray(leaf).tobytes())
    told: dict[str, Any] = {"weights": digest.hexdigest()[:16]}
    if isinstance(network, Classifier):
        told |= {"dtype": network.dtype, "preprocessing": dataclasses.asdict(network.preprocessing)}
    elif isinstance(network, Traced):
        program = re.sub(r" at 0x[0-9a-f]+", "", network.program.text)
        told["program"] = hashlib.sha256(program.encode()).hexdigest()[:16]
    return told


def of_source(source: Source) -> dict[str, Any]:
    """How many items, and a checksum of their files, labels and sizes; of the name where items are
    no files."""
    root = getattr(source, "root", None)
    sizes = (
        [_size(Path(root) / file) for file in source.files]
        if root and isinstance(source, Listed)
        else []
    )
    digest = hashlib.sha256(f"{checksum(source)} {sizes}".encode())
    return {"items": len(source), "files": digest.hexdigest()[:16]}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # an item that cannot be read
        return -1
