"""What sizes, fill, start and area weight do to MDM's maps: the trials behind the preset `fast`.

    python experiments/mask_settings.py
    python experiments/mask_settings.py --model vit --count 32

Digits of the training split, whose scans appear in no benchmark. `before` is the preset as it was first; each row after it
changes what it names, and the last is `fast`. Twenty evaluations each.

Not measured yet: `fast` was chosen by trials without a command, and this is to replace them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from mdm_jax import PRESETS, MDMConfig, area, consistency, evaluate, explain, load_model
from mdm_jax.data.digits import Digits

METRICS = ("insertion:rise-28", "deletion:rise-28", "energy:mask", "pointing:exact", "pxap:wsol")


def settings(sizes: tuple[int, ...], weight: float = 10.0, fill: str = "blur", start: float | str = 0.9) -> MDMConfig:
    return MDMConfig(sizes=sizes, objective=(consistency(), area(weight)), fill=fill, start=start)


VARIANTS: dict[str, MDMConfig] = {
    "before: 4 8 16, area 3, mean, ones": settings((4, 8, 16), 3.0, "mean", "ones"),
    "before, 8 16 32": settings((8, 16, 32), 3.0, "mean", "ones"),
    "before, 4 8 16 32 64": settings((4, 8, 16, 32, 64), 3.0, "mean", "ones"),
    "before, 64 alone": settings((64,), 3.0, "mean", "ones"),
    "8 16 32, area 10, mean, ones": settings((8, 16, 32), fill="mean", start="ones"),
    "8 16 32, area 10, mean, 0.9": settings((8, 16, 32), fill="mean"),
    "8 16 32, area 10, mean, half": settings((8, 16, 32), fill="mean", start="half"),
    "8 16 32, area 30, blur, 0.9": settings((8, 16, 32), 30.0),
    "4 8 16 32 64, area 10, blur, 0.9": settings((4, 8, 16, 32, 64)),
    "fast: 8 16 32, area 10, blur, 0.9": PRESETS["fast"],
}


@dataclass(frozen=True)
class Config:
    model: str = "resnet"
    """an embedded network: resnet, densenet or vit"""
    count: int = 64
    """digits"""


def main(config: Config) -> int:
    classifier, source = load_model(config.model), Digits("train")
    examples = [source[i] for i in range(config.count)]
    images, masks = (np.stack([getattr(each, name) for each in examples]) for name in ("image", "mask"))
    table = Table("settings", *METRICS, "area kept", title=f"{config.model}, {config.count} digits of the training split")
    for name, variant in VARIANTS.items():
        found = explain(classifier, images, config=variant, ids=[each.id for each in examples])
        scores = evaluate(classifier, images, found.saliency, found.info.target, masks=list(masks), metrics=METRICS).summary()
        table.add_row(name, *(f"{scores[metric].value:.3f}" for metric in METRICS), f"{found.info.kept_area.mean():.3f}")
    Console(width=150).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))))
