"""ResNet, DenseNet and ViT on small natural images of 64 px.

    python experiments/training/train_tiny_imagenet.py --data folder:tiny_imagenet20  # reduced, CPU
    python experiments/training/train_tiny_imagenet.py --data folder:tiny_imagenet20 --full   # GPU

Made for 20 classes of Tiny-ImageNet, 450 images each. The folder holds train/<class>/ and
val/<class>/; point it at your own. `--networks vit_tiny --start-from
timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k` tunes a Transformer that knows ImageNet, and so
these classes already.

Results: `experiments/results/train_tiny_imagenet.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import tyro

from experiments.training.train_networks import Config, Settings, train_all

COMMON: Settings = {
    "checkpoint_every": 500,
    "data": {"train": "train", "evaluate": "val", "batch": 64},
    "model": {
        "size": [64, 64],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "optimizer": {"weight_decay": 0.05, "clip": 1.0, "label_smoothing": 0.1},
    "augment": {"crop": 0.5, "flip": True, "color": 0.2},
}
REDUCED: dict[str, Settings] = {
    "resnet": {
        "epochs": 8,
        "model": {
            "architecture": "resnet",
            "arguments": {
                "widths": [24, 48, 96, 192],
                "depths": [1, 1, 1, 1],
                "stem": "strided",
            },
        },
        "optimizer": {"learning_rate": 4e-3},
    },
    "densenet": {
        "epochs": 6,
        "model": {
            "architecture": "densenet",
            "arguments": {
                "growth": 24,
                "initial": 48,
                "blocks": [3, 4, 3],
                "stem": "imagenet",
            },
        },
        "optimizer": {"learning_rate": 4e-3},
    },
    "vit": {
        "epochs": 8,
        "model": {
            "architecture": "vit",
            "arguments": {"patch": 8, "width": 96, "depth": 2, "heads": 4, "stem": "conv"},
        },
        "optimizer": {"learning_rate": 2e-3},
    },
}
FULL: dict[str, Settings] = {
    "resnet18": {
        "epochs": 60,
        "model": {"architecture": "resnet18", "arguments": {"stem": "small"}},
        "optimizer": {"learning_rate": 2e-3},
    },
    "densenet121": {
        "epochs": 60,
        "model": {"architecture": "densenet121", "arguments": {"stem": "small"}},
        "optimizer": {"learning_rate": 2e-3},
    },
    "vit": {
        "epochs": 120,
        "model": {
            "architecture": "vit",
            "arguments": {"patch": 8, "width": 192, "depth": 9, "heads": 6, "stem": "conv"},
        },
        "optimizer": {"learning_rate": 1e-3},
    },
}


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(Config):
    results: str = "train_tiny_imagenet"


def main(config: TinyImageNet) -> int:
    return train_all(
        config, COMMON, FULL if config.full else REDUCED, f"{config.data}, 64 px"
    )


if __name__ == "__main__":
    sys.exit(
        main(
            tyro.cli(
                TinyImageNet, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)
            )
        )
    )
