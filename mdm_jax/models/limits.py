"""Numbers that no network has: a config of them is refused before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdm_jax.errors import InputError

MOST_CLASSES = 1_000_000

# Of one kind in all, residual blocks for example. Tracing time grows with them.
MOST_LAYERS = 400
LAYERS = ("depth", "depths", "blocks")

# Of any other number, such as a width, and of the entries of a list.
MOST = 1_000_000

# Weights from prototypes to classes.
MOST_PROTOTYPE_WEIGHTS = 100_000_000


def check_classes(count: Any) -> None:
    """Raises InputError for a number of classes that cannot be."""
    if type(count) is not int or not 0 <= count <= MOST_CLASSES:
        raise InputError(
            f"num_classes is {count!r:.40}: give a whole number up to {MOST_CLASSES}"
        )


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raises InputError for a network's arguments that are beyond all bounds."""
    for name, value in arguments.items():
        if isinstance(value, Mapping):
            check_arguments(value)
            continue
        values = value if isinstance(value, list | tuple) else [value]
        numbers = [each for each in values if isinstance(each, int | float)]
        is_layers = name in LAYERS
        total = sum(map(abs, numbers)) if is_layers else max(map(abs, numbers), default=0)
        most = MOST_LAYERS if is_layers else MOST
        # written so that a NaN is refused too
        if not (total <= most and len(values) <= MOST):
            raise InputError(
                f"{name} is {value!r:.40}: give "
                + (
                    f"at most {most} layers in all"
                    if is_layers
                    else f"numbers up to {most}"
                )
            )


def check_prototypes(prototypes: int, num_classes: int) -> None:
    """Raises InputError for more prototypes than so many classes can have."""
    if prototypes * num_classes > MOST_PROTOTYPE_WEIGHTS:
        raise InputError(
            f"{prototypes} prototypes of {num_classes} classes are too many: give fewer"
        )
