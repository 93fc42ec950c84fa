"""The folder of a training: what is written there, when, and what must agree when a training goes on.

- train.json: the settings, written first; a run goes on with these only
- config.json: the network, its classes and its preprocessing, as timm writes it
- checkpoints/<step>/: the last two, by Orbax
- metrics.jsonl: one line an epoch
- model.safetensors: the weights, written last; it is there when the training has ended
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
from flax import nnx

from mdm_jax.errors import InputError
from mdm_jax.files import check_writable, write_whole
from mdm_jax.models import weights
from mdm_jax.training.config import TrainConfig, differences


@dataclass(frozen=True)
class Run:
    """The paths of a run."""

    folder: Path

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def network(self) -> Path:
        return self.folder / "config.json"

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def settings(self) -> Path:
        return self.folder / "train.json"


@contextmanager
def opened(folder: Path) -> Iterator[Run]:
    """The run in a folder, which is made, for this process alone.

    Raises InputError for a folder that cannot be written or that another process trains in.
    """
    check_writable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock", timeout=0):
            yield Run(folder)
    except filelock.Timeout:
        raise InputError(
            f"another mdm train is at work in {folder}: wait for it, or choose another folder with --out"
        ) from None
    except NotADirectoryError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}): choose another folder with --out") from error


def begin(run: Run, config: TrainConfig, items: int, class_names: tuple[str, ...]) -> None:
    """Write down the training, or see that the one that was begun here is the same.

    Raises InputError with every difference, and for a folder that holds a network that was not trained there.
    """
    record = json.loads(json.dumps(asdict(config) | {"items": items, "class_names": class_names}))
    if run.settings.exists():
        try:
            before = json.loads(run.settings.read_text())
            changed = differences(before, record)
        except (ValueError, AttributeError, OSError):
            raise InputError(f"{run.settings} is damaged: choose another folder with --out") from None
        if changed:
            listed = ", ".join(f"{name} {_short(old)} -> {_short(new)}" for name, (old, new) in changed.items())
            raise InputError(
                f"{run.folder} holds a training with other settings ({listed}): choose another folder with --out, or go back "
                "to the old settings to go on"
            )
    elif run.network.exists() or run.weights.exists():
        raise InputError(f"{run.folder} holds a network that mdm train did not begin: choose another folder with --out")
    else:
        write_whole(run.settings, lambda file: file.write(json.dumps(record, indent=2).encode()))
    model = config.model
    described = {
        "architecture": model.architecture,
        "num_classes": len(class_names),
        "model_args": model.arguments,
        "label_names": class_names,
        "pretrained_cfg": {
            "input_size": [model.channels, *model.size],
            "interpolation": model.interpolation,
            "crop_pct": model.crop,
            "mean": model.mean,
            "std": model.std,
        },
    }
    write_whole(run.network, lambda file: file.write((json.dumps(described, indent=2) + "\n").encode()))


def metrics(run: Run, until: int | None = None) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl up to a step; a line cut short by a crash is left out."""
    lines = []
    for text in run.metrics.read_text().splitlines() if run.metrics.exists() else ():
        try:
            line = json.loads(text)
            if until is None or line["step"] <= until:
                lines.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    return lines


def write_metrics(run: Run, lines: list[dict[str, Any]]) -> None:
    """Write metrics.jsonl whole."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_whole(run.metrics, lambda file: file.write(text.encode()))


def finish(run: Run, module: nnx.Module) -> None:
    """Write the weights, whole or not at all."""
    partial = run.folder / ".writing-model.safetensors"
    try:
        weights.save(module, partial)
        os.replace(partial, run.weights)
    except OSError as error:
        raise InputError(f"cannot write {run.weights} ({error.strerror}): make room for it there") from error


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
