"""What `mdm explain` is to explain of each image: classes by number, name or rank, or elements."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from mdm_jax.errors import InputError
from mdm_jax.models.classifier import Classifier


class Problems(NamedTuple):
    """The image of each explanation, and its target: None for the network's first choice."""

    images: list[int]
    targets: np.ndarray | None


def element_problems(
    count: int, target: int | str | None, top: int, node: object
) -> Problems:
    """For a node whose targets are no classes, such as the number of a prototype.

    Raises InputError for options that are for classes."""
    if top != 1:
        raise InputError(
            f"--top is for nodes of classes: with --node {node} give --target, or neither"
        )
    if target is None:
        return Problems(list(range(count)), None)
    if isinstance(target, str) or target < 0:
        raise InputError(f"--target {target} is out of range: give a whole number from 0")
    return Problems(list(range(count)), np.full(count, target))


def class_problems(
    count: int,
    target: int | str | None,
    top: int,
    names: Sequence[str],
    probabilities: Float[np.ndarray, "n classes"] | None,
) -> Problems:
    """For a node of classes, which exist; `probabilities` of each image are needed for several."""
    each = list(range(count))
    if target is not None:
        return Problems(each, np.full(count, find_class(target, names)))
    if probabilities is None:
        return Problems(each, None)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return Problems([i for i in each for _ in range(top)], best.reshape(-1))


def check_class_options(target: int | str | None, top: int, names: Sequence[str]) -> None:
    """Raises InputError for classes that do not exist."""
    if target is not None and top != 1:
        raise InputError("--target and --top exclude each other: give one of them")
    if not 1 <= top <= len(names):
        raise InputError(f"--top {top} is out of range: give 1 to {len(names)}")
    if target is not None:
        find_class(target, names)


def class_probabilities(
    classifier: Classifier, inputs: Float[np.ndarray, "n h w c"]
) -> Float[np.ndarray, "n classes"]:
    """The probability of each class, image by image: all in one batch may not fit into memory."""
    softmax = jax.jit(lambda network, image: jax.nn.softmax(network(image[None])[0][0]))
    return np.stack([np.asarray(softmax(classifier, image)) for image in inputs])


def find_class(target: int | str, names: Sequence[str]) -> int:
    """The class of a number or a name. Raises InputError for neither."""
    if not isinstance(target, str):
        if not 0 <= target < len(names):
            raise InputError(
                f"--target {target} is out of range: the network has {len(names)} classes, 0 to"
                f" {len(names) - 1}"
            )
        return target
    sought = target.casefold()
    named = [i for i, name in enumerate(names) if name.casefold() == sought]
    if len(named) == 1:
        return named[0]
    if named:
        raise InputError(
            f"{len(named)} classes are called {target!r}: give --target one of the numbers {named}"
        )
    holding = [name for name in names if sought in name.casefold()]
    # as a word of its own before a part of one: for "cat", "tiger cat" before "oystercatcher"
    holding.sort(key=lambda name: sought not in re.findall(r"\w+", name.casefold()))
    similar = holding or difflib.get_close_matches(target, names, n=3)
    hint = f"did you mean {' or '.join(map(repr, similar[:3]))}? " if similar else ""
    raise InputError(
        f"the network has no class {target!r}: {hint}give --target a number from 0 to"
        f" {len(names) - 1}, or a class's whole name"
    )
