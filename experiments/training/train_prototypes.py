r"""ProtoPNet and XProtoNet on digits and on tiles: accuracy before the push, behind it, at the end.

    python experiments/training/train_prototypes.py           # digits, from the embedded ResNet
    python experiments/training/train_prototypes.py --embed   # and put them into the package
    python experiments/training/train_prototypes.py --data tiles --source folder:magnetic_tile \
        --start-from runs/vit_tiny

Trainings lie in runs/, and the same command goes on where it stopped. The tiles start from the
Transformer that `train_magnetic_tile.py --networks vit_tiny` makes. The settings are
experiments/configs/{digits,tiles}_*.toml.

Results: `experiments/results/train_prototypes_*.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

import mdm_jax.models
from experiments.record_results import Value, write
from mdm_jax.cli.progress_bar import TrainingBar, stoppable
from mdm_jax.config_files import load
from mdm_jax.errors import InputError
from mdm_jax.progress import Stopped
from mdm_jax.training.config import TrainConfig
from mdm_jax.training.loop import train

CONFIGS = Path(__file__).parents[1] / "configs"
EMBEDDED = Path(mdm_jax.models.__path__[0]) / "embedded"
NETWORKS = ("protopnet", "xprotonet")
FILES = ("config.json", "model.safetensors", "prototypes.json")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is trained."""

    data: Literal["digits", "tiles"] = "digits"
    source: str | None = None
    """of the tiles: where they lie, as `folder:PATH`"""
    start_from: str | None = None
    """of the tiles: the weights of their Transformer"""
    networks: tuple[str, ...] = NETWORKS
    out: Path = Path("runs")
    """folder of the runs; the same command again goes on"""
    embed: bool = False
    """put the digits' networks into the package"""
    results: str | None = None
    """name of the file in experiments/results that is written, by default with the data's; none
    when empty"""


def main(config: Config) -> int:
    table = Table(title=f"accuracy on the test split of {config.data}")
    for column in (
        "network",
        "prototypes",
        "last joint pass",
        "behind the push",
        "last layer",
        "seconds",
    ):
        table.add_column(column, justify="left" if column == "network" else "right")
    recorded: list[Value] = []
    try:
        for name in config.networks:
            measured = _train_network(config, name)
            for quantity, value in measured.items():
                recorded.append({"network": name, "quantity": quantity, "value": value})
            prototypes, *accuracies, seconds = measured.values()
            shown = (f"{accuracy:.3f}" for accuracy in accuracies)
            table.add_row(name, f"{prototypes:.0f}", *shown, f"{seconds:.0f}")
    except (InputError, Stopped, KeyboardInterrupt) as error:
        print(
            f"error: {error}"
            if isinstance(error, InputError)
            else str(error) or "interrupted",
            file=sys.stderr,
        )
        return 2 if isinstance(error, InputError) else 130
    Console(width=100).print(table)
    result = f"train_prototypes_{config.data}" if config.results is None else config.results
    if result:
        write(result, recorded)
    return 0


def _train_network(config: Config, name: str) -> dict[str, float]:
    """The figures of one network, trained now or before."""
    settings = CONFIGS / f"{config.data}_{name}.toml"
    given: dict[str, Any] = {"out": str(config.out / f"{config.data}_{name}")}
    given |= {"data.source": config.source, "model.start_from": config.start_from}
    with stoppable(TrainingBar()) as progress:
        trained = train(load(TrainConfig, settings, given), progress)
    if config.embed:
        target = EMBEDDED / f"{config.data}_{name}"
        target.mkdir(exist_ok=True)
        for file in FILES:
            shutil.copyfile(trained.run.folder / file, target / file)
    last = {line["stage"]: line for line in trained.metrics}
    pushed = json.loads((trained.run.folder / "prototypes.json").read_text())["pushed"]
    return {
        "prototypes": len(pushed),
        "accuracy, last joint pass": last["joint"]["eval_accuracy"],
        "accuracy behind the push": last["push"]["eval_accuracy"],
        "accuracy": last["last layer"]["eval_accuracy"],
        "seconds": trained.metrics[-1]["seconds"],
    }


if __name__ == "__main__":
    sys.exit(
        main(tyro.cli(Config, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
    )
