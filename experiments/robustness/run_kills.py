r"""Twenty SIGKILLs at random moments, each followed by the same command: what is lost?

    python experiments/robustness/run_kills.py              # one process: 5 minutes
    python experiments/robustness/run_kills.py --processes 2 --seed 1 \
        --results run_kills_2_processes                     # two shares at once: 7 minutes

Starts `mdm run` on digits, kills a process at a random moment (one kill in four in the seconds in
which it starts, the others while it computes), starts the same command again, and so on; where a
run ends before, the next one begins in another folder. At the end every store is compared with that
of an undisturbed run, file by file and byte by byte (but for log and locks), what `mdm run verify`
asks finds gaps, duplicates and damage, and the records' rows are counted. The processes write down,
a byte each, what they hand to the device and what they take from it, so that what a kill loses is
counted, not inferred: "computed" are rows that came back and are not committed, "on the device"
those handed over and not come back.

A chunk is written while the next one is computed, so where writing is slower than computing up to
two chunks can be lost (8 rows of chunks of 4 in a trial with half a second added to every write).
On a local disk writing takes less than a row.

Results: `experiments/results/run_kills*.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments.record_results import write
from mdm_jax.cli.run import INCOMPLETE

HANDED, BACK = b"h", b"b"
EARLY = 0.25
"""share of the kills that fall into the start of a process"""
STORES = re.compile(r"(?!log-|locks/).*")
"""files that are compared"""


@dataclass(frozen=True)
class Config:
    """What is killed, and how often."""

    kills: int = 20
    processes: int = 1
    """shares of the run, each done by a process of its own"""
    limit: int = 300
    """images"""
    chunk: int = 8
    seed: int = 0
    results: str = "run_kills"
    """name of the file in experiments/results that is written; none when empty"""


@dataclass(frozen=True)
class Runs:
    """Where runs are, and how they are started."""

    config: Config
    place: Path

    def start(self, name: str, share: int, limit: int | None = None) -> Process:
        """The command, for one share."""
        counts = self.place / f"{name}-{share}-{time.monotonic_ns()}"
        counts.touch()
        command = ["run", "--data", "digits", "--limit", str(limit or self.config.limit)]
        command += ["--chunk", str(self.config.chunk), "--out", str(self.place / name)]
        if self.config.processes > 1:
            command += ["--shard", f"{share}/{self.config.processes}"]
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(self.place / "compiled")
        }
        before = self.committed(name, share)
        with (self.place / "output.txt").open("a") as output:
            popen = subprocess.Popen(
                [sys.executable, __file__, "--counted", str(counts), *command],
                env=environment,
                stdout=output,
                stderr=output,
            )
        return Process(popen, counts, before)

    def committed(self, name: str, share: int) -> int:
        """Rows of a share whose record file is in place."""
        chunks = [
            int(path.stem)
            for path in (self.place / name / "records").glob("[0-9]*.parquet")
        ]
        mine = [chunk for chunk in chunks if chunk % self.config.processes == share]
        return sum(
            min(self.config.chunk, self.config.limit - chunk * self.config.chunk)
            for chunk in mine
        )

    def files(self, name: str) -> dict[str, bytes]:
        """The files of a store, but for log and locks."""
        paths = {
            str(path.relative_to(self.place / name)): path
            for path in (self.place / name).rglob("*")
            if path.is_file()
        }
        return {
            key: path.read_bytes() for key, path in paths.items() if STORES.fullmatch(key)
        }


@dataclass(frozen=True)
class Process:
    """A process that does a share of a run."""

    popen: subprocess.Popen[bytes]
    counts: Path
    before: int
    """rows of its share that were committed when it began"""

    def read_counts(self) -> tuple[int, int]:
        """Rows that it has handed to the device, and those that have come back."""
        bytes_ = self.counts.read_bytes()
        return bytes_.count(HANDED), bytes_.count(BACK)

    def ended(self) -> bool:
        """Whether it has done its share. Stops everything if it ended otherwise."""
        code = self.popen.poll()
        if code and code != INCOMPLETE:
            raise SystemExit(
                f"mdm run ended with code {code}:"
                f" {(self.counts.parent / 'output.txt').read_text()[-2000:]}"
            )
        return code == 0

    def lives_until(self, due: Callable[[], bool]) -> bool:
        """Wait until something is due, or for the end of the process if it is earlier."""
        while not self.ended() and not due():
            time.sleep(0.002)
        return not self.ended()

    def lives_for(self, seconds: float) -> bool:
        """Wait so long, or for the end of the process if it is earlier."""
        moment = time.monotonic() + seconds
        return self.lives_until(lambda: time.monotonic() >= moment)

    def computes(self) -> bool:
        """Whether it has begun to compute."""
        return self.read_counts()[0] > 0


def run_counted(place: str, arguments: list[str]) -> int:
    """`mdm` with these arguments; a byte is written for each row that goes to the device or comes
    back."""
    from mdm_jax.cli.main import main
    from mdm_jax.cli.progress_bar import RunBar
    from mdm_jax.runs import compiled

    file = os.open(place, os.O_WRONLY | os.O_APPEND)
    hand, take = compiled.DeviceProgram.__call__, RunBar.advance

    def handed(
        self: compiled.DeviceProgram, requests: compiled.ExplainRequest
    ) -> compiled.ExplainResult:
        os.write(file, HANDED * len(requests.target))
        return hand(self, requests)

    def back(self: RunBar, done: int, **measures: float) -> None:
        os.write(file, BACK)  # rows come back one by one
        take(self, done, **measures)

    compiled.DeviceProgram.__call__, RunBar.advance = handed, back  # type: ignore[method-assign]
    return main(arguments)


class Kill(NamedTuple):
    """A process that was killed."""

    run: str
    share: int
    seconds: float
    """after it was started"""
    before: int
    """rows of its share that were committed when it began"""
    committed: int
    """rows that it committed"""
    computed: int
    """rows that had come back and were not committed"""
    device: int
    """rows that were on the device"""


def run_undisturbed(runs: Runs) -> tuple[float, float]:
    """Do a run without kills; seconds until its first row and from then on, with everything
    compiled before."""
    for name, limit in (("warm", runs.config.processes), ("whole", None)):
        start, first = time.monotonic(), 0.0
        processes = [
            runs.start(name, share, limit) for share in range(runs.config.processes)
        ]
        while not all(process.ended() for process in processes):
            if not first and any(process.read_counts()[1] for process in processes):
                first = time.monotonic() - start
            time.sleep(0.02)
    return first, time.monotonic() - start - first


class Moments(NamedTuple):
    """When processes are killed."""

    rng: np.random.Generator
    starting: float
    """seconds in which a process starts"""
    computing: float
    """seconds of computing among which the moment is drawn"""

    def comes(self, process: Process) -> bool:
        """Wait for a moment; whether the process still lives then."""
        if self.rng.uniform() < EARLY:
            return process.lives_for(self.rng.uniform(0, self.starting))
        seconds = self.rng.uniform(0, self.computing)
        return process.lives_until(process.computes) and process.lives_for(seconds)


def run_with_kills(runs: Runs, name: str, moments: Moments, most: int) -> list[Kill]:
    """A run from beginning to end, with at most so many kills."""
    running = {
        share: (time.monotonic(), runs.start(name, share))
        for share in range(runs.config.processes)
    }
    kills: list[Kill] = []
    while running:
        share = sorted(running)[
            len(kills) % len(running)
        ]  # in turn, so that none ends early
        born, process = running[share]
        if len(kills) < most and moments.comes(process):
            process.popen.send_signal(signal.SIGKILL)
            process.popen.wait()
            committed, (handed, back) = (
                runs.committed(name, share) - process.before,
                process.read_counts(),
            )
            lost = back - committed, handed - back
            kills.append(
                Kill(name, share, time.monotonic() - born, process.before, committed, *lost)
            )
            running[share] = time.monotonic(), runs.start(name, share)
        else:
            process.popen.wait()
            if process.ended():
                del running[share]
    return kills


def main(config: Config) -> None:
    rng, kills = np.random.default_rng(config.seed), list[Kill]()
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(config, Path(folder))
        starting, computing = run_undisturbed(runs)
        print(f"undisturbed: {starting:.1f} s to start, {computing:.1f} s to compute")
        moments = Moments(
            rng, starting, 1.5 * computing / (1 - EARLY) / config.kills
        )  # three quarters of a run, all together
        names = (f"run{number}" for number in itertools.count())
        comparisons = []
        while len(kills) < config.kills:
            name = next(names)
            kills += run_with_kills(runs, name, moments, config.kills - len(kills))
            comparisons.append(compare(runs, name))
            print(comparisons[-1])
    table = Table(box=None, title="rows at each kill, after seconds")
    for column in (
        "kill",
        "run",
        "share",
        "after",
        "there before",
        "committed",
        "lost, computed",
        "lost, on the device",
    ):
        table.add_column(column, justify="right")
    for i, kill in enumerate(kills):
        table.add_row(
            str(i + 1),
            *(f"{value:.1f}" if isinstance(value, float) else str(value) for value in kill),
        )
    Console(width=120).print(table)
    early = sum(kill.committed + kill.computed + kill.device == 0 for kill in kills)
    computed, device = (max(column) for column in list(zip(*kills))[-2:])
    print(
        f"{len(kills)} kills, {early} of them before anything was computed; lost at most {computed}"
        f" rows computed (a chunk is {config.chunk}) and {device} on the device"
    )
    if config.results:
        quantities = {
            "kills": len(kills),
            "before anything was computed": early,
            "files equal byte by byte": min(each.same for each in comparisons),
            "files compared": comparisons[0].files,
            "files that an undisturbed run has not": max(
                each.others for each in comparisons
            ),
            "runs with every row once": sum(each.complete for each in comparisons),
            "faults found by verify": sum(each.faults for each in comparisons),
            "lost at most, computed": computed,
            "lost at most, on the device": device,
        }
        write(config.results, [{"quantity": q, "value": v} for q, v in quantities.items()])


class Comparison(NamedTuple):
    """A run beside the undisturbed one."""

    name: str
    same: int
    """files equal byte by byte"""
    files: int
    """files of the undisturbed run"""
    others: int
    """files that only this run has"""
    complete: bool
    """every row is there, each once"""
    faults: int
    """found by `mdm run verify`"""

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.same} of {self.files} files equal byte by byte,"
            f" {self.others} others; rows {'' if self.complete else 'NOT '}complete, each once;"
            f" {self.faults} faults found by verify"
        )


def compare(runs: Runs, name: str) -> Comparison:
    """A run compared with the undisturbed one."""
    import mdm_jax
    from mdm_jax.runs.store import open_store
    from mdm_jax.runs.verify import check

    whole, files = runs.files("whole"), runs.files(name)
    same = sum(files.get(key) == content for key, content in whole.items())
    rows = mdm_jax.open_run(runs.place / name).records["row"].to_pylist()
    return Comparison(
        name,
        same,
        len(whole),
        len(files.keys() - whole.keys()),
        rows == list(range(runs.config.limit)),
        len(check(open_store(runs.place / name))),
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--counted"]:
        sys.exit(run_counted(sys.argv[2], sys.argv[3:]))
    main(tyro.cli(Config))
