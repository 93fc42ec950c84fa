"""A command that is asked to stop ends with 130, whatever it is doing; in processes of its own."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGHUP"), reason="needs signals of POSIX"
)

# What a verb may be doing: waiting in Python, computing outside of Python for minutes, or waiting
# where an exception goes nowhere.
DOING = {
    "waiting": "import time; time.sleep(60)",
    "computing": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
    "collecting": (
        "import gc, time; gc.callbacks.append(lambda *_: time.sleep(60)); gc.collect()"
    ),
}
PROGRAM = """
import signal
from mdm_jax.cli import main
{before}
def run(*_):
    print("ready", flush=True)
    {doing}
    return 0
main._run = run
main.program()
"""


def started(doing: str, before: str = "") -> subprocess.Popen[str]:
    code = PROGRAM.format(doing=doing, before=before)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("doing", DOING)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_command_that_is_asked_to_stop_ends(doing, name):
    process = started(DOING[doing])
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said == "mdm: interrupted\n"


def test_a_signal_that_is_ignored_stays_ignored():
    """nohup has the end of a terminal ignored."""
    process = started(
        "signal.raise_signal(signal.SIGHUP)",
        before="signal.signal(signal.SIGHUP, signal.SIG_IGN)",
    )
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "")
