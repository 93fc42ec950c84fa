"""What a person sees of long work, and how it is ended: a bar on standard error, sentences above
it, Ctrl-C that only asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, TypeVar

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TaskID

from mdm_jax.cli.signals import interrupts

EVERY = 0.2
"""seconds between two looks of a bar"""
W = TypeVar("W", bound="Watcher")


class Watcher:
    """Watches long work on standard error, where a bar is drawn if it is a terminal."""

    asked: ClassVar[str]
    """what is said when Ctrl-C asks it to stop"""
    at_once: ClassVar[str]
    """what is said when it stops because it was asked again"""

    def __init__(self, *columns: ProgressColumn) -> None:
        self.console = Console(stderr=True)
        self.bar = Progress(
            *columns, console=self.console, disable=not self.console.is_terminal, transient=True
        )
        self.task: TaskID | None = None
        self.stop = False

    def says(self, sentence: str) -> None:
        """A sentence to keep on the screen."""
        self.console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def wants_stop(self) -> bool:
        """Whether Ctrl-C was pressed, or the process was asked to end."""
        return self.stop

    def ask(self) -> None:
        """Take note that the process was asked to stop."""
        self.stop = True
        self.says(f"{self.asked} (press Ctrl-C again to stop at once)")


@contextmanager
def watching(watcher: W) -> Iterator[W]:
    """A watcher while it is drawn and takes the signals that ask a process to end."""
    with interrupts(watcher.ask, f"stopped at once: {watcher.at_once}"), watcher.bar:
        yield watcher
