"""The exceptions for input that cannot be used, and the warning for names that changed."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any


class InputError(ValueError):
    """Input that cannot be used: one sentence that says what is wrong and what to do.

    The command line prints it and exits with code 2.

    Attributes:
      setting: the parameter or option that is wrong, where there is one.
    """

    def __init__(self, sentence: str, *, setting: str | None = None):
        super().__init__(sentence)
        self.setting = setting


class NothingToExplain(InputError):
    """No image of a batch could be explained; `explanation` has a status for each."""

    def __init__(self, sentence: str, explanation: Any):
        super().__init__(sentence)
        self.explanation = explanation


def first_line(error: BaseException) -> str:
    """The first line of what an error says, for a sentence of ours; its type if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def reason_of(error: BaseException) -> str:
    """The type of an error and the first line of what it says."""
    name, said = type(error).__name__, first_line(error)
    return name if said == name else f"{name}: {said}"


def unknown(kind: str, name: object, choices: Iterable[str]) -> InputError:
    """The error for a name that is not among `choices`, with the nearest one when there is one."""
    choices = sorted(choices)
    near = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return InputError(
        f"unknown {kind} {name!r:.100}: {hint}choose from {', '.join(choices)}"
    )


def warn_renamed(old: str, new: str) -> None:
    """Warn that a name of the library changed; the old one goes with the next version."""
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=3)


def find_renamed(
    module: str, name: str, renamed: Mapping[str, str], namespace: Mapping[str, Any]
) -> Any:
    """What a module's `__getattr__` returns: the thing under its new name, with a warning.

    Raises AttributeError for a name that is not among the `renamed`.
    """
    if name not in renamed:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new = renamed[name]
    warnings.warn(
        f"{module}.{name} is now {module}.{new}", DeprecationWarning, stacklevel=3
    )
    return namespace[new]
