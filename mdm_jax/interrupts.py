"""Being asked to stop: the first Ctrl-C asks, the second ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ASKING = ("SIGINT", "SIGTERM", "SIGHUP")
"""signals that ask a process to end: Ctrl-C, the system, a terminal that is closed (not everywhere)"""


@contextmanager
def interrupts(first: Callable[[], None], second: str) -> Iterator[None]:
    """Inside, `first` is called when the process is asked to stop, and KeyboardInterrupt(second) raised if asked again.

    Another thread than the main one, which alone hears signals, is never asked.
    """
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt(second)
        asked = True
        first()

    mine = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in ASKING if hasattr(signal, name)] if mine else []
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
