"""Which classes of an image a run explains.

The network's first choice, its first K, the true class, or given ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from mdm_jax.errors import InputError

ALLOWED = "write prediction, label, top5 (the five most likely), or classes such as 3,7"


@dataclass(frozen=True)
class Targets:
    """How the targets of an image are found; every image has as many."""

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
        """The targets of item `index` of the source.

        `label` is its true class for the network, -1 where it has none. A target is a class, or -1
        for the network's first choice, -2 for its second ...; empty where there is nothing to
        explain."""
        if self.text == "label":
            return [label] if label >= 0 else []
        if self.given:
            return [self.given[index]]
        if self.classes:
            return list(self.classes)
        # Which class the network chooses is known on the device alone.
        return [-1 - rank for rank in range(self.count)]


def parse_targets(targets: Any, items: int) -> Targets:
    """Targets from a text, or from one class for each of the source's `items`.

    Raises InputError for anything else."""
    if isinstance(targets, str):
        return _parse_text(targets.strip())
    try:
        given = np.asarray(targets)
    except ValueError:  # of several lengths
        given = np.zeros(0)
    if given.shape != (items,) or not np.issubdtype(given.dtype, np.integer):
        raise InputError(
            f"targets are {_short(targets)}: {ALLOWED}, or give a class for each of the {items}"
            " images"
        )
    if given.min() < -1:
        raise InputError(
            f"targets are given, with {given.min()} among them: give classes, or -1 for the"
            " network's first choice"
        )
    return Targets("given", 1, given=tuple(given.tolist()))


def _parse_text(text: str) -> Targets:
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
    raise InputError(f"targets are {text!r}: {ALLOWED}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_classes(targets: Targets, classes: int | None) -> None:
    """Raise InputError for a class, or a number of choices, that the network does not have.

    `classes` is how many it has; None where its outputs are no logits."""
    has_classes = targets.given or targets.classes or targets.text == "label"
    if classes is None and not has_classes:
        raise InputError(
            "the network's outputs have no logits, so it has no first choice: give targets, classes"
            " or label"
        )
    needed = max(targets.largest + 1, targets.ranks)
    if classes is not None and needed > classes:
        text = f"given, with class {targets.largest}" if targets.given else targets.text
        raise InputError(
            f"targets are {text}, but the network has {classes} classes, 0 to {classes - 1}"
        )
