"""`--log-json`: an object a line, the same keys in each, in a file or on standard error."""

import json
import math

import pytest

from mdm_jax import InputError
from mdm_jax.cli import main as program
from mdm_jax.cli.console import Result, Terminal
from mdm_jax.cli.event_log import KEYS, EventLog
from mdm_jax.cli.main import main
from mdm_jax.cli.options import Options
from mdm_jax.cli.progress_bar import TrainingBar
from mdm_jax.progress import task


class Works(Options):
    """A verb that does three things, warns and may fail."""

    def run(self, terminal):
        with task(terminal.progress, "explaining", 3) as advance:
            for done in (1, 2, 3):
                advance(done)
        terminal.progress.say("a sentence\nof two lines")
        if self.code:
            raise InputError("nothing fits")
        return Result([], "done", [])


@pytest.fixture
def verb(monkeypatch):
    def parse(command, name, words):
        place = words[words.index("--log-json") + 1] if "--log-json" in words else None
        return command(log_json=place, code=("fails",) if "--fail" in words else ())

    monkeypatch.setattr(program, "load_verb", lambda name: Works)
    monkeypatch.setattr("mdm_jax.cli.parse.parse", parse)


def test_every_line_has_every_key(verb, tmp_path, capsys):
    file = tmp_path / "log.jsonl"
    assert main(["demo", "--log-json", str(file)]) == 0
    assert main(["demo", "--log-json", str(file), "--fail"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "mdm: nothing fits"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(tuple(line) == KEYS for line in lines)
    events = [line["event"] for line in lines]
    once = ["start", "begin", "end", "message"]
    assert events == [*once, "finish", *once, "error", "finish"]
    assert [line["exit_code"] for line in lines if line["event"] == "finish"] == [0, 2]
    end = lines[2]
    assert (end["command"], end["task"], end["done"], end["total"]) == (
        "demo",
        "explaining",
        3,
        3,
    )
    assert lines[3]["message"] == "a sentence\nof two lines"


def test_standard_error_holds_nothing_else(verb, capsys):
    assert main(["demo", "--log-json", "-", "--fail"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["event"] for line in lines][-2:] == ["error", "finish"]


def test_a_log_that_cannot_be_written(verb, tmp_path, capsys):
    assert main(["demo", "--log-json", str(tmp_path / "none" / "log")]) == 2
    assert "give --log-json another file" in capsys.readouterr().err
    # one that fills up on the way ends nothing
    assert main(["demo", "--log-json", "/dev/full"]) == 0
    assert "the log cannot be written any more (No space left" in capsys.readouterr().err


def test_measures_are_json(tmp_path):
    log = EventLog()
    log.open(str(tmp_path / "log"), "train")
    progress = Terminal(as_json=False, log=log).watch(TrainingBar())
    progress.begin("compiling", 10, 4)
    progress.describe("epoch 2/5")
    progress.advance(5, loss=math.nan, rate=12.0)
    progress.end()
    line = json.loads((tmp_path / "log").read_text().splitlines()[-1])
    log.end(0)
    assert line["measures"] == {"loss": None, "rate": 12.0}
    assert (line["stage"], line["done"]) == ("epoch 2/5", 5)
