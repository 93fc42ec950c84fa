"""`--log-json`: what a command does, as one JSON object a line, for programs that watch it.

Every line has the same keys (`KEYS`), null where they have no meaning; new keys may be added, and
these keep their names and units."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from datetime import UTC, datetime
from typing import IO, Any

from mdm_jax.cli import streams
from mdm_jax.errors import InputError
from mdm_jax.text_files import printable
from mdm_jax.version import __version__

KEYS = (
    *("time", "event", "command", "host", "process", "task", "stage", "done", "total"),
    *("rate", "seconds_left", "measures", "message", "seconds", "exit_code"),
)

# The place that means standard error, which then holds nothing else.
STANDARD_ERROR = "-"


class EventLog:
    """Lines of one command. Until it is opened, sentences are printed and nothing else happens."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._began = time.monotonic()
        self.command = ""
        self.is_on_stderr = False

    def open(self, place: str, command: str) -> None:
        """Begin to write. Raises InputError for a file that cannot be written."""
        self.command, self.is_on_stderr = command, place == STANDARD_ERROR
        if not self.is_on_stderr:
            try:
                # A command that is called again, and processes that share a run, add to it;
                # without a buffer each line is written at once.
                self._file = open(place, "ab", buffering=0)  # noqa: SIM115
            except OSError as error:
                raise InputError(
                    f"the log {printable(place)} cannot be written ({error.strerror}): give"
                    " --log-json another file, or - for standard error"
                ) from error
        self.write("start", message=f"mdm {command} {__version__}")

    @property
    def is_open(self) -> bool:
        return self.is_on_stderr or self._file is not None

    def write(self, event: str, **values: Any) -> None:
        """Add a line, whole or not at all."""
        if not self.is_open:
            return
        known = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            "command": self.command,
            "host": socket.gethostname(),
            "process": os.getpid(),
        }
        line = dict.fromkeys(KEYS) | known | values
        text = json.dumps(line, allow_nan=False) + "\n"
        try:
            if self._file is not None:
                self._file.write(text.encode())
            else:
                sys.stderr.write(text)
        except OSError as error:
            # A disk that is full ends no command that could go on.
            self._close()
            self.say(f"the log cannot be written any more ({error.strerror})")

    def say(self, sentence: str, event: str = "message") -> None:
        """A sentence for people on standard error, and a line of the log where there is one."""
        self.write(event, message=sentence)
        if not self.is_on_stderr:
            streams.say(sentence)

    def end(self, exit_code: int) -> None:
        """The last line."""
        seconds = round(time.monotonic() - self._began, 3)
        self.write("finish", exit_code=exit_code, seconds=seconds)
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self.is_on_stderr = None, False
