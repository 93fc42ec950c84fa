"""`mdm benchmark` with all methods and metrics: what the benchmark scripts share."""

from __future__ import annotations

import csv
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.record_results import Value, write
from mdm_jax.cli.benchmark import BenchmarkCommand
from mdm_jax.cli.console import Terminal
from mdm_jax.cli.logged_progress import LoggedProgress
from mdm_jax.cli.progress_bar import ProgressBar
from mdm_jax.errors import InputError
from mdm_jax.methods import METHODS

FAITHFULNESS = (
    *(
        "insertion:rise-28",
        "deletion:rise-28",
        "average_drop:gradcam++",
        "increase:gradcam++",
        "average_gain:gradcam++",
    ),
    *("adcc:poppi", "road:linear", "infidelity:captum"),
)
LOCALIZATION = (
    "energy:mask",
    "pointing:torchray-15",
    "pointing:exact",
    "maxboxacc:v2",
    "pxap:wsol",
)
SIMPLICITY = ("complexity:entropy", "sparseness:gini")


@dataclass(frozen=True, kw_only=True)
class Config(BenchmarkCommand):
    """As `mdm benchmark`; all methods, and all metrics but the costly ones."""

    methods: tuple[str, ...] = tuple(METHODS)
    """what is compared, with settings where they differ from the defaults"""
    metrics: tuple[str, ...] = (*FAITHFULNESS, *LOCALIZATION, *SIMPLICITY)
    """names or ids; sensitivity_n takes thousands of evaluations an image, max_sensitivity and
    spread run the method again"""
    results: str = ""
    """name of the file in experiments/results that is written; none when empty"""


class LoggedBar(ProgressBar):
    """A line for each finished task where standard error is a file: its name and its time."""

    line = ""
    """of the task that is under way"""

    def begin(self, task: str, total: int, done: int = 0) -> None:
        super().begin(task, total, done)
        self.line = f"{task}: {total}"
        self.start = time.perf_counter()

    def end(self) -> None:
        super().end()
        if self.line and not sys.stderr.isatty():
            seconds = time.perf_counter() - self.start
            print(f"{self.line} in {seconds:.1f} s", file=sys.stderr, flush=True)
        self.line = ""


@dataclass(frozen=True)
class Logged(Terminal):
    """Writes progress as lines where standard error is a file."""

    @property
    def progress(self) -> LoggedProgress:
        return self.watch(LoggedBar())


def main(config: Config) -> int:
    """Run a benchmark; returns the exit code: 0, 2 for input that cannot be used, 130 when
    interrupted."""
    try:
        terminal = Logged(config.json)
        terminal.show(config.run(terminal), config)
        if config.results:
            write(config.results, read_table(config.out / "table.csv"))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr)
        return 130
    return 0


def read_table(path: Path) -> list[Value]:
    """The values of a benchmark's `table.csv`: the metrics of each method, then its costs."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    methods = dict.fromkeys((row["model"], row["method"]) for row in rows)
    values: list[Value] = []
    for network, method in methods:
        name = {"network": network, "method": method}
        own = [row for row in rows if (row["model"], row["method"]) == (network, method)]
        for row in own:
            if not row["value"]:  # not applicable
                continue
            id = f"{row['metric']}:{row['protocol']}"
            # such as one of several fills
            metric = {"metric": f"{id}/{row['part']}" if row["part"] else id}
            numbers = {key: float(row[key]) for key in ("value", "low", "high") if row[key]}
            images = {"images": int(row["counted"]), "verdict": row["verdict"]}
            values.append(name | metric | images | numbers)
        for cost in ("evaluations", "forwards", "seconds"):
            if own[0][cost]:
                values.append(name | {"metric": cost, "value": float(own[0][cost])})
    return values


def parse(kind: type[Config], description: str | None) -> Config:
    return tyro.cli(kind, description=description, config=(tyro.conf.FlagCreatePairsOff,))
