"""What all parquet files of ours share: the key of their metadata, and how damage shows."""

from __future__ import annotations

import pyarrow as pa

# In a file's metadata, before JSON of ours.
METADATA_KEY = b"mdm_jax"

# What pyarrow, or reading the metadata, raises for a damaged file.
READ_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    pa.ArrowException,
)
