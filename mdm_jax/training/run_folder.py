"""The folder of a training: what is written there, and when a training may be resumed.

- train.json: the settings, written first; a run goes on with these only
- config.json: the network, its classes and its preprocessing, as timm writes it
- checkpoints/<step>/: the last two, by Orbax
- metrics.jsonl: one line an epoch
- tensorboard/: the same for TensorBoard, where it is asked for
- prototypes.json: of a prototype network, what each prototype became in the last push
- model.safetensors: the weights, written last; it is there when the training has ended
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax import nnx

from mdm_jax.data.source import Source, checksum
from mdm_jax.errors import InputError
from mdm_jax.models import weights
from mdm_jax.storage import checkpoints, claims
from mdm_jax.storage.atomic import write_whole
from mdm_jax.storage.differences import flat
from mdm_jax.storage.stored_format import FORMAT
from mdm_jax.storage.workspace import (
    changed_settings,
    open_workspace,
    read_settings,
    write_settings,
)
from mdm_jax.text_files import parse_json
from mdm_jax.training.config import FREE, TrainConfig
from mdm_jax.training.tensorboard import FILES

# What a line of metrics.jsonl has, all numbers; a stage of a prototype network that learns nothing
# has no loss in training.
METRIC_KEYS = (
    *(
        "epoch",
        "step",
        "train_loss",
        "train_accuracy",
        "eval_loss",
        "eval_accuracy",
    ),
    *("learning_rate", "images_per_second", "seconds", "skipped"),
)

SETTINGS = "train.json"
TRAINING = claims.Kind(
    "training",
    (
        *(SETTINGS, "config.json", "metrics.jsonl", "prototypes.json"),
        *("model.safetensors", "checkpoints/*", FILES, ".lock"),
    ),
    lambda folder: claims.has_settings(
        folder / SETTINGS, ("epochs", "data", "model", "optimizer", "augment")
    ),
)


@dataclass(frozen=True)
class TrainingFolder:
    """The paths of a run."""

    folder: Path

    @property
    def checkpoints(self) -> Path:
        """The last two checkpoints, by step."""
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> Path:
        """A line of numbers for each pass."""
        return self.folder / "metrics.jsonl"

    @property
    def network(self) -> Path:
        """The network, its classes and its preprocessing."""
        return self.folder / "config.json"

    @property
    def weights(self) -> Path:
        """The weights; there once the training has ended."""
        return self.folder / "model.safetensors"

    @property
    def settings(self) -> Path:
        """The settings that the training began with."""
        return self.folder / SETTINGS


@contextmanager
def open_training_folder(folder: Path) -> Iterator[TrainingFolder]:
    """The run in a folder, which is made, for this process alone.

    Raises InputError for a folder that cannot be written or that another process trains in."""
    with open_workspace(folder, TRAINING):
        yield TrainingFolder(folder)


def begin_training(
    run: TrainingFolder, config: TrainConfig, source: Source, held_out: Source
) -> None:
    """Write down the training, or see that the one that was begun here is the same.

    Raises InputError with every difference, and for a folder that holds a network that was not
    trained there."""
    data = {
        "items": len(source),
        "class_names": source.class_names,
        "checksum": checksum(source, held_out),
    }
    record = json.loads(json.dumps(asdict(config) | data))
    written = run.settings.exists()
    begun = run.weights.exists() or bool(checkpoints.steps(run.checkpoints))
    if written and begun:
        _check_same(run, record, set(data))
    elif not written and (
        run.network.exists() or run.weights.exists() or run.checkpoints.exists()
    ):
        raise InputError(
            f"{run.folder} holds a network that mdm train did not begin, or whose train.json is"
            " gone: choose another folder",
            setting="out",
        )
    else:  # new, or ended before its first checkpoint, so that nothing is lost
        write_settings(run.settings, {"format": FORMAT} | record)
    # the config of a pruned network tells the prototypes that are left: it stays
    may_be_pruned = config.has_prototypes and begun and run.network.exists()
    if not may_be_pruned:
        write_network_config(run, config, source, config.model.arguments)


def write_network_config(
    run: TrainingFolder,
    config: TrainConfig,
    source: Source,
    arguments: dict[str, Any],
) -> None:
    """Write config.json, which tells the network that `arguments` build."""
    model = config.model
    described = {
        "architecture": model.architecture,
        "num_classes": len(source.class_names),
        "model_args": arguments,
        "label_names": source.class_names,
        "pretrained_cfg": {
            "input_size": [model.channels, *model.size],
            "interpolation": model.interpolation,
            "crop_pct": model.crop,
            "crop_mode": model.crop_mode,
            "mean": model.mean,
            "std": model.std,
        },
    }
    text = json.dumps(described, indent=2) + "\n"
    write_whole(run.network, lambda file: file.write(text.encode()))


def _check_same(run: TrainingFolder, record: dict[str, Any], of_data: set[str]) -> None:
    """Raise InputError when train.json differs from `record`; keys `of_data` tell the data."""
    before = dict(flat(read_settings(run.settings, "choose another folder")))
    now = dict(flat(record))
    # Older trainings knew fewer settings, and wrote no checksum of the data.
    defaults = dict(flat(json.loads(json.dumps(asdict(TrainConfig())))))
    defaults["checksum"] = record["checksum"]
    if changed := changed_settings(before, now, defaults, free={*FREE, *of_data}):
        raise InputError(
            f"{run.folder} holds a training with other settings ({', '.join(changed)}): choose"
            " another folder, or go back to the old settings to go on",
            setting="out",
        )
    if changed_settings(before, now, defaults, free=FREE):
        raise InputError(
            f"the images or labels of {record['data']['source']} have changed since the training in"
            f" {run.folder} began: choose another folder, or bring the old ones back to"
            " go on",
            setting="out",
        )


def read_metrics(run: TrainingFolder, until: int | None = None) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl up to a step; what a crash or a person damaged is left out."""
    lines = []
    content = run.metrics.read_bytes() if run.metrics.exists() else b""
    for text in content.splitlines():
        try:
            line = parse_json(text)
        # a crash may have cut the last line
        except ValueError:
            continue
        if (
            isinstance(line, dict)
            and _has_numbers(line)
            and (until is None or line["step"] <= until)
        ):
            lines.append(line)
    return lines


def _has_numbers(line: dict[str, Any]) -> bool:
    """Whether all that a line must have is there, as a number or null."""
    return all(isinstance(line.get(key, ""), int | float | None) for key in METRIC_KEYS)


def write_metrics(run: TrainingFolder, lines: list[dict[str, Any]]) -> None:
    """Write metrics.jsonl whole."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_whole(run.metrics, lambda file: file.write(text.encode()))


def write_weights(run: TrainingFolder, module: nnx.Module) -> None:
    """Write the weights, whole or not at all."""
    content = safetensors.numpy.save(weights.entries(module))
    try:
        write_whole(run.weights, lambda file: file.write(content))
    except InputError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        raise InputError(
            f"cannot write {run.weights} ({reason}): make room for it, then the same command"
            " goes on"
        ) from error


def is_finished(run: TrainingFolder, module: nnx.Module) -> bool:
    """Whether the weights lie in the folder, and are those of the module to the bit."""
    try:
        stored = weights.read(run.weights)
    except InputError:
        return False
    own = weights.entries(module)
    if stored.keys() != own.keys():
        return False
    return all(np.array_equal(stored[name], array) for name, array in own.items())
