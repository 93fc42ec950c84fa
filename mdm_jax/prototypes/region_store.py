"""The folder of a prototype search: results are stored by image and prototype.

- settings.json: the network and the data; everything in the folder was made with these
- nearest.npz, nearest_own.npz: the nearest images of every prototype, and with which settings they
  were found
- regions/NAME/region.json, maps-00000.npz ...: the settings of a way of finding regions, and its
  maps, a pair a row
- prototypes.json, prototypes.parquet, figures/: what was made of these, anew each time; index.html,
  assets/, data/, images/

More images, prototypes or ways of finding regions only add to what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from mdm_jax.prototypes.boxes import percentile_box
from mdm_jax.prototypes.image_sets import Pair
from mdm_jax.storage import arrays, workspace
from mdm_jax.storage.arrays import Columns
from mdm_jax.storage.map_store import MapStore
from mdm_jax.types import Explanation

SETTINGS = "settings.json"

# Diagnostics that are kept of every pair, beside `SIMILARITIES` and `box` (x0, y0, x1, y1), that
# around all above the map's 95th percentile.
DIAGNOSTICS = (
    "activation",
    "activation_masked",
    "activation_fill",
    "kept_area",
    "status",
    "evaluations",
    "forwards",
)

# Similarity of the whole image, whatever node the region is of; when only its strongest tenth is
# seen, and when nothing is, the rest being blurred.
SIMILARITIES = ("similarity", "retained", "blurred")


class RegionStore:
    """The regions that one way of finding them gave, by pair."""

    def __init__(
        self,
        out: Path,
        region: str,
        settings: dict[str, Any],
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """Open the regions of that name.

        `settings` and `defaults` are those of `workspace.record_settings`."""
        folder, what = (
            out / "regions" / arrays.file_name(region),
            f"regions of {region}",
        )
        workspace.record_settings(folder, "region.json", settings, what, defaults=defaults)
        self.shelf = MapStore(folder)
        self._where: dict[str, tuple[Path, int]] = {}
        # pairs of a file are asked for one after another
        self._saliency = lru_cache(maxsize=8)(_saliency)
        for path in self.shelf.chunks():
            self._note(path, arrays.read_arrays(path, ("ids",))["ids"].tolist())

    def missing(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Those of the pairs that have no region yet, each once."""
        return [pair for pair in dict.fromkeys(pairs) if pair.key not in self._where]

    def add(self, pairs: Sequence[Pair], found: Explanation, similarities: Columns) -> None:
        """Store the regions of some pairs, whole or not at all, with their `SIMILARITIES`."""
        ids = [pair.key for pair in pairs]
        # half precision: a map is looked at and thresholded, not computed with
        columns = {
            "ids": np.asarray(ids),
            "saliency": np.asarray(found.saliency, np.float16),
        }
        for name in DIAGNOSTICS:
            columns[name] = np.asarray(getattr(found.info, name))
        columns["box"] = np.asarray(_boxes(found.saliency))
        for name in SIMILARITIES:
            columns[name] = similarities[name]
        self._note(self.shelf.add(columns), ids)

    def maps(self, pairs: Sequence[Pair]) -> Iterator[Float32[np.ndarray, "h w"] | None]:
        """The map of each pair in [0, 1].

        None for one that was not computed, or of which nothing was found."""
        for pair in pairs:
            path, row = self._where.get(pair.key, (None, 0))
            if path is None:
                yield None
                continue
            saliency = self._saliency(path)[row].astype(np.float32)
            found = np.isfinite(saliency).all() and np.ptp(saliency) > 0
            yield saliency if found else None

    def numbers(self, pairs: Sequence[Pair]) -> Columns:
        """The diagnostics of pairs that are there, in their order, and which they are (`there`)."""
        columns = self.shelf.columns("ids", "box", *SIMILARITIES, *DIAGNOSTICS)
        ids = columns.pop("ids", np.empty(0, str)).tolist()
        place = {key: row for row, key in enumerate(ids)}
        there = np.asarray([pair.key in place for pair in pairs], bool)
        rows = np.asarray([place[pair.key] for pair in pairs if pair.key in place], int)
        return {"there": there} | {name: values[rows] for name, values in columns.items()}

    def _note(self, path: Path, ids: Sequence[str]) -> None:
        for row, key in enumerate(ids):
            self._where[key] = path, row


_boxes = jax.jit(jax.vmap(percentile_box))


def _saliency(path: Path) -> np.ndarray:
    return arrays.read_arrays(path, ("saliency",))["saliency"]
