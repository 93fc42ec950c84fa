"""What the page needs of a run, and what it reads from its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int

from mdm_jax import images
from mdm_jax.config import shows_evidence
from mdm_jax.runs.reader import current_settings
from mdm_jax.types import REASONS
from mdm_jax.views.pages import columns, kept, maps
from mdm_jax.views.pages.columns import Number, pack

# Statuses of images that were given up: there may be a map, but it explains nothing.
GIVEN_UP = tuple(status.name for status in REASONS)


@runtime_checkable
class RunView(Protocol):
    """A run as `mdm_jax.runs.reader` opens it."""

    @property
    def place(self) -> Any: ...

    @property
    def description(self) -> Mapping[str, Any]:
        """run.json"""

    @property
    def records(self) -> pa.Table: ...

    @property
    def mask_vectors(self) -> Sequence[Any]:
        """arrays [rows, h, w], one for each mask size; none for methods without masks"""

    @property
    def saliency_maps(self) -> Any:
        """array [rows, h, w] or None"""


def settings(run: RunView) -> dict[str, Any]:
    """The settings of a run, of any version, by today's names."""
    return current_settings(run.description)


def draws_masks(run: RunView) -> bool:
    """Whether maps are drawn from mask vectors.

    Where there are any, unless the map is more than their stack and was stored."""
    given = settings(run)
    config = given.get("config") or {}
    # smoothing is applied after the stack, and evidence beside it: neither lies in the vectors
    has_evidence = shows_evidence(config.get("schedule", ""), config.get("map"))
    is_stack = config.get("smoothing") is None and not has_evidence
    stack = given.get("method") == "mdm" and is_stack
    return bool(run.mask_vectors) and (stack or run.saliency_maps is None)


def map_arrays(run: RunView) -> list[Any]:
    """The arrays that maps are drawn from: mask vectors, or saliency."""
    if draws_masks(run):
        return list(run.mask_vectors)
    return [] if run.saliency_maps is None else [run.saliency_maps]


def map_sizes(run: RunView) -> list[tuple[int, int]]:
    """Cells (height, width) of each map of a row, as they are written."""
    shapes = [(int(array.shape[1]), int(array.shape[2])) for array in map_arrays(run)]
    if draws_masks(run):
        return shapes
    return [maps.reduced_size(shape) for shape in shapes]


def short_names(places: Sequence[Any]) -> list[str]:
    """The last part of each run's place, with as many parts before it as tell them apart."""
    parts = []
    for place in places:
        text = images.printable(str(place)).replace("\\", "/")
        parts.append([part for part in text.split("/") if part])
    longest = max((len(each) for each in parts), default=1)
    for count in range(1, longest + 1):
        found = ["/".join(each[-count:]) or "run" for each in parts]
        if len(set(found)) == len(found):
            return found
    # the same place twice
    return [
        f"{each[-1] if each else 'run'} ({number})" for number, each in enumerate(parts, 1)
    ]


def run_to_json(
    name: str,
    run: RunView,
    frame: int,
    rows: Int[np.ndarray, " entries"],
    numbers: Sequence[Number],
) -> dict[str, Any]:
    """A run as the page knows it; `rows` are the places of the entries in its records."""
    table, classes = run.records, run.description.get("classes") or ()
    prediction = columns.read_integers(table, "prediction", rows)
    target = columns.read_integers(table, "target", rows)
    # of a thousand classes a run names a few
    numbered = {int(n) for n in np.concatenate([prediction, target])}
    used = sorted(n for n in numbered if 0 <= n < len(classes))
    statuses, reasons = table["status"].to_pylist(), table["reason"].to_pylist()
    status, reason = [], {}
    for n, row in enumerate(rows):
        status.append(statuses[row] or "" if row >= 0 else "")
        if row >= 0 and reasons[row]:
            reason[str(n)] = reasons[row]
    types = [table.schema.field(column).type for column in table.column_names]
    given = settings(run)
    return {
        "name": name,
        "frame": frame,
        "node": kept.node_name(given),
        "kind": _map_kind(run),
        "sizes": map_sizes(run),
        "weights": given.get("stack_weights"),
        "fill": _fill(given),
        "classes": {str(n): str(classes[n]) for n in used},
        "status": columns.encode_texts(status),
        "label": pack(columns.read_integers(table, "label", rows).astype("<i4")),
        "prediction": pack(prediction.astype("<i4")),
        "target": pack(target.astype("<i4")),
        "reasons": reason,
        "vector": any(pa.types.is_nested(each) for each in types),
        "numbers": [number.to_json() for number in numbers],
        "settings": flatten(given),
        "versions": run.description.get("versions") or {},
    }


def given_up(
    run: RunView, rows: Int[np.ndarray, " entries"]
) -> Bool[np.ndarray, " entries"]:
    """Whether an entry is one of `GIVEN_UP`."""
    statuses = np.asarray(run.records["status"].to_pylist())
    return columns.take_rows(np.isin(statuses, GIVEN_UP), rows, False)


def _map_kind(run: RunView) -> str:
    if draws_masks(run):
        return "masks"
    return "none" if run.saliency_maps is None else "saliency"


def flatten(given: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def _fill(given: Mapping[str, Any]) -> Any:
    """The fill of the method that made the maps: a name, one or three numbers, text, or None."""
    for name, value in flatten(given).items():
        if name.rpartition(".")[2] == "fill":
            return value
    return None
