"""What each map keeps of its node, and the name under which a page shows the node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32

from mdm_jax import nodes
from mdm_jax.images import printable
from mdm_jax.types import Status
from mdm_jax.view import kept_share

# In the order of the arguments of `kept_share`.
ACTIVATIONS = ("activation_masked", "activation", "activation_fill")


def node_id(settings: Mapping[str, Any]) -> str:
    """What identifies the node of a run: numbers of two nodes are never compared."""
    node = settings.get("node")
    return node if isinstance(node, str) else json.dumps(node, sort_keys=True, default=str)


def node_name(settings: Mapping[str, Any]) -> str:
    """The node in a word, "activation" where the run does not say which it is."""
    node = settings.get("node")
    if isinstance(node, Mapping):
        node = node.get("name")
    if not isinstance(node, str) or not node:
        return "activation"
    # a function of one's own is NAME@CHECKSUM, or FILE:NAME
    return printable(node.partition("@")[0].rpartition(":")[2])


def kept_shares(table: pa.Table, node: Any) -> Float32[np.ndarray, " rows"] | None:
    """`kept_share` of each record, clipped to [0, 1] as it is shown.

    NaN where nothing was explained. None for columns that are missing, or vectors that differ in
    length."""
    if not set(ACTIVATIONS) <= set(table.column_names):
        return None
    columns: list[np.ndarray] = []
    for name in ACTIVATIONS:
        values = _read_activations(table[name].combine_chunks())
        if values is None or (columns and values.shape != columns[0].shape):
            return None
        columns.append(values)
    is_explained = np.ones(len(table), bool)
    for values in columns:
        is_explained &= np.isfinite(values).reshape(len(table), -1).all(axis=1)
    # where nothing changes there is no way of which a share could be kept
    is_explained &= np.asarray(table["status"].to_pylist()) != Status.CONSTANT.name
    direction = nodes.direction(node) if node in tuple(nodes.NODES) else 1.0
    found = np.full(len(table), np.nan, np.float32)
    if is_explained.any():
        share = jax.jit(jax.vmap(partial(kept_share, direction=direction)))
        kept = np.asarray(share(*(values[is_explained] for values in columns)))
        found[is_explained] = np.clip(kept, 0.0, 1.0)
    return found


def _read_activations(column: Any) -> np.ndarray | None:
    """A column as an array [rows] or, of a vector node, [rows, elements]; NaN where it is null."""
    if not pa.types.is_nested(column.type):
        return column.cast(pa.float32()).to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(column).drop_null().unique().to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        return None
    found = np.full((len(column), lengths[0]), np.nan, np.float32)
    is_there = column.is_valid().to_numpy(zero_copy_only=False)
    numbers = column.flatten().to_numpy(zero_copy_only=False)
    found[is_there] = numbers.reshape(-1, lengths[0])
    return found
