"""Which rows of a run lie in which chunk: pure arithmetic, the same in every process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Rows and chunks of a run; item i explained for its k-th target is row i * targets + k."""

    items: int
    """images"""
    targets: int
    """targets of each image"""
    chunk: int
    """images in a chunk, the unit that is written and committed; the last chunk may hold fewer"""

    @property
    def rows(self) -> int:
        """Of all chunks."""
        return self.items * self.targets

    @property
    def chunks(self) -> int:
        """How many there are."""
        return -(-self.items // self.chunk)

    @property
    def chunk_rows(self) -> int:
        """Rows of a whole chunk, the length of a chunk of the arrays."""
        return self.chunk * self.targets

    def items_of(self, chunk: int) -> range:
        """The items of a chunk."""
        return range(chunk * self.chunk, min(self.items, (chunk + 1) * self.chunk))

    def rows_of(self, chunk: int) -> range:
        """The rows of a chunk."""
        items = self.items_of(chunk)
        return range(items.start * self.targets, items.stop * self.targets)

    def chunk_of(self, row: int) -> int:
        """The chunk that holds a row."""
        return row // self.chunk_rows
