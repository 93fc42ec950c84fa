r"""SIGKILLs at random moments over six commands, each followed by the same command: the same bytes?

    python experiments/robustness/command_kills.py                      # 60 kills: 40 minutes
    python experiments/robustness/command_kills.py --only run sweep --kills 2 --results ""

The commands are run, train, benchmark, sweep, prototypes and report, on digits and in small. Each
runs twice undisturbed, which tells how long it takes and which of its files are the same every
time; files that hold measured seconds are not, and are named. Then, for every kill, it begins in a
new folder, is killed at a moment drawn from its duration, and is given again until it ends. A kill
is survived if all those files are there, byte by byte as undisturbed, and no others but for logs,
locks and checkpoints. `run_kills.py` counts besides what a kill of `mdm run` loses.

Results: `experiments/results/command_kills.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.record_results import write

TRAINING = """
epochs = 3
checkpoint_every = 2
[data]
train_items = 64
evaluate_items = 32
batch = 16
[model]
architecture = "resnet"
size = [32, 32]
arguments = { widths = [4, 8], depths = [1, 1] }
"""
SWEEP = """
limit = 4
metrics = ["energy"]
[axes]
steps = [2, 3]
sizes = [[4], [8]]
"""
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", "--data", "digits", "--limit", "48", "--chunk", "8"),
    "train": ("train", "{place}/training.toml"),
    "benchmark": (
        *("benchmark", "--limit", "12", "--methods", "gradient", "grad_cam", "center"),
        *("--metrics", "energy", "insertion:rise-28"),
    ),
    "sweep": ("sweep", "{place}/sweep.toml"),
    "prototypes": (
        *("prototypes", "protopnet", "--images", "2", "--nearest", "1", "--limit", "60"),
        *("--regions", "activation_map"),
    ),
    "report": ("report", "{place}/explained"),
}
"""words after `mdm`; `--out` is added"""
VOLATILE = re.compile(r"(.*/)?(log-[^/]*|locks/.*|\.lock)|checkpoints/.*")
"""logs and locks: what says who worked when; and checkpoints, whose files orbax names at random"""
AGAIN = 5
"""times that a command is given at most after a kill"""


@dataclass(frozen=True)
class Config:
    """What is killed, and how often."""

    kills: int = 10
    """of each command"""
    only: tuple[str, ...] = tuple(COMMANDS)
    seed: int = 0
    results: str = "command_kills"
    """name of the file in experiments/results that is written; none when empty"""


@dataclass(frozen=True)
class Command:
    """One command. Its results always lie in the same folder: some files hold its name."""

    name: str
    place: Path
    """where all commands find what they read, and put what they write"""

    @property
    def out(self) -> Path:
        return self.place / f"out-{self.name}"

    def start(self) -> subprocess.Popen[bytes]:
        words = [word.format(place=self.place) for word in COMMANDS[self.name]]
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(self.place / "compiled")
        }
        with (self.place / "output.txt").open("a") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "mdm_jax", *words, "--out", str(self.out)],
                env=environment,
                stdout=output,
                stderr=output,
            )

    def finish(self) -> None:
        """Give the command until it ends well."""
        for _ in range(AGAIN):
            if self.start().wait() == 0:
                return
        said = (self.place / "output.txt").read_text()[-2000:]
        raise SystemExit(f"mdm {self.name} does not end well: {said}")


def files_of(folder: Path) -> dict[str, bytes]:
    """What a command wrote, but for logs and locks."""
    paths = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return {
        name: path.read_bytes()
        for name, path in paths.items()
        if not VOLATILE.fullmatch(name)
    }


def undisturbed(command: Command) -> tuple[float, dict[str, bytes], set[str]]:
    """Seconds, the files that are the same every time, and the names of the others."""
    found = []
    for _ in range(3):  # the first time compiles
        shutil.rmtree(command.out, ignore_errors=True)
        start = time.monotonic()
        command.finish()
        seconds = time.monotonic() - start
        found.append(files_of(command.out))
    before, after = found[1:]
    if before.keys() != after.keys():
        odd = ", ".join(sorted(before.keys() ^ after.keys()))
        raise SystemExit(f"mdm {command.name} wrote other files the second time: {odd}")
    same = {name: content for name, content in before.items() if after[name] == content}
    return seconds, same, before.keys() - same.keys()


def kill_once(command: Command, seconds: float) -> bool:
    """Begin anew, kill after so long, and finish; whether it was killed before its end."""
    shutil.rmtree(command.out, ignore_errors=True)
    process = command.start()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        command.finish()
        return True
    return False


def campaign(command: Command, config: Config) -> Iterator[dict[str, Any]]:
    """The values of one command."""
    seconds, same, others = undisturbed(command)
    print(
        f"{command.name}: {seconds:.1f} s, {len(same)} files; with seconds: {sorted(others)}"
    )
    rng = np.random.default_rng([config.seed, *command.name.encode()])
    kills = equal = 0
    while kills < config.kills:
        moment = rng.uniform(0, seconds)
        if not kill_once(command, moment):
            continue
        kills += 1
        found = files_of(command.out)
        wrong = differences(same, others, found)
        equal += not wrong
        print(f"{command.name}: killed after {moment:.1f} s, {wrong or 'all the same'}")
    what = {"command": command.name}
    for quantity, value in {
        "kills": kills,
        "byte-equal": equal,
        "files compared": len(same),
        "files with measured seconds": len(others),
        "seconds undisturbed": seconds,
    }.items():
        yield {**what, "quantity": quantity, "value": value}


def differences(
    same: Mapping[str, bytes], others: set[str], found: Mapping[str, bytes]
) -> list[str]:
    """Files that are not as undisturbed."""
    wrong = [name for name, content in same.items() if found.get(name) != content]
    wrong += sorted(others - found.keys())
    return wrong + sorted(found.keys() - same.keys() - others)


def prepare(place: Path, names: Sequence[str]) -> None:
    """Write what the commands read."""
    (place / "training.toml").write_text(TRAINING)
    (place / "sweep.toml").write_text(SWEEP)
    if "report" in names:
        words = [
            "run",
            "--data",
            "digits",
            "--limit",
            "24",
            "--out",
            str(place / "explained"),
        ]
        subprocess.run([sys.executable, "-m", "mdm_jax", *words], check=True)


def main(config: Config) -> None:
    values: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), config.only)
        for name in config.only:
            values += campaign(Command(name, Path(folder)), config)
    for quantity in ("kills", "byte-equal"):
        print(quantity, sum(v["value"] for v in values if v["quantity"] == quantity))
    if config.results:
        write(config.results, values)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
