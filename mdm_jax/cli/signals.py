"""Being asked to stop: where work can be kept, the first Ctrl-C asks and the second ends at once;
elsewhere the first one ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

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

    with _handled_by(ask), _heard_at_once(second, asks=2):
        yield


@contextmanager
def ended_when_asked() -> Iterator[None]:
    """Inside, KeyboardInterrupt is raised when the process is asked to stop, and the process ended
    where it does not come to that; except inside `interrupts`."""

    def end(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = sys.unraisablehook

    def swallowed(unraisable: Any) -> None:
        # Raised inside a callback, of the garbage collector for example, an exception goes nowhere.
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            _end("interrupted")
        before(unraisable)

    sys.unraisablehook = swallowed
    try:
        with _handled_by(end), _heard_at_once("interrupted", asks=1):
            yield
    finally:
        sys.unraisablehook = before


def _end(sentence: str) -> NoReturn:
    os.write(2, f"mdm: {sentence}\n".encode())
    # sys.exit would end a thread alone, and wait for others.
    os._exit(INTERRUPTED)


@contextmanager
def _handled_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Inside, the handler hears the signals of `ASKING`, but not those that are ignored, as nohup
    does."""
    numbers = [getattr(signal, name) for name in ASKING if hasattr(signal, name)]
    heard = [each for each in numbers if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def _heard_at_once(sentence: str, asks: int) -> Iterator[None]:
    """Inside, a process that is asked so often and does not end by itself is ended by a thread.

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
        while heard < asks and (data := os.read(receiving, 64)):
            heard += len(data)
        if heard >= asks and not ended.wait(GRACE):
            _end(sentence)

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
