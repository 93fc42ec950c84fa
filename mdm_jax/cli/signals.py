"""Being asked to stop: the first Ctrl-C asks, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Signals that ask a process to end: Ctrl-C, the system, a terminal that is closed (not everywhere).
ASKING = ("SIGINT", "SIGTERM", "SIGHUP")

# Seconds in which a process that is asked twice may end by itself.
GRACE = 1.5
INTERRUPTED = 130


@contextmanager
def interrupts(first: Callable[[], None], second: str) -> Iterator[None]:
    """Inside, `first` is called when the process is asked to stop, and KeyboardInterrupt(second)
    raised if asked again.

    Another thread than the main one, which alone hears signals, is never asked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt(second)
        asked = True
        first()

    numbers = [getattr(signal, name) for name in ASKING if hasattr(signal, name)]
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        with _heard_at_once(second):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _heard_at_once(second: str) -> Iterator[None]:
    """Inside, a process that is asked twice and does not end by itself is ended by a thread.

    Python calls handlers between two of its own instructions, and XLA compiles for minutes in one;
    then two signals even count as one. A file descriptor gets each at once."""
    if os.name != "posix":
        yield
        return
    receiving, sending = os.pipe()
    # set_wakeup_fd takes no other: a signal must never wait for its reader.
    os.set_blocking(sending, False)
    before = signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    ended = threading.Event()

    def listen() -> None:
        heard = 0
        while heard < 2 and (data := os.read(receiving, 64)):
            heard += len(data)
        if heard >= 2 and not ended.wait(GRACE):
            os.write(2, f"mdm: {second}\n".encode())
            # sys.exit would end this thread alone.
            os._exit(INTERRUPTED)

    listener = threading.Thread(target=listen, name="interrupts", daemon=True)
    listener.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        os.close(sending)
        listener.join()
        os.close(receiving)
