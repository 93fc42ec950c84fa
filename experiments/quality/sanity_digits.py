"""Do maps follow the weights, and do they stay when only the random key changes?

    python experiments/quality/sanity_digits.py
    python experiments/quality/sanity_digits.py --model vit --methods mdm chefer --count 32

The parts of an embedded network get fresh weights from the logits down (Adebayo et al., arXiv
1810.03292); measured is the mean Spearman correlation of the maps with the original ones. `sobel`
sees no weights: a method like it would stay at 1. Last, the correlation of maps under three random
keys, for MDM also with a start and a fill that are drawn.

Results: `experiments/results/sanity_digits.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments.record_results import write
from mdm_jax import evaluate, load_model, methods
from mdm_jax.data.digits import Digits
from mdm_jax.metrics.sanity import cascade


@dataclass(frozen=True)
class Config:
    model: str = "resnet"
    """an embedded network: resnet, densenet or vit"""
    methods: tuple[str, ...] = ("mdm", "gradient", "grad_cam", "sobel")
    """what is randomized"""
    seeds: tuple[str, ...] = (
        "mdm",
        "mdm:start=random",
        "mdm:fill=noise,redraw_fill=true",
        "smoothgrad",
        "rise:num_samples=500",
    )
    """what is run with three keys"""
    count: int = 16
    """test digits"""
    results: str = "sanity_digits"
    """name of the file in experiments/results that is written; none when empty"""


def main(config: Config) -> int:
    classifier, source = load_model(config.model), Digits("test")
    examples = [source[i] for i in range(config.count)]
    images, ids = (
        np.stack([each.image for each in examples]),
        [each.id for each in examples],
    )
    columns, parts, recorded = [], [], []
    for text in config.methods:
        chosen = methods.configure(text).with_default_config()
        stages = cascade(
            classifier, images, method=chosen.name, config=chosen.config, ids=ids
        )
        alike = {
            stage.part: float(np.mean(stage.similarity["spearman"])) for stage in stages
        }
        columns.append([f"{value:.3f}" for value in alike.values()])
        for part, value in alike.items():
            what = {"quantity": "randomized down to", "part": part, "method": text}
            recorded.append(what | {"value": value})
        parts = [stage.part for stage in stages]
    title = f"{config.model}, {config.count} digits"
    table = Table(
        "randomized down to", *config.methods, title=f"{title}: Spearman with the original"
    )
    for row in zip(parts, *columns):
        table.add_row(*row)
    Console(width=140).print(table)
    table = Table("method", "Spearman under other keys", title=title)
    for text in config.seeds:
        chosen = methods.configure(text).with_default_config()
        maps = np.zeros(images.shape[:3], np.float32)  # spread makes its own
        scores = evaluate(
            classifier,
            images,
            maps,
            metrics=("spread",),
            method=chosen.name,
            config=chosen.config,
            ids=ids,
        )
        value = scores.summary()["spread:seeds"].value
        table.add_row(text, f"{value:.3f}")
        recorded.append({"quantity": "under other keys", "method": text, "value": value})
    Console(width=140).print(table)
    if config.results:
        write(config.results, recorded)
    return 0


if __name__ == "__main__":
    sys.exit(
        main(tyro.cli(Config, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
    )
