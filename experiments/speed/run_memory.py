"""Does the memory of a run grow with the data? The peak of 4000 images against 400.

    python experiments/speed/run_memory.py      # the embedded network, 2 steps: 2 minutes
    python experiments/speed/run_memory.py --slots --micro-batch 4 --results run_memory_slots

Every number of images is a run in a process of its own, whose peak is that of resident memory as
the kernel keeps it (VmHWM of /proc/self/status). At the end of every chunk the arrays that JAX
keeps alive are counted, with their bytes; shown are the most of the first 3 chunks and of all later
ones.

Results: `experiments/results/run_memory*.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from experiments.record_results import write


@dataclass(frozen=True)
class Config:
    """What is measured."""

    counts: tuple[int, ...] = (400, 4000)
    """numbers of images, the fewest first"""
    steps: int = 2
    chunk: int = 32
    micro_batch: int = 1
    slots: bool = False
    results: str = "run_memory"
    """name of the file in experiments/results that is written; none when empty"""


def measure_run(config: Config, count: int) -> dict[str, Any]:
    """Do one run in this process; its peak memory and what was alive on the device at the ends of
    chunks."""
    import jax

    import mdm_jax
    from mdm_jax.progress import NullProgress

    alive: list[tuple[int, int]] = []

    class CountArrays(NullProgress):
        rows = 0

        def advance(self, done: int, **measures: float) -> None:
            self.rows += 1
            if self.rows % config.chunk == 0:
                arrays = jax.live_arrays()
                alive.append((len(arrays), sum(array.nbytes for array in arrays)))

    asked = mdm_jax.RunConfig(
        config=mdm_jax.MDMConfig(steps=config.steps),
        limit=count,
        chunk=config.chunk,
        micro_batch=config.micro_batch,
        slots=config.slots,
    )
    with tempfile.TemporaryDirectory() as folder:
        ended = mdm_jax.run(
            mdm_jax.load_model(), "digits", f"{folder}/run", asked, progress=CountArrays()
        )
    return {
        "peak": peak(),
        "alive": alive,
        "seconds": ended.timing.total,
        "statuses": dict(ended.statuses),
    }


def peak() -> int:
    """The most resident memory that this process has had, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def main(config: Config) -> None:
    table = Table(box=None)
    for column in (
        "images",
        "peak, MB",
        "against the fewest",
        "arrays alive: first, later",
        "kB alive: first, later",
        "seconds",
    ):
        table.add_column(column, justify="right")
    fewest, recorded = 0, []
    for count in sorted(config.counts):
        text = json.dumps({"config": asdict(config), "count": count})
        done = subprocess.run(
            [sys.executable, __file__, "--measured"],
            input=text,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        fewest = fewest or found["peak"]
        arrays, sizes = (
            [max(column[:3]), max(column[3:])] for column in zip(*found["alive"])
        )
        table.add_row(
            str(count),
            f"{found['peak'] / 1e6:.1f}",
            f"{found['peak'] / fewest:.3f}",
            ", ".join(map(str, arrays)),
            ", ".join(f"{size / 1e3:.1f}" for size in sizes),
            f"{found['seconds']:.0f}",
        )
        quantities = {
            "peak, MB": found["peak"] / 1e6,
            "peak against the fewest": found["peak"] / fewest,
            "arrays alive, first chunks": arrays[0],
            "arrays alive, later chunks": arrays[1],
            "kB alive, first chunks": sizes[0] / 1e3,
            "kB alive, later chunks": sizes[1] / 1e3,
        }
        for quantity, value in quantities.items():
            recorded.append({"images": count, "quantity": quantity, "value": value})
    Console(width=120).print(table)
    if config.results:
        write(config.results, recorded)


if __name__ == "__main__":
    if sys.argv[1:] == ["--measured"]:
        asked = json.load(sys.stdin)
        print(json.dumps(measure_run(Config(**asked["config"]), asked["count"])))
    else:
        main(tyro.cli(Config, config=(tyro.conf.FlagCreatePairsOff,)))
