"""Which class of the network a class of the data is."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

# Names that a warning tells.
SHOWN = 4
OTHERWISE = "where that is wrong, name the network's classes with classes (--classes)"


def class_numbers(data: tuple[str, ...], network: tuple[str, ...]) -> np.ndarray:
    """The network's number of each class of the data, -1 where it has none.

    Classes are matched by name, else by its part before the first comma where that is the network's
    only one. Names that are numbers are else counted from 0, and as many classes as the network's,
    of which none is called as there, are taken in order: that of sorted folders, as in training.
    Warns of a correspondence that is not by name, and of classes that are left without one."""
    if data == network:
        return np.arange(len(data))
    full_names = _unique(name.casefold() for name in network)
    short_names = _unique(_short_name(name) for name in network)

    are_numbers = _are_numbers(data)

    def find(name: str) -> int:
        if name.casefold() in full_names:
            return full_names[name.casefold()]
        # One number among names; numbers alone are looked at below.
        if name.isdecimal() and not are_numbers and int(name) < len(network):
            return int(name)
        return short_names.get(_short_name(name), -1)

    by_name = np.asarray([find(name) for name in data], int)
    if not len(data) or (by_name >= 0).all():
        return by_name
    if are_numbers and not _are_numbers(network) and max(map(int, data)) < len(network):
        return _warn_numbers(np.asarray([int(name) for name in data]), data, network)
    # Numbers that are the network's names in part are theirs only where both begin alike: others
    # are counted from somewhere else.
    if are_numbers and not (_are_numbers(network) and _first(data) == _first(network)):
        by_name[:] = -1
    if (by_name < 0).all() and len(data) == len(network):
        return _warn_order(data, network)
    lacking = [name for name, number in zip(data, by_name) if number < 0]
    # A network whose classes have numbers alone knows so many; nothing is wrong with their names.
    if len(lacking) < len(data) and not (are_numbers and _are_numbers(network)):
        warnings.warn(
            f"{len(lacking)} of the data's {len(data)} classes are none of the network's"
            f" ({shorten(lacking)}): their images have no label there; {OTHERWISE}",
            stacklevel=3,
        )
    return by_name


def class_number(numbers: np.ndarray, label: int) -> int:
    """The network's number of a label of the data, -1 where it has none or the label is unknown."""
    return int(numbers[label]) if 0 <= label < len(numbers) else -1


def _warn_numbers(
    numbers: np.ndarray, data: Sequence[str], network: Sequence[str]
) -> np.ndarray:
    # The order says the same, so nothing is guessed.
    if numbers.tolist() != list(range(len(network))):
        last = int(numbers[-1])
        warnings.warn(
            f"the data's classes ({shorten(data)}) are taken for numbers of the network's, counted"
            f" from 0: {data[-1]} is its class {last}, {network[last]!r}; {OTHERWISE}",
            stacklevel=4,
        )
    return numbers


def _warn_order(data: Sequence[str], network: Sequence[str]) -> np.ndarray:
    warnings.warn(
        f"the data's classes are not called as the network's ({shorten(data)}; {shorten(network)}):"
        f" they are taken in this order, so that {data[0]} is class 0, {network[0]!r};"
        f" {OTHERWISE}",
        stacklevel=4,
    )
    return np.arange(len(data))


def shorten(names: Sequence[str]) -> str:
    """The first few names, for a sentence."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _first(names: Iterable[str]) -> int:
    return min(map(int, names))


def _are_numbers(names: Iterable[str]) -> bool:
    return all(name.isdecimal() for name in names)


def _short_name(name: str) -> str:
    return name.partition(",")[0].strip().casefold()


def _unique(names: Iterable[str]) -> dict[str, int]:
    """Number of each name that occurs once."""
    names = list(names)
    counts = Counter(names)
    return {name: number for number, name in enumerate(names) if counts[name] == 1}
