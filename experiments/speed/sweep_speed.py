"""A sweep of 64 numeric settings against 64 command-line runs of one setting each.

    python experiments/speed/sweep_speed.py                 # 4 of the 64 runs, scaled
    python experiments/speed/sweep_speed.py --runs 64       # every run, nothing scaled

Both are whole processes, from the start of Python to the last file: `mdm sweep` of a grid, and `mdm
benchmark` with one method of the same settings, images and metrics. The runs are spread over the
grid; half of them is timed before the sweep and half after it, because other work on a machine
comes and goes. A setting's values must be the same in both. The compiled programs are counted in
the sweep's own process by what JAX reports.

Results: `experiments/results/sweep_speed.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments.record_results import write
from mdm_jax.config import PRESETS
from mdm_jax.sweeps import export_preset, grid
from mdm_jax.sweeps.points import point

COUNTED = """
import collections, json, sys
import jax
from mdm_jax.cli.main import main
compiled = collections.Counter()
def listen(event, seconds, fun_name="", **_):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled[fun_name] += 1
jax.monitoring.register_event_duration_secs_listener(listen)
code = main(sys.argv[2:])
open(sys.argv[1], "w").write(json.dumps(compiled))
sys.exit(code)
"""


@dataclass(frozen=True)
class Config:
    """What is compared."""

    learning_rates: tuple[float, ...] = (0.1, 0.3, 0.5, 1.0)
    areas: tuple[float, ...] = (3.0, 10.0, 20.0, 30.0)
    variations: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0)
    images: int = 32
    runs: int = 4
    """separate runs that are timed; the time of all is theirs in proportion"""
    metrics: tuple[str, ...] = ("insertion", "deletion", "energy")
    results: str = "sweep_speed"
    """name of the file in experiments/results that is written; none when empty"""


def time_command(arguments: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a process."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return time.perf_counter() - start, sum(after[2:4]) - sum(before[2:4])


def benchmark_command(settings: dict[str, Any], config: Config, out: Path) -> list[str]:
    """One setting as a command line."""
    written = export_preset.to_settings(point(settings, PRESETS["fast"], "probability"))
    asked = {"learning_rate": written["learning_rate"], "objective": written["objective"]}
    method = "mdm:" + export_preset.to_toml(asked).strip().replace(" ", "").replace(
        "\n", ","
    )
    command = [
        sys.executable,
        "-m",
        "mdm_jax",
        "benchmark",
        "--data",
        "digits",
        "--grid",
        "0",
    ]
    command += ["--limit", str(config.images), "--methods", method]
    return [*command, "--metrics", *config.metrics, "--out", str(out)]


def read_benchmark(out: Path) -> dict[str, float]:
    with (out / "table.csv").open() as file:
        return {
            f"{row['metric']}:{row['protocol']}": float(row["value"])
            for row in csv.DictReader(file)
        }


def read_sweep(out: Path, place: int) -> dict[str, float]:
    with (out / "table.csv").open() as file:
        row = list(csv.DictReader(file))[place]
    return {
        name: float(value)
        for name, value in row.items()
        if f"{name}_low" in row and name != "quality"
    }


def main(config: Config) -> None:
    axes = {
        "learning_rate": list(config.learning_rates),
        "objective.area": list(config.areas),
        "objective.total_variation": list(config.variations),
    }
    points = grid(axes)
    chosen = np.linspace(0, len(points) - 1, config.runs).round().astype(int).tolist()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        asked = {
            "data": "digits",
            "limit": config.images,
            "metrics": list(config.metrics),
            "axes": axes,
        }
        (place / "sweep.toml").write_text(export_preset.to_toml(asked))
        half = len(chosen) // 2
        alone = [
            time_command(benchmark_command(points[i], config, place / f"run-{i}"))
            for i in chosen[:half]
        ]
        sweep = [
            sys.executable,
            "-c",
            COUNTED,
            str(place / "compiled.json"),
            "sweep",
            str(place / "sweep.toml"),
        ]
        together = time_command([*sweep, "--out", str(place / "sweep")])
        alone += [
            time_command(benchmark_command(points[i], config, place / f"run-{i}"))
            for i in chosen[half:]
        ]
        gaps = [
            abs(value - read_sweep(place / "sweep", i)[name])
            for i in chosen
            for name, value in read_benchmark(place / f"run-{i}").items()
        ]
        compiled = json.loads((place / "compiled.json").read_text())
    wall, processor = (float(np.mean(each)) * len(points) for each in zip(*alone))
    table = Table(
        title=f"{len(points)} settings, {config.images} digits; {len(alone)} runs timed"
    )
    for column in ("", "wall s", "processor s"):
        table.add_column(column, justify="right" if column else "left")
    rows = {f"run {number}": each for number, each in enumerate(alone, 1)}
    rows |= {f"{len(points)} runs, scaled": (wall, processor), "the sweep": together}
    for name, each in rows.items():
        table.add_row(name, *(f"{seconds:.1f}" for seconds in each))
    table.add_row(
        "ratio (goal 0.35)", f"{together[0] / wall:.3f}", f"{together[1] / processor:.3f}"
    )
    Console(width=100).print(table)
    if config.results:
        measured = {
            f"a run, mean of {len(alone)}": (wall / len(points), processor / len(points)),
            f"{len(points)} runs, scaled": (wall, processor),
            "the sweep": together,
            "ratio": (together[0] / wall, together[1] / processor),
        }
        recorded = [
            {"what": what, "quantity": quantity, "value": value}
            for what, pair in measured.items()
            for quantity, value in zip(("wall seconds", "processor seconds"), pair)
        ]
        write(config.results, recorded)
    large = {
        name: count
        for name, count in compiled.items()
        if name in ("jit(_explain_pairs)", "jit(_measure_chunk)")
    }
    print(f"largest difference of a value between the two: {max(gaps):.1e}")
    print(
        f"compiled by the sweep: {large} among {sum(compiled.values())} programs, most of a few"
        " operations"
    )


if __name__ == "__main__":
    main(tyro.cli(Config, config=(tyro.conf.FlagCreatePairsOff,)))
