"""ResNet, DenseNet and ViT on small natural images of 64 px (made for 20 classes of Tiny-ImageNet,
450 images each).

    python experiments/training/train_tiny_imagenet.py --data folder:tiny_imagenet20           #
      reduced networks, CPU
    python experiments/training/train_tiny_imagenet.py --data folder:tiny_imagenet20 --full    #
      ResNet-18, DenseNet-121, ViT, GPU

The folder holds train/<class>/ and val/<class>/; point it at your own. `--networks vit_tiny
--start-from timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k` tunes a Transformer that knows
ImageNet, and so these classes already.

Accuracy on 1000 held-out images of those 20 classes, reduced networks, measured on 2 shared CPU
cores, jax 0.10.2 (the networks of --full were not trained: no GPU was at hand):

    network     parameters   epochs   accuracy   seconds
    resnet          0.70 M        8      0.696       439
    densenet        0.34 M        6      0.656       538
    vit             0.41 M        8      0.664       857
    vit_tiny        5.50 M        4      0.856       286   (starts from ImageNet weights)
"""

from __future__ import annotations

import sys

import tyro

from experiments.training.train_networks import Config, Settings, train_all

COMMON: Settings = {
    "checkpoint_every": 500,
    "data": {"train": "train", "evaluate": "val", "batch": 64},
    "model": {"size": [64, 64], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "optimizer": {"weight_decay": 0.05, "clip": 1.0, "label_smoothing": 0.1},
    "augment": {"crop": 0.5, "flip": True, "color": 0.2},
}
REDUCED: dict[str, Settings] = {
    "resnet": {
        "epochs": 8,
        "model": {
            "architecture": "resnet",
            "arguments": {"widths": [24, 48, 96, 192], "depths": [1, 1, 1, 1], "stem": "strided"},
        },
        "optimizer": {"learning_rate": 4e-3},
    },
    "densenet": {
        "epochs": 6,
        "model": {
            "architecture": "densenet",
            "arguments": {"growth": 24, "initial": 48, "blocks": [3, 4, 3], "stem": "imagenet"},
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


def main(config: Config) -> int:
    return train_all(config, COMMON, FULL if config.full else REDUCED, f"{config.data}, 64 px")


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))))
