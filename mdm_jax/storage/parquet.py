"""What all parquet files of ours share: the key of their metadata, and how damage shows."""

from __future__ import annotations

import pyarrow as pa

METADATA_KEY = b"mdm_jax"
"""in a file's metadata, before JSON of ours"""

READ_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    NotImplementedError,
    pa.ArrowException,
)
"""what pyarrow, or reading the metadata, raises for a damaged file"""
