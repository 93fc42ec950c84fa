"""Runs in processes of their own: killed, interrupted, shared, refused, and on several devices."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from run_worker import ASKED, Drawn, kinked_network

import mdm_jax
from mdm_jax.cli.main import main
from mdm_jax.progress import NullProgress
from mdm_jax.runs.store import open_store
from mdm_jax.runs.verify import check

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL"),
    pytest.mark.slow,
]
WORKER = str(Path(__file__).parents[1] / "run_worker.py")
CHUNKS = 6
PATIENCE = 120
"""seconds after which a process that does not end is a failure"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Of the processes: what one has compiled, the next finds."""
    cache = str(tmp_path_factory.mktemp("compiled"))
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@pytest.fixture
def processes():
    """The processes of a test; none is left behind by one that fails."""
    alive = []
    yield alive
    for process in alive:
        process.kill()
        process.communicate()


def opened(processes, arguments, environment, **pipes):
    """A new process that is not left behind."""
    processes.append(
        subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            **pipes,
        )
    )
    return processes[-1]


def started(processes, environment, *tasks, **more):
    """A process that does tasks."""
    process = opened(
        processes,
        [WORKER],
        environment | more,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdin.write(json.dumps(tasks))
    process.stdin.close()
    process.stdin = None  # so that `communicate` does not look at it
    return process


def told(process, code=0):
    """What a process told of each task that it did, once it has ended with the code expected."""
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, err
    return [json.loads(line) for line in out.splitlines()]


def contents(folder):
    """Every file of a run by its name, but for its log and locks."""
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    named = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {
        name: content
        for name, content in named.items()
        if not name.startswith(("log-", "locks/"))
    }


def same(folder, other):
    """Whether two runs hold the same files, equal byte by byte."""
    first, second = contents(folder), contents(other)
    assert first.keys() == second.keys()
    return [name for name in first if first[name] != second[name]] == []


def masks_of(folder):
    return [np.asarray(array[...]) for array in mdm_jax.open_run(folder).mask_vectors]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run in this process."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    mdm_jax.run(kinked_network, Drawn(), folder, ASKED)
    assert len(list((folder / "records").iterdir())) == CHUNKS
    return folder


def test_killed_twice_the_store_is_the_undisturbed_one(
    whole, environment, processes, tmp_path
):
    folder = tmp_path / "run"
    told(
        started(
            processes, environment, {"do": "run", "out": str(folder), "die_after_rows": 7}
        ),
        -signal.SIGKILL,
    )
    first = open_store(folder).committed()
    assert first <= {
        0
    }  # in the second chunk, while the first one may be on its way to the disk
    told(
        started(
            processes,
            environment,
            {"do": "run", "out": str(folder), "die_before_record": 2},
        ),
        -signal.SIGKILL,
    )
    second = open_store(folder).committed()
    assert len(second) == len(first) + 1
    assert (
        folder / "mask_vectors" / "8x8" / "c" / str(len(second))
    ).exists()  # written in vain: its record is not in place
    assert sorted(fault.chunk for fault in check(open_store(folder))) == sorted(
        set(range(CHUNKS)) - second
    )
    ended = mdm_jax.run(kinked_network, Drawn(), folder, ASKED)
    assert ended.rows + ended.before == len(Drawn())
    assert ended.before == 4 * len(second)
    assert same(folder, whole)
    assert check(open_store(folder)) == []


def test_two_processes_share_a_run_and_one_dies(whole, environment, processes, tmp_path):
    """They meet at a coordinator; what one of them leaves undone when it is killed is done alone,
    by its share."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    for index in (0, 1):
        join = {"do": "join", "coordinator": place, "shard": f"{index}/2"}
        both = {"do": "run", "out": str(tmp_path / "both"), "share": [index, 2]}
        dies = {
            "do": "run",
            "out": str(tmp_path / "dies"),
            "share": [index, 2],
            "die_after_rows": 6 if index else None,
        }
        started(processes, environment, join, both, dies)
    assert told(processes[0]) == [[0, 2], 12, 12]
    assert told(processes[1], -signal.SIGKILL) == [[1, 2], 10]
    assert same(tmp_path / "both", whole)
    left = {3, 5} if 1 in open_store(tmp_path / "dies").committed() else {1, 3, 5}
    assert {fault.chunk for fault in check(open_store(tmp_path / "dies"))} == left
    assert mdm_jax.run(
        kinked_network, Drawn(), tmp_path / "dies", ASKED, share=(1, 2)
    ).rows == 10 - 4 * (len(left) == 2)
    assert same(tmp_path / "dies", whole)


def test_the_number_of_devices_changes_nothing(environment, processes, tmp_path):
    """To the bit, where the processes have as many threads.

    XLA has one thread for each processor (or as many as NPROC says), and at least one for each
    device; with their number it divides large sums otherwise, which changes the last bit. This
    network is too small for that; the embedded one is not."""
    for count in (1, 2, 8):
        devices = f"--xla_force_host_platform_device_count={count}"
        several = {
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {devices}",
            "NPROC": "8",
        }
        tasks = [{"do": "run", "out": str(tmp_path / str(count))}]
        tasks += [{"do": "collectives", "out": str(tmp_path)}] if count == 8 else []
        started(processes, environment, *tasks, **several)
    compiled = [told(process) for process in processes][2][1]
    assert same(tmp_path / "2", tmp_path / "1")
    assert same(tmp_path / "8", tmp_path / "1")

    assert (compiled["groups"], compiled["devices"]) == (8, 8)
    assert compiled["found"].pop("a sum over all devices") == [
        "all-reduce"
    ]  # so one would be found
    assert compiled["found"] == {
        "explain_rows": [],
        "enter": [],
        "advance": [],
        "leave": [],
    }
    alone = masks_of(tmp_path / "alone")
    for name in ("together", "slots"):
        for ours, theirs in zip(masks_of(tmp_path / name), alone):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


COMMAND = ["run", "--data", "digits"]


def at_work(processes, environment, arguments, what):
    """`mdm` in a process of its own, once there is a file like `what`."""
    process = opened(
        processes, ["-m", "mdm_jax", *arguments], environment, stdout=subprocess.DEVNULL
    )
    waiting = time.monotonic() + PATIENCE
    while not list(what.parent.glob(what.name)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < waiting
        time.sleep(0.02)
    return process


def test_ctrl_c_ends_after_the_chunk_and_twice_at_once(
    environment, processes, tmp_path, capsys
):
    polite, rude = tmp_path / "polite", tmp_path / "rude"
    arguments = [*COMMAND, "--limit", "800", "--chunk", "8", "--out", str(polite)]
    process = at_work(processes, environment, arguments, polite / "records" / "*.parquet")
    before = len(open_store(polite).committed())
    assert main(arguments) == 2
    refusal = capsys.readouterr().err
    assert refusal.count("\n") == 1
    assert "another run is at work" in refusal
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    after = open_store(polite).committed()
    assert after == set(range(len(after)))
    assert before < len(after) < 100
    assert (
        f"stopped after {len(after)} of 100 chunks, which are committed: the same command goes on"
        " from there" in err
    )
    assert "Traceback" not in err

    process = at_work(
        processes,
        environment,
        [*COMMAND, "--chunk", "800", "--out", str(rude)],
        rude / "log-*",
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    assert "finishing this chunk" in process.stderr.readline()
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    # what compiles cannot be interrupted; finishing 800 images would take a minute and more
    assert time.monotonic() - asked < 15
    assert process.returncode == 130
    assert "stopped at once" in err
    assert "Traceback" not in err
    assert open_store(rude).committed() == set()


class Counting(NullProgress):
    """Counts the arrays on the devices while rows come in."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def advance(self, done: int, **measures: float) -> None:
        alive = jax.live_arrays()
        self.seen.append((len(alive), sum(array.nbytes for array in alive)))


@pytest.mark.parametrize("slots", [False, True])
def test_what_is_on_the_devices_does_not_grow(tmp_path, slots):
    progress = Counting()
    asked = mdm_jax.RunConfig(config=ASKED.config, chunk=4, slots=slots)
    mdm_jax.run(kinked_network, Drawn(48), tmp_path / "run", asked, progress=progress)
    counts, sizes = np.asarray(progress.seen).T
    assert len(counts) == 48
    assert counts[8:].max() <= counts[:8].max()
    assert sizes[8:].max() <= sizes[:8].max()
