"""Zarr v3 arrays of a run: names, metadata, and values as they are stored.

The metadata are written as JSON here, not by a library, so that they are the same from every
version and every process, and a file that was lost can be put back. Chunks of an array are those of
the run: chunk c of every array belongs to record file c."""

from __future__ import annotations

import json
import math
import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts
from jaxtyping import Shaped

from mdm_jax.runs.chunks import Layout
from mdm_jax.text_files import parse_json

MASKS = "mask_vectors"
SALIENCY = "saliency"
EVIDENCE = "evidence"


# Names and number formats of arrays, and numbers of a chunk: no run has others, or more.
NAME = re.compile(rf"{MASKS}/\d+x\d+(-\d+)?|{SALIENCY}|{EVIDENCE}")
DTYPES = ("float32", "float16")
MOST_NUMBERS = 2**33


class Spec(NamedTuple):
    """An array, without its axis of rows."""

    shape: tuple[int, ...]
    dtype: str


def specs(
    sizes: Sequence[tuple[int, int]],
    saliency: tuple[int, int] | None,
    evidence: tuple[int, int] | None = None,
) -> dict[str, Spec]:
    """The arrays of a run by name: mask vectors of each size, in order, saliency maps and evidence.

    `saliency` and `evidence` are sizes of images, None for what is not kept."""
    found: dict[str, Spec] = {}
    for height, width in sizes:
        name = f"{MASKS}/{height}x{width}"
        # A config may have a size twice; the second one is NAME-2.
        twins = sum(spec.shape == (height, width) for spec in found.values())
        if twins:
            name = f"{name}-{twins + 1}"
        found[name] = Spec((height, width), "float32")
    if saliency:
        found[SALIENCY] = Spec(saliency, "float16")
    if evidence:
        found[EVIDENCE] = Spec(evidence, "float16")
    return found


def metadata(specs: Mapping[str, Spec], layout: Layout) -> dict[str, bytes]:
    """Every zarr.json by its key."""
    # Zarr itself keeps no order of arrays; `read_specs` finds it in the root's attributes.
    entries = {
        name: {"shape": list(spec.shape), "dtype": spec.dtype}
        for name, spec in specs.items()
    }
    files = {
        "zarr.json": _json(zarr_format=3, node_type="group", attributes={"arrays": entries})
    }
    if any(name.startswith(f"{MASKS}/") for name in specs):
        files[f"{MASKS}/zarr.json"] = _json(zarr_format=3, node_type="group", attributes={})
    for name, spec in specs.items():
        files[f"{name}/zarr.json"] = _array(spec, layout)
    return files


def read_specs(root: bytes) -> dict[str, Spec]:
    """The arrays, in order, from the content of the root's zarr.json.

    Raises ValueError, TypeError, KeyError or AttributeError for a damaged file."""
    found = {}
    for name, entry in parse_json(root)["attributes"]["arrays"].items():
        height, width = entry["shape"]
        is_size = type(height) is int and type(width) is int and min(height, width) > 0
        if not (NAME.fullmatch(name) and is_size and entry["dtype"] in DTYPES):
            raise ValueError(f"no array of a run: {name!r}")
        found[name] = Spec((height, width), entry["dtype"])
    return found


def fits(array: ts.TensorStore, spec: Spec, layout: Layout) -> bool:
    """Whether an array is the one that a run of this layout wrote, and can be held in memory."""
    chunk = (layout.chunk_rows, *spec.shape)
    return (
        array.shape == (layout.rows, *spec.shape)
        and array.dtype.name == spec.dtype
        and array.chunk_layout.read_chunk.shape == chunk
        and math.prod(chunk) <= MOST_NUMBERS
    )


def _array(spec: Spec, layout: Layout) -> bytes:
    blosc = {
        "cname": "zstd",
        "clevel": 3,
        "shuffle": "shuffle",
        "typesize": np.dtype(spec.dtype).itemsize,
        "blocksize": 0,
    }
    return _json(
        zarr_format=3,
        node_type="array",
        shape=[layout.rows, *spec.shape],
        data_type=spec.dtype,
        chunk_grid={
            "name": "regular",
            "configuration": {"chunk_shape": [layout.chunk_rows, *spec.shape]},
        },
        chunk_key_encoding={"name": "default", "configuration": {"separator": "/"}},
        fill_value="NaN",
        codecs=[
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "blosc", "configuration": blosc},
            {"name": "crc32c"},
        ],
        attributes={},
    )


def _json(**content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


@cache
def context() -> ts.Context:
    """One for the process, so that memory:// lasts; it caches nothing."""
    # A cache would grow with the run, and hide what changed on disk from `verify`.
    return ts.Context({"cache_pool": {"total_bytes_limit": 0}})


def open_array(kv: ts.KvStore, name: str) -> ts.TensorStore:
    """The array of that name; nothing is read yet.

    Raises ValueError where its metadata are missing or damaged."""
    place = (kv / f"{name}/").spec().to_json()
    return ts.open(
        {"driver": "zarr3", "kvstore": place}, context=context(), open=True
    ).result()


def chunk_key(name: str, axes: int, chunk: int) -> str:
    """Where a chunk of an array of so many axes lies."""
    return f"{name}/c/{chunk}" + "/0" * (axes - 1)


def canonical(values: Any, dtype: Any) -> Shaped[np.ndarray, "..."]:
    """Values as they are stored: one dtype, one kind of NaN, contiguous."""
    values = np.ascontiguousarray(values, dtype)
    return np.where(np.isnan(values), values.dtype.type(np.nan), values)


def checksum(values: Shaped[np.ndarray, "..."]) -> int:
    """CRC-32 of the values' bytes, little-endian."""
    if sys.byteorder == "big":
        values = values.byteswap()
    return zlib.crc32(np.ascontiguousarray(values).data)
