"""Which class of the network a class of the data is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def class_numbers(data: tuple[str, ...], network: tuple[str, ...]) -> np.ndarray:
    """The network's number of each class of the data, -1 where it has none of that name.

    Classes are matched by name, else by its part before the first comma where that is the network's
    only one; a class of the data that is called by a number is the network's class of that number.
    Of as many classes without a common name, the order is taken to be the same."""
    if data == network:
        return np.arange(len(data))
    full_names = _unique(name.casefold() for name in network)
    short_names = _unique(_short_name(name) for name in network)

    def find(name: str) -> int:
        if name.casefold() in full_names:
            return full_names[name.casefold()]
        if name.isdecimal() and int(name) < len(network):
            return int(name)
        return short_names.get(_short_name(name), -1)

    numbers = np.asarray([find(name) for name in data], int)
    # Folders are often named by codes (n02279972) in the order of the classes.
    if (numbers < 0).all() and len(data) == len(network):
        return np.arange(len(data))
    return numbers


def class_number(numbers: np.ndarray, label: int) -> int:
    """The network's number of a label of the data, -1 where it has none or the label is unknown."""
    return int(numbers[label]) if 0 <= label < len(numbers) else -1


def _short_name(name: str) -> str:
    return name.partition(",")[0].strip().casefold()


def _unique(names: Iterable[str]) -> dict[str, int]:
    """Number of each name that occurs once."""
    names = list(names)
    return {name: number for number, name in enumerate(names) if names.count(name) == 1}
