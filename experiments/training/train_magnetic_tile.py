"""ResNet, DenseNet and ViT on photographs of magnetic tiles: five kinds of defect, and none.

    python experiments/training/train_magnetic_tile.py --data folder:magnetic_tile    # reduced, CPU
    python experiments/training/train_magnetic_tile.py --data folder:magnetic_tile --full     # GPU

The folder holds images/, masks/ and labels.csv (file, label, split); point it at your own data of
that layout. `--networks vit_tiny --start-from timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k` tunes
a Transformer that has seen more than these 528 photographs.

Results: `experiments/results/train_magnetic_tile.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import tyro

from experiments.training.train_networks import Config, Settings, train_all

COMMON: Settings = {
    "checkpoint_every": 200,
    "data": {"train": "train", "evaluate": "test", "batch": 16},
    "model": {"size": [160, 160], "mean": [0.4] * 3, "std": [0.2] * 3},
    "optimizer": {"weight_decay": 0.05, "clip": 1.0, "label_smoothing": 0.05},
    "augment": {"crop": 0.9, "flip": True, "color": 0.2},
}
REDUCED: dict[str, Settings] = {
    "resnet": {
        "epochs": 30,
        "model": {
            "architecture": "resnet",
            "arguments": {
                "widths": [16, 32, 64, 128],
                "depths": [1, 1, 1, 1],
                "stem": "strided",
            },
        },
        "optimizer": {"learning_rate": 1e-3},
    },
    "densenet": {
        "epochs": 30,
        "model": {
            "architecture": "densenet",
            "arguments": {
                "growth": 24,
                "initial": 48,
                "blocks": [2, 2, 3, 3],
                "stem": "imagenet",
            },
        },
        "optimizer": {"learning_rate": 1e-3},
    },
    "vit": {
        "epochs": 30,
        "model": {
            "architecture": "vit",
            "arguments": {"patch": 16, "width": 96, "depth": 2, "heads": 4, "stem": "conv"},
        },
        "optimizer": {"learning_rate": 2e-3},
    },
}
FULL: dict[str, Settings] = {
    "resnet18": {
        "epochs": 100,
        "model": {"architecture": "resnet18"},
        "optimizer": {"learning_rate": 2e-3},
    },
    "densenet121": {
        "epochs": 100,
        "model": {"architecture": "densenet121"},
        "optimizer": {"learning_rate": 2e-3},
    },
    "vit": {
        "epochs": 200,
        "model": {
            "architecture": "vit",
            "arguments": {
                "patch": 16,
                "width": 192,
                "depth": 6,
                "heads": 6,
                "stem": "conv",
            },
        },
        "optimizer": {"learning_rate": 1e-3},
    },
}


@dataclass(frozen=True, kw_only=True)
class MagneticTile(Config):
    results: str = "train_magnetic_tile"


def main(config: MagneticTile) -> int:
    return train_all(
        config, COMMON, FULL if config.full else REDUCED, f"{config.data}, 160 px"
    )


if __name__ == "__main__":
    sys.exit(
        main(
            tyro.cli(
                MagneticTile, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)
            )
        )
    )
