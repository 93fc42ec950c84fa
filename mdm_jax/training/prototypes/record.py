"""Where each prototype was pushed to: `prototypes.json` in a model folder, beside its weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mdm_jax.errors import InputError, reason_of
from mdm_jax.storage.atomic import write_whole
from mdm_jax.text_files import parse_json, read_text

FILE = "prototypes.json"


class PushedPrototype(NamedTuple):
    """What one prototype became."""

    prototype: int
    class_index: int
    item: int | None
    """index of the training image in its split; None where the prototype was left as it is, for the
    `reason`"""
    id: str
    label: int
    """class of that image, -1 where there is none"""
    position: tuple[int, int] | None
    """(row, column) in the grid of features; None for pooled features, which have none"""
    distance: float | None
    """from the prototype to what it became: squared L2, or 1 - cosine; None where it was left as it
    is"""
    reason: str = ""
    """why it was left as it is"""


@dataclass(frozen=True)
class PushRecord:
    """A push of all prototypes, in their order."""

    source: str
    """the data as a config names them, such as "digits" or "folder:PATH" """
    split: str
    pushed: tuple[PushedPrototype, ...]
    step: int
    """of the training, after the push"""


def read(folder: Path) -> PushRecord | None:
    """The record in a model folder, None where there is none.

    Raises InputError for one that is damaged."""
    path = Path(folder) / FILE
    try:
        text = read_text(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    try:
        return from_json(parse_json(text))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise _damaged(path, error) from error


def write(folder: Path, record: PushRecord) -> None:
    """Write the record into a model folder, whole or not at all."""
    text = json.dumps(to_json(record), indent=1) + "\n"
    write_whole(Path(folder) / FILE, lambda file: file.write(text.encode()))


def to_json(record: PushRecord) -> dict[str, Any]:
    """The record as values that JSON can hold."""
    pushed = [
        each._asdict() | {"position": each.position and list(each.position)}
        for each in record.pushed
    ]
    return {
        "source": record.source,
        "split": record.split,
        "step": record.step,
        "pushed": pushed,
    }


def from_json(values: Any) -> PushRecord:
    """What `plain` gave. Raises KeyError, TypeError or ValueError for anything else."""
    pushed = tuple(_pushed_from_json(each) for each in values["pushed"])
    if [each.prototype for each in pushed] != list(range(len(pushed))):
        raise ValueError("its prototypes are not in order")
    return PushRecord(
        str(values["source"]), str(values["split"]), pushed, int(values["step"])
    )


def _pushed_from_json(values: Any) -> PushedPrototype:
    item, position, distance = (
        values["item"],
        values["position"],
        values["distance"],
    )
    pushed = PushedPrototype(
        prototype=int(values["prototype"]),
        class_index=int(values["class_index"]),
        item=None if item is None else int(item),
        id=str(values["id"]),
        label=int(values["label"]),
        position=None if position is None else (int(position[0]), int(position[1])),
        distance=None if distance is None else float(distance),
        reason=str(values.get("reason", "")),
    )
    # a negative index would silently count from the end
    if min(pushed.item or 0, *(pushed.position or (0,)), 0) < 0:
        raise ValueError(
            f"the item or position of prototype {pushed.prototype} is negative"
        )
    if not math.isfinite(pushed.distance or 0.0):
        raise ValueError(
            f"the distance of prototype {pushed.prototype} is {pushed.distance}"
        )
    return pushed


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is damaged ({reason_of(error)}): run the same training again to write"
        " it anew"
    )
