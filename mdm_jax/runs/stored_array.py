"""An array of a run, read when it is indexed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorstore as ts

from mdm_jax.errors import InputError


@dataclass(frozen=True)
class StoredArray:
    """An array [rows, h, w] in a folder or bucket; `array[100:200]` is a NumPy array.

    It is indexed as NumPy does. Only the rows that are asked for are read, but whole, as the chunks
    on disk hold whole maps."""

    store: ts.TensorStore
    damaged: Callable[[Sequence[int]], InputError]
    """the error for rows that cannot be read"""

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
        if not len(rows):
            return np.empty((0, *self.shape[1:]), self.dtype)
        is_slice = isinstance(rows, range) and rows.step == 1
        where = slice(rows[0], rows[-1] + 1) if is_slice else np.asarray(rows, np.int64)
        try:
            return np.asarray(self.store[where].read().result())
        except (OSError, ValueError) as error:
            raise self.damaged(rows) from error
