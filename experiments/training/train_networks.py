"""Trains several networks on one data set: what two experiments share."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.record_results import Value, write
from mdm_jax.cli.progress_bar import TrainingBar, stoppable
from mdm_jax.config_files import build
from mdm_jax.errors import InputError, unknown
from mdm_jax.progress import Stopped
from mdm_jax.training.config import TrainConfig
from mdm_jax.training.loop import train

Settings = dict[str, Any]

FINE_TUNED: Settings = {
    "epochs": 4,
    "model": {
        "architecture": "vit_tiny_patch16",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
    },
    "optimizer": {"learning_rate": 2e-4},
}
"""A Transformer learns little from a few hundred images; one that knows others does."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which networks are trained, on which images."""

    data: str
    """folder:PATH or tfds:NAME"""
    networks: tuple[str, ...] = ()
    """only these; all when not given"""
    full: bool = False
    """the networks at their published sizes, for a GPU; else smaller ones that 2 CPU cores train in
    minutes"""
    epochs: int | None = None
    """in place of each network's own"""
    start_from: str = ""
    """ImageNet weights of ViT-Ti/16 (a hub id, a folder or a file): adds the network `vit_tiny`,
    which starts from them"""
    seed: int = 0
    out: Path = Path("runs")
    """folder of the runs; the same command again goes on"""
    results: str = ""
    """name of the file in experiments/results that is written; none when empty"""


def train_all(
    config: Config, common: Settings, networks: Mapping[str, Settings], title: str
) -> int:
    """Train each network under `common` settings with its own on top, then print one row each.

    Returns the exit code: 0, 2 for input that cannot be used, 130 when stopped; a sentence says
    why."""
    try:
        table, recorded = _train_networks(config, common, networks, title)
        Console(width=100).print(table)
        if config.results:
            write(config.results, recorded)
    except (InputError, Stopped, KeyboardInterrupt) as error:
        print(
            f"error: {error}"
            if isinstance(error, InputError)
            else str(error) or "interrupted",
            file=sys.stderr,
        )
        return 2 if isinstance(error, InputError) else 130
    return 0


def _train_networks(
    config: Config, common: Settings, networks: Mapping[str, Settings], title: str
) -> tuple[Table, list[Value]]:
    recorded: list[Value] = []
    if config.start_from:
        networks = dict(networks) | {
            "vit_tiny": _merge(FINE_TUNED, {"model": {"start_from": config.start_from}})
        }
    chosen = config.networks or tuple(networks)
    for name in chosen:
        if name not in networks:
            raise unknown("network", name, networks)
    table = Table(title=title)
    for column in (
        "network",
        "parameters",
        "epochs",
        "accuracy",
        "best epoch's",
        "seconds",
    ):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name in chosen:
        settings = _merge(common, networks[name])
        settings |= {"seed": config.seed, "out": str(config.out / name)}
        settings["data"] = settings["data"] | {"source": config.data}
        if config.epochs is not None:
            settings["epochs"] = config.epochs
        start = time.perf_counter()
        with stoppable(TrainingBar()) as progress:
            trained = train(build(TrainConfig, settings), progress)
        accuracies = [each["eval_accuracy"] for each in trained.metrics]
        size = (trained.run.weights.stat().st_size / 4) / 1e6
        last, best = (
            (f"{accuracies[-1]:.3f}", f"{max(accuracies):.3f}")
            if accuracies
            else ("not known", "not known")
        )
        row = (f"{size:.2f} M", str(len(accuracies)), last, best)
        seconds = time.perf_counter() - start
        table.add_row(name, *row, f"{seconds:.0f}")
        quantities = {
            "million parameters": size,
            "epochs": len(accuracies),
            "accuracy": accuracies[-1] if accuracies else None,
            "seconds": seconds,
        }
        for quantity, value in quantities.items():
            recorded.append({"network": name, "quantity": quantity, "value": value})
    return table, recorded


def _merge(below: Settings, above: Settings) -> Settings:
    """Nested settings, the upper ones winning."""
    merged = dict(below)
    for key, value in above.items():
        merged[key] = (
            _merge(merged[key], value)
            if isinstance(value, dict) and isinstance(merged.get(key), dict)
            else value
        )
    return merged
