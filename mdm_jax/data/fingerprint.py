"""What must be the same for results to belong together: a checksum of a data source."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mdm_jax.data.source import HasFiles, Source, checksum


def source_fingerprint(source: Source) -> dict[str, Any]:
    """How many items, and a checksum of their files, labels and sizes.

    Where items are no files, of the source's name."""
    root = getattr(source, "root", None)
    sizes: list[int] = []
    if root and isinstance(source, HasFiles):
        # Sizes show that files were exchanged under their names, and need no file to be opened.
        sizes = [_size(Path(root) / file) for file in source.files]
    digest = hashlib.sha256(f"{checksum(source)} {sizes}".encode())
    return {"items": len(source), "files": digest.hexdigest()[:16]}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # an item that cannot be read
        return -1
