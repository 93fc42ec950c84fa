"""The protocol by which long work reports its progress and is asked to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Follows long work: a progress bar, a log, or a test.

    Work is a sequence of tasks. A task begins, advances to its total and ends; tasks are not
    nested. Every method is called from the thread that does the work, often many times a second,
    so it must return quickly.
    """

    def begin(self, task: str, total: int, done: int = 0) -> None:
        """A task of `total` items begins, of which `done` were finished before."""

    def advance(self, done: int, **measures: float) -> None:
        """`done` items of the task are finished in all.

        `measures` are numbers of the moment: `evaluations` (of the network, since the task began)
        in a run; `loss` and `rate` (images a second) in a training.
        """

    def describe(self, stage: str) -> None:
        """What the task does from now on, such as "epoch 2/30"."""

    def say(self, sentence: str) -> None:
        """A sentence that the user should keep."""

    def end(self) -> None:
        """The task ended, whether or not it reached its total."""

    def wants_stop(self) -> bool:
        """Whether the work should stop at the next point from which it can be resumed."""


class NullProgress:
    """Shows nothing and never asks to stop; a base for classes that need some methods only."""

    def begin(self, task: str, total: int, done: int = 0) -> None: ...
    def advance(self, done: int, **measures: float) -> None: ...
    def describe(self, stage: str) -> None: ...
    def say(self, sentence: str) -> None: ...
    def end(self) -> None: ...
    def wants_stop(self) -> bool:
        return False


@contextmanager
def task(progress: Progress, name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Begin a task and end it on the way out; yields the function that takes the items done."""
    progress.begin(name, total)
    try:
        yield progress.advance
    finally:
        progress.end()


class Stopped(Exception):
    """The work stopped because it was asked to; the message says how to resume it."""


class Interrupted(Exception):
    """The work was asked to stop within a step, which will have to be done again."""
