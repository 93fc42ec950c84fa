"""What must be the same for results to belong together: a checksum of a data source."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mdm_jax.data.source import HasFiles, Source, checksum


def source_fingerprint(source: Source) -> dict[str, Any]:
    """How many items, and a checksum of their files, labels and sizes; of the name where items are
    no files."""
    root = getattr(source, "root", None)
    sizes = (
        [_size(Path(root) / file) for file in source.files]
        if root and isinstance(source, HasFiles)
        else []
    )
    digest = hashlib.sha256(f"{checksum(source)} {sizes}".encode())
    return {"items": len(source), "files": digest.hexdigest()[:16]}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # an item that cannot be read
        return -1
