"""The exception for input that cannot be used: a sentence that says what is wrong and what to
do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Input that cannot be used. The command line prints it as one sentence and exits with code
    2."""


class NothingToExplain(InputError):
    """No image of a batch could be explained; `explanation` holds what was found, a status for
    each."""

    def __init__(self, sentence: str, explanation: Any):
        super().__init__(sentence)
        self.explanation = explanation


def unknown(kind: str, name: object, choices: Iterable[str]) -> InputError:
    """The error for a name that is not among `choices`, with the nearest one when there is one."""
    choices = sorted(choices)
    near = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return InputError(f"unknown {kind} {name!r}: {hint}choose from {', '.join(choices)}")
