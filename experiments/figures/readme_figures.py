"""The README's figures, and the energy inside the digit that it quotes.

    python experiments/figures/readme_figures.py                # a minute on 2 CPU cores

Explains the first 200 test digits with the default preset, writes docs/images/demo.png and
learning.gif, and prints the means.

Results: `experiments/results/readme_figures.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments.record_results import write
from mdm_jax.cli.console import Terminal
from mdm_jax.cli.demo import DemoCommand
from mdm_jax.config import PresetName


@dataclass(frozen=True)
class Config:
    """What is explained, and where the figures go."""

    count: int = 200
    preset: PresetName = "fast"
    seed: int = 0
    out: Path = Path(__file__).parents[2] / "docs" / "images"
    results: str = "readme_figures"
    """name of the file in experiments/results that is written; none when empty"""


def main(config: Config) -> None:
    demo = DemoCommand(
        preset=config.preset, limit=config.count, seed=config.seed, out=config.out
    )
    result = demo.run(Terminal(as_json=False))
    first = np.mean([row["energy"] for row in result.rows[:16]])
    print(f"first 16 digits: mean energy {first:.3f}")
    print(result.summary)
    if config.results:
        energies = [row["energy"] for row in result.rows]
        right = sum(row["prediction"] == row["label"] for row in result.rows)
        seconds = np.mean([row["seconds"] for row in result.rows])
        everything = {"images": len(energies)}
        recorded = [
            everything | {"quantity": "energy", "value": np.mean(energies)},
            everything | {"quantity": "right predictions", "value": right},
            everything | {"quantity": "seconds an image", "value": seconds},
        ]
        if len(energies) > 16:
            recorded.append({"images": 16, "quantity": "energy", "value": first})
        write(config.results, recorded)


if __name__ == "__main__":
    main(tyro.cli(Config))
