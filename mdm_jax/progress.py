"""Whoever watches a training, and how it is told that it was asked to stop."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Watch(Protocol):
    """Whoever watches a training, and may ask it to stop."""

    def begins(self, step: int, steps: int, steps_per_epoch: int) -> None: ...
    def enters(
        self, doing: str
    ) -> None: ...  # a stage of a prototype network begins, or goes on without a step
    def stepped(self, step: int, loss: float, rate: float) -> None: ...
    def says(self, sentence: str) -> None: ...
    def wants_stop(self) -> bool: ...


class Silent:
    """Watches nothing and never asks to stop."""

    def begins(self, step: int, steps: int, steps_per_epoch: int) -> None: ...
    def enters(self, doing: str) -> None: ...
    def stepped(self, step: int, loss: float, rate: float) -> None: ...
    def says(self, sentence: str) -> None: ...
    def wants_stop(self) -> bool:
        return False


class Stopped(Exception):
    """The watcher asked to stop; a checkpoint holds everything, and the message says how to go
    on."""


class Interrupted(Exception):
    """The watcher asked to stop in the middle of what is then not done."""
