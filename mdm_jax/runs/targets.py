"""Which classes of an image a run explains: the network's first choice, its first K, the true
class, or given ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from mdm_jax.errors import InputError

WRITTEN = "write prediction, label, top5 (the five most likely), or classes such as 3,7"


@dataclass(frozen=True)
class Targets:
    """How targets are found; every image has as many."""

    text: str
    """as it is written down: "prediction", "top5", "label", "3,7", or "given" for one class an
    image"""
    count: int
    """targets of an image"""
    classes: tuple[int, ...] = ()
    """the same for every image"""
    given: tuple[int, ...] = ()
    """of every item of the source"""

    @property
    def ranks(self) -> int:
        """How many of the network's choices are asked for."""
        return self.count if self.text.startswith("top") else 1

    @property
    def largest(self) -> int:
        """The largest class that is asked for; -1 where none is known."""
        return max((*self.classes, *self.given), default=-1)

    def of(self, index: int, label: int) -> list[int]:
        """Targets of item `index` of the source, whose true class is `label` for the network (-1:
        it has none).

        A class, or -1 for the network's first choice, -2 for its second ...; empty where there is
        nothing to explain."""
        if self.text == "label":
            return [label] if label >= 0 else []
        if self.given:
            return [self.given[index]]
        return list(self.classes) or [-1 - rank for rank in range(self.count)]


def targets(asked: Any, items: int) -> Targets:
    """Targets as they are written, or one class for each of the source's `items`. Raises InputError
    for anything else."""
    if isinstance(asked, str):
        return _written(asked.strip())
    try:
        given = np.asarray(asked)
    except ValueError:
        given = np.zeros(0)
    if given.shape != (items,) or not np.issubdtype(given.dtype, np.integer):
        raise InputError(
            f"targets are {_short(asked)}: {WRITTEN}, or give a class for each of the {items}"
            " images"
        )
    if given.min() < -1:
        raise InputError(
            f"targets are given, with {given.min()} among them: give classes, or -1 for the"
            " network's first choice"
        )
    return Targets("given", 1, given=tuple(given.tolist()))


def _written(text: str) -> Targets:
    if text in ("prediction", "label"):
        return Targets(text, 1)
    if match := re.fullmatch(r"top(\d{1,6})", text):
        if (count := int(match[1])) < 1:
            raise InputError(f"targets are {text!r}: give top1 or more")
        return Targets(text, count) if count > 1 else Targets("prediction", 1)
    if re.fullmatch(r"\d{1,6}( *, *\d{1,6})*", text):
        classes = tuple(map(int, text.split(",")))
        if len(set(classes)) < len(classes):
            raise InputError(f"targets are {text!r}: give each class once")
        return Targets(",".join(map(str, classes)), len(classes), classes=classes)
    raise InputError(f"targets are {text!r}: {WRITTEN}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def checked(asked: Targets, classes: int | None) -> None:
    """Raises InputError for a class or a number of choices that the network does not have; None: it
    has no classes."""
    if classes is None and not asked.given and not asked.classes and asked.text != "label":
        raise InputError(
            "the network's outputs have no logits, so it has no first choice: give targets, classes"
            " or label"
        )
    wanted = max(asked.largest + 1, asked.ranks)
    if classes is not None and wanted > classes:
        shown = f"given, with class {asked.largest}" if asked.given else asked.text
        raise InputError(
            f"targets are {shown}, but the network has {classes} classes, 0 to {classes - 1}"
        )
