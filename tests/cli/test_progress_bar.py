"""Progress where standard error is no terminal: a line a minute."""

import threading
from types import SimpleNamespace

import jax
import pytest

from mdm_jax.cli import progress_bar, progress_lines
from mdm_jax.cli.progress_bar import ProgressBar, RunBar, TrainingBar
from mdm_jax.execution.timing import COMPILE_EVENTS, COMPILED


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [1000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    for module in (progress_bar, progress_lines):
        monkeypatch.setattr(module, "time", clock)
    return now


def test_a_log_gets_a_line_a_minute(clock, capsys):
    bar = ProgressBar()
    bar.begin("resnet: mdm, maps", 100, done=20)
    for done, seconds in ((21, 10), (30, 59), (40, 60), (41, 61), (60, 120)):
        clock[0] = 1000.0 + seconds
        bar.advance(done)
    bar.end()
    assert capsys.readouterr().err.splitlines() == [
        "resnet: mdm, maps: 40 of 100, about 3 min left",
        "resnet: mdm, maps: 60 of 100, about 2 min left",
    ]


def test_a_run_tells_its_rates(clock, capsys):
    bar = RunBar()
    bar.begin("explaining", 600)
    for second in range(0, 62, 2):
        clock[0] = 1000.0 + second
        bar.advance(second // 2, evaluations=7.0 * second)
    bar.end()
    assert capsys.readouterr().err.splitlines() == [
        "explaining: 30 of 600, 0.5 images/s, 7.0 evaluations/s, about 19 min left"
    ]


def test_a_training_tells_its_stage(clock, capsys):
    bar = TrainingBar()
    bar.begin("training", 10)
    clock[0] += 1
    bar.describe("epoch 2/5")
    clock[0] += 60
    bar.advance(4, loss=0.5, rate=12.0)
    bar.end()
    assert "epoch 2/5: 4 of 10, loss 0.500, 12 images/s" in capsys.readouterr().err


def test_nothing_is_written_after_the_end(clock, capsys):
    bar = ProgressBar()
    bar.begin("maps", 4)
    bar.end()
    clock[0] += 100
    bar.draw(4)
    assert capsys.readouterr().err == ""


def test_a_log_says_that_a_program_is_compiled(clock, capsys):
    bar = ProgressBar()
    bar.begin("explaining", 3)
    jax.monitoring.record_event_duration_secs(f"{COMPILE_EVENTS}jaxpr_trace_duration", 1.0)
    clock[0] += 61
    bar._write_line()  # as its heart does every minute
    jax.monitoring.record_event_duration_secs(COMPILED, 60.0)
    clock[0] += 61
    bar._write_line()
    bar.advance(1)
    clock[0] += 61
    bar.advance(3)
    bar.end()
    assert capsys.readouterr().err.splitlines() == [
        "explaining: 0 of 3, compiling, 1 min so far",
        "explaining: 0 of 3, 2 min so far",
    ]


def test_a_heart_beats_until_it_is_stopped():
    beats = threading.Semaphore(0)
    heart = progress_lines.Heartbeat(0.001, beats.release)
    assert beats.acquire(timeout=10)
    assert beats.acquire(timeout=10)
    heart.stop()
