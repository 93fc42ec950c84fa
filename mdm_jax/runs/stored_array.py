"""An array of a run, read when it is indexed, and compared with the checksums in the records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorstore as ts

from mdm_jax.errors import InputError
from mdm_jax.runs import arrays
from mdm_jax.runs.chunks import Layout

# Chunks that are read at once.
READ_AHEAD = 8


@dataclass(frozen=True)
class StoredArray:
    """An array [rows, h, w] in a folder or bucket; `array[100:200]` is a NumPy array.

    It is indexed as NumPy does. Only the chunks of the rows that are asked for are read, each
    whole, as it lies on disk."""

    store: ts.TensorStore
    layout: Layout
    checksums: Callable[[], Mapping[int, int | None]]
    """of the chunks that are committed, by number"""
    damaged: Callable[[int, Exception | None], InputError]
    """the error for a chunk that cannot be read, or holds other values"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, height and width."""
        return tuple(self.store.shape)

    @property
    def ndim(self) -> int:
        """Axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers."""
        return self.store.dtype.numpy_dtype

    def __len__(self) -> int:
        """Rows, committed or not."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """The rows that an index names, and of each what the rest of the index does.

        Raises IndexError for rows that the array does not have, InputError for damaged ones."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis or first is None:
            return self._read(range(len(self)))[key]
        if isinstance(first, int | np.integer) and not isinstance(first, bool):
            return self._read([range(len(self))[first]])[(0, *rest)]
        if isinstance(first, slice):
            rows: Sequence[int] = range(len(self))[first]
        else:
            # NumPy knows masks, negative numbers and what is out of range.
            rows = np.arange(len(self))[np.asarray(first)].tolist()
        return self._read(rows)[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The whole array, for NumPy's own functions."""
        return np.asarray(self[...], dtype)

    def _read(self, rows: Sequence[int]) -> np.ndarray:
        wanted = np.asarray(rows, np.int64)
        chunks = wanted // self.layout.chunk_rows
        found = np.full((len(wanted), *self.shape[1:]), np.nan, self.dtype)
        checksums = self.checksums()
        committed = [each for each in np.unique(chunks).tolist() if each in checksums]
        for start in range(0, len(committed), READ_AHEAD):
            pending = []
            for chunk in committed[start : start + READ_AHEAD]:
                of_chunk = self.layout.rows_of(chunk)
                part = self.store[of_chunk.start : of_chunk.stop]
                pending.append((chunk, of_chunk.start, part.read()))
            for chunk, first, reading in pending:
                values = self._values(chunk, reading, checksums[chunk])
                is_here = chunks == chunk
                found[is_here] = values[wanted[is_here] - first]
        return found

    def _values(self, chunk: int, reading: Any, checksum: int | None) -> np.ndarray:
        try:
            values = np.asarray(reading.result())
        except (OSError, ValueError) as error:
            raise self.damaged(chunk, error) from error
        if arrays.checksum(values) != checksum:
            raise self.damaged(chunk, None)
        return values
