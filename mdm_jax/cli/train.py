"""`mdm train`: train the network that a TOML file describes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from mdm_jax.cli.console import Result, Terminal
from mdm_jax.cli.options import Options, positional, recorded_data
from mdm_jax.cli.progress_bar import TrainingBar, stoppable
from mdm_jax.config_files import load
from mdm_jax.errors import InputError
from mdm_jax.progress import Stopped
from mdm_jax.training.config import TrainConfig
from mdm_jax.training.loop import TrainingResult, train


@dataclass(frozen=True, kw_only=True)
class TrainCommand(Options):
    """Train a classifier or a prototype network as a TOML file describes.

    The same command again goes on where it stopped. OUT holds the weights, checkpoints, a line of
    metrics for each epoch, and train.json with every setting.

    Examples:
      mdm train digits.toml
      mdm train digits.toml --out runs/seed1 --seed 1
      mdm train photos.toml --data folder:photos --epochs 30
    """

    READS_CONFIG: ClassVar[bool] = True

    file: Annotated[tyro.conf.Positional[Path | None], positional("FILE")] = None
    """TOML file with the settings of TrainConfig; --config does the same"""
    out: Path | None = None
    """folder of the training, in place of the file's out"""
    data: Annotated[str | None, recorded_data("that of the file when not given")] = None
    epochs: int | None = None
    """passes over the images, in place of the file's"""
    seed: int | None = None
    """seed of everything random, in place of the file's"""
    tensorboard: bool = False
    """write the metrics for TensorBoard too, into OUT/tensorboard (needs mdm_jax[tensorboard])"""

    def run(self, terminal: Terminal) -> Result:
        """Train, watched on standard error; a row for each epoch."""
        config = self.train_config()
        with stoppable(terminal.watch(TrainingBar())) as progress:
            try:
                trained = train(config, progress)
            except Stopped as stopped:
                raise KeyboardInterrupt(str(stopped)) from None
        run = trained.run
        files = [str(path) for path in (run.weights, run.network, run.metrics)]
        notes = [f"skipped: {sentence}" for sentence in trained.skipped]
        return Result(trained.metrics, _summary(trained, config), files, notes=notes)

    def train_config(self) -> TrainConfig:
        """The file's settings, with options in their place."""
        file = self.file or self.config
        if file is None:
            raise InputError(
                "no settings: give a TOML file, for example mdm train digits.toml"
            )
        # By the names of the file's settings; None leaves what the file says.
        options = {
            "out": None if self.out is None else str(self.out),
            "epochs": self.epochs,
            "seed": self.seed,
            "data.source": self.data,
            "tensorboard": True if self.tensorboard else None,
        }
        return load(TrainConfig, file, options)


def _summary(trained: TrainingResult, config: TrainConfig) -> str:
    accuracy = "not known"
    if trained.metrics:
        accuracy = f"{trained.metrics[-1]['eval_accuracy']:.3f}"
    summary = f"{config.data.evaluate} accuracy {accuracy} after {config.epochs} epochs"
    if trained.was_done:
        summary = f"this training had ended already, nothing was done: {summary}"
    return summary
