r"""From the start of the process to a map: `mdm explain` of one photograph, first and again.

    python experiments/speed/cold_start.py --photo PHOTO --model vit_tiny_patch16_224 \
        --weights WEIGHTS                                                # 5 minutes
    python experiments/speed/cold_start.py --photo PHOTO --model resnet  # an embedded network

Each time with an empty cache of compiled programs, and then once more with what the first call
left there, as the command line keeps it by default. Wall and processor seconds of the process.

Results: `experiments/results/cold_start.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments.record_results import write
from mdm_jax.cli.compile_cache import FOLDER, LEAST_SECONDS, SIZE, SWITCH

CALLS = ("first", "again")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is explained, and how often."""

    photo: Path
    model: str = "vit_tiny_patch16_224"
    weights: str | None = None
    repeats: int = 3
    results: str = "cold_start"
    """name of the file in experiments/results that is written; none when empty"""


def explain(config: Config, folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of one call, whose programs are kept in the folder."""
    words = [
        "explain",
        str(config.photo),
        "--model",
        config.model,
        "--out",
        str(folder / "out"),
    ]
    if config.weights is not None:
        words += ["--weights", config.weights]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder)}
    for name in (FOLDER, LEAST_SECONDS, SIZE, SWITCH):
        environment.pop(name, None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "mdm_jax", *words],
        env=environment,
        check=True,
        capture_output=True,
    )
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return wall, used


def main(config: Config) -> None:
    seconds = np.zeros((config.repeats, len(CALLS), 2))
    for repeat in range(config.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for call in range(len(CALLS)):
                seconds[repeat, call] = explain(config, Path(folder))
                print(config.model, CALLS[call], seconds[repeat, call].round(1))
    medians = np.median(seconds, axis=0)
    values = []
    for column, quantity in enumerate(("wall seconds", "processor seconds")):
        rows = dict(zip(CALLS, medians[:, column]))
        rows["again / first"] = rows["again"] / rows["first"]
        values += [
            {"network": config.model, "call": call, "quantity": quantity, "value": value}
            for call, value in rows.items()
        ]
    for value in values:
        print(value)
    if config.results:
        write(config.results, values)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
