"""Outputs that are closed, full or of a small alphabet; names of strangers on a terminal."""

import io
import json
import os
import subprocess
import sys
import warnings

import pytest
from rich.console import Console

from mdm_jax.cli import main as program
from mdm_jax.cli.console import Result, Terminal
from mdm_jax.cli.main import main
from mdm_jax.cli.options import Options
from mdm_jax.cli.progress_bar import ProgressBar

HOSTILE = "\x1b[31ma\nb\rc\x9b2J\u202egnp.\udcff[bold]€"
SHOWN = "?[31ma?b?c?2J?gnp.?[bold]€"


def stream(encoding="utf-8"):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)


def text_of(opened):
    return opened.buffer.getvalue().decode(opened.encoding)


def test_a_full_disk_is_one_sentence(monkeypatch, capsys):
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["--version"]) == 1
        assert sys.stdout is full
    assert capsys.readouterr().err == (
        "mdm: the output cannot be written (No space left on device): make room for it\n"
    )


def test_errors_that_cannot_be_written_are_no_errors(monkeypatch):
    with open("/dev/full", "w", encoding="utf-8", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert main(["nothing"]) == 2
        monkeypatch.setattr(sys, "stderr", None)
        assert main(["nothing"]) == 2
        # Its buffer must not fail again where the file is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_closed_outputs(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["--version"]) == 0
    assert main(["nothing"]) == 2


@pytest.mark.slow
def test_a_closed_descriptor_is_not_given_to_a_file():
    """The number of a closed standard output would be that of the first file that is opened."""
    code = "import sys; from mdm_jax.cli.main import main; main(['--version']);"
    code += "import os; sys.exit(os.open(os.devnull, os.O_RDONLY) < 3)"
    command = f'{sys.executable} -c "{code}" <&- >&- 2>&-'
    assert subprocess.run(command, shell=True, check=False).returncode == 0


@pytest.mark.parametrize(("encoding", "euro"), [("latin-1", r"\u20ac"), ("utf-8", "€")])
def test_a_small_alphabet(monkeypatch, encoding, euro):
    out, err = stream(encoding), stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    result = Result([{"id": HOSTILE}], f"of {HOSTILE}", [HOSTILE], notes=[HOSTILE])
    with program.streams.guarded():
        Terminal(as_json=False).show(result)
        program.streams.say(HOSTILE)
        ProgressBar().say(HOSTILE)
    assert main([HOSTILE]) == 2
    shown = SHOWN.replace("€", euro)
    lines = [line.rstrip() for line in text_of(out).splitlines()]
    assert lines[:2] == ["id", shown]
    assert lines[2:4] == ["of ?[31ma", "b?c?2J?gnp.?[bold]" + euro]
    assert lines[4:] == [f"  {shown}"] * 2
    said = text_of(err)
    assert said.splitlines()[:2] == [f"mdm: {shown}", shown]
    assert said.splitlines()[2].startswith("mdm: unknown command")
    assert not set("\x1b\x9b\u202e\r") & set(text_of(out) + said)


def test_programs_get_names_as_they_are(capsys):
    result = Result([{"id": HOSTILE}], "done", [HOSTILE], notes=[HOSTILE])
    Terminal(as_json=True).show(result)
    said = json.loads(capsys.readouterr().out)
    assert said["rows"] == [{"id": HOSTILE}]
    assert said["files"] == [HOSTILE]
    assert said["summary"] == f"done\n  {HOSTILE}"


def test_a_bar_does_not_print_what_it_is_told_raw():
    bar = ProgressBar()
    bar.console = Console(file=io.StringIO(), force_terminal=True, width=80)
    bar.begin(HOSTILE, 2)
    bar.describe(HOSTILE)
    bar.end()
    written = bar.console.file.getvalue()
    assert "?[31ma?b?c" in written
    assert "\x1b[31ma" not in written


def test_a_warning_is_said_once_and_in_one_line(monkeypatch, capsys):
    class Warns(Options):
        def run(self, terminal):
            for _ in range(2):
                warnings.warn("two\nlines", stacklevel=1)
            return Result([], "done", [])

    monkeypatch.setattr(program, "load_verb", lambda name: Warns)
    monkeypatch.setattr("mdm_jax.cli.parse.parse", lambda command, name, words: command())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["demo"]) == 0
    assert capsys.readouterr() == ("done\n", "mdm: two?lines\n")
