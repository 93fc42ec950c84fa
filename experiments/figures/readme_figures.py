"""The README's figures, and the energy inside the digit that it quotes.

    python experiments/figures/readme_figures.py                # some minutes on 2 CPU cores

Explains the first 200 test digits with the default preset, writes docs/images/demo.png and
learning.gif, then does what `mdm demo` does with each embedded network, and prints the means.

Results: `experiments/results/readme_figures.json`, shown in the README.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.record_results import Value, write
from mdm_jax.cli.console import Terminal
from mdm_jax.cli.demo import DemoCommand, DigitNetwork
from mdm_jax.config import PresetName
from mdm_jax.data import Digits

PICTURES = ("demo.png", "learning.gif")

NETWORKS: tuple[DigitNetwork, ...] = ("resnet", "densenet", "vit")


@dataclass(frozen=True)
class Config:
    """What is explained, and where the figures go."""

    count: int = 200
    preset: PresetName = "fast"
    seed: int = 0
    out: Path = Path(__file__).parents[2] / "docs" / "images"
    results: str = "readme_figures"
    """name of the file in experiments/results that is written; none when empty"""


def run_demo(
    config: Config, network: DigitNetwork, count: int, out: Path
) -> list[dict[str, Any]]:
    """The rows of `mdm demo`, one for each digit."""
    demo = DemoCommand(
        model=network, preset=config.preset, limit=count, seed=config.seed, out=out
    )
    result = demo.run(Terminal(as_json=False))
    print(f"{network}: {result.summary}")
    return result.rows


def main(config: Config) -> None:
    usual = DemoCommand().limit
    recorded: list[Value] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rows = run_demo(config, "resnet", config.count, place)
        for picture in PICTURES:
            shutil.copy(place / picture, config.out / picture)
        everything = {"network": "resnet", "images": len(rows)}
        right = sum(row["prediction"] == row["label"] for row in rows)
        seconds = float(np.mean([row["seconds"] for row in rows]))
        quantities = {
            "energy": float(np.mean([row["energy"] for row in rows])),
            "energy by chance": chance(len(rows)),
            "right predictions": right,
            "seconds an image": seconds,
        }
        recorded += [
            everything | {"quantity": q, "value": v} for q, v in quantities.items()
        ]
        for network in NETWORKS:
            demo_rows = run_demo(config, network, usual, place / network)
            of_demo = {"network": network, "images": usual, "part": "demo"}
            energy = float(np.mean([row["energy"] for row in demo_rows]))
            evaluations = demo_rows[0]["evaluations"]
            recorded.append(of_demo | {"quantity": "energy", "value": energy})
            recorded.append(of_demo | {"quantity": "evaluations", "value": evaluations})
    recorded.append(
        {"images": usual, "part": "demo", "quantity": "energy by chance"}
        | {"value": chance(usual)}
    )
    if config.results:
        write(config.results, recorded)


def chance(count: int) -> float:
    """The energy of a map that is the same everywhere: the mean area of the digits."""
    source = Digits("test")
    return float(np.mean([np.mean(np.asarray(source[i].mask)) for i in range(count)]))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
