r"""What each choice of MDM is worth: one row a choice, against the default preset.

    python experiments/quality/ablation.py                     # 96 digits, the embedded ResNet
    python experiments/quality/ablation.py --model vit --choices fill "area weight"
    python experiments/quality/ablation.py --annotated imagenet_val300 --limit 24 \
        --model vit_tiny_patch16_224 --weights WEIGHTS --results ablation_photographs

One half of the images tunes (insertion - deletion + energy, the column "tuned"), the other half is
reported. No benchmark looks at these images. The same command goes on where it was stopped.

Results: `experiments/results/ablation_*.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import mdm_jax
from experiments.quality.benchmark_imagenet import write_image_folder
from experiments.record_results import Value, write
from mdm_jax import load_model
from mdm_jax.data import open_source
from mdm_jax.data.network_input import PreparedExample, evenly_spaced, prepare_examples
from mdm_jax.errors import InputError, unknown
from mdm_jax.evaluation.statistics import difference, verdict
from mdm_jax.sweeps import Sweep
from mdm_jax.sweeps.points import label

METRICS = (
    "insertion:rise-28",
    "deletion:rise-28",
    "energy:mask",
    "pointing:exact",
    "pxap:wsol",
)
QUALITY = {"insertion": 1.0, "deletion": -1.0, "energy": 1.0}
"""what the first half is ranked by"""
MARKS = {"better": "+", "worse": "-", "tied": "=", "": ""}

Settings = dict[str, Any]


def one_setting(name: str, *values: Any) -> list[Settings]:
    return [{name: value} for value in values]


def objective(**weights: float) -> list[Settings]:
    return [{"objective": weights}]


CHOICES: dict[str, list[Settings]] = {
    "presets": one_setting("preset", "fast-2026-11", "paper", "best"),
    "map": one_setting("map", "mask"),
    "schedule": one_setting("schedule", "joint", "independent"),
    "sizes": one_setting("sizes", [8], [16], [32], [16, 32], [4, 8, 16, 32]),
    "kept share": one_setting("kept_share", 0.8, 0.9, 0.98),
    "weight of the area": one_setting("weight_rate", 0.0, 1.0, 4.0),
    "rates of the sizes": one_setting("rate_power", 0.0, 0.6),
    "start": one_setting("start", 0.3, 0.7, 0.9, "grad_cam"),
    "fill": [
        *({"fill": name} for name in ("blur", "mean")),
        *({"fill": names} for names in (["blur", "noise"], ["blur", "mean", "noise"])),
    ],
    "steps": one_setting("steps", 6, 10, 20, 28, 60),
    "learning rate": one_setting("learning_rate", 0.015, 0.045, 0.06),
    "optimizer": [
        {"optimizer": "adam", "learning_rate": 0.1},
        {"optimizer": "sgd", "learning_rate": 0.12},
    ],
    "parametrization": [
        {"parametrization": "sigmoid", "learning_rate": rate} for rate in (0.1, 0.2)
    ],
    "distance": [
        *objective(share=1.0, area=30.0),
        *objective(squared=1.0, area=30.0),
        *objective(kl=1.0, area=30.0),
    ],
    "smoothness": one_setting("objective.total_variation", 0.1, 1.0),
    "removal": one_setting("objective.removal", 0.3, 1.0),
    "node": [{"node": "logit"}, {"node": "log_odds"}],
    "jitter": one_setting("jitter", 2),
}


@dataclass(frozen=True)
class ImagesConfig:
    """A network, and images that no benchmark looks at."""

    model: str = "resnet"
    """an embedded network (resnet, densenet, vit) or another by name"""
    weights: str | None = None
    data: str = "digits"
    split: str = "test"
    annotated: Path | None = None
    """folder with images/ and annotations.json (see benchmark_imagenet.py), in place of data"""
    limit: int = 96
    """images"""
    out: Path = Path("ablation")
    """keeps every point: the same command goes on where it was stopped"""
    results: str | None = None
    """name of the file in experiments/results that is written, by default with the network's, and
    the choice's if there is only one; none when empty"""


@dataclass(frozen=True)
class Config(ImagesConfig):
    """Which rows; every second image is reported, the others tune."""

    choices: tuple[str, ...] = tuple(CHOICES)
    """names of CHOICES"""
    metrics: tuple[str, ...] = METRICS


def images_of(config: ImagesConfig, classifier: Any) -> list[PreparedExample]:
    data, split = config.data, config.split
    if config.annotated is not None:
        data, split = f"folder:{config.out / 'data'}", "val"
        write_image_folder(config.annotated, config.out / "data", split)
    source = open_source(data, split)
    odd = [
        2 * i + 1 for i in evenly_spaced(len(source) // 2, config.limit)
    ]  # the benchmarks look at even ones
    return [
        one
        for one in prepare_examples(source, odd, classifier.preprocessing)
        if isinstance(one, PreparedExample)
    ]


def run_sweep(config: Config) -> tuple[Sweep, list[tuple[str, int]]]:
    """All rows, and for each its choice and its place in the sweep; the default comes first."""
    for choice in config.choices:
        if choice not in CHOICES:
            raise unknown("choice", choice, CHOICES)
    points: list[Settings] = [{}]
    rows = [("default", 0)]
    for choice in config.choices:
        rows += [(choice, len(points) + k) for k in range(len(CHOICES[choice]))]
        points += CHOICES[choice]
    classifier = load_model(config.model, weights=config.weights)
    used = images_of(config, classifier)
    console = Console(stderr=True)
    sweep = mdm_jax.sweep(
        classifier,
        np.stack([one.image for one in used]),
        points,
        metrics=config.metrics,
        object_masks=[one.mask for one in used],
        ids=[one.id for one in used],
        out=config.out / Path(config.model).name,
        on_progress=lambda done: console.print(f"{done} of {len(points)}", highlight=False),
    )
    return sweep, rows


def report(
    sweep: Sweep, rows: Sequence[tuple[str, int]], network: str
) -> tuple[Table, list[Value]]:
    """The rows on the images that did not tune, as a table and as values for the results.

    + - = against the default, by the 95 % interval of the paired difference.
    """
    count = len(sweep.ids)
    tuned, held = sweep.of_images(range(0, count, 2)), sweep.of_images(range(1, count, 2))
    quality = tuned.quality(QUALITY)
    table = Table(
        "choice",
        "settings",
        *(name.split(":")[0] for name in held.metrics),
        "F+B",
        "tuned on",
        title=f"{network}, {count} images",
    )
    recorded: list[Value] = []
    default = held.outcomes[0].measured
    values: Mapping[str, Any] = {name: held.values(name) for name in held.metrics}
    for choice, i in rows:
        cells = []
        row = {"network": network, "choice": choice, "settings": label(sweep.points[i])}
        for name, metric in held.metrics.items():
            ours = held.outcomes[i].measured.get(name)
            against = ""
            if ours is not None and i > 0:
                against = verdict(metric.better, difference(metric, ours, default[name])[1])
            cells.append(f"{values[name][i]:.3f}{MARKS[against]}")
            value = {"metric": name, "value": values[name][i], "verdict": against}
            recorded.append(row | value | {"images": len(held.ids)})
        recorded.append(row | {"metric": "evaluations", "value": held.evaluations[i]})
        recorded.append(row | {"metric": "tuned", "value": quality[i]})
        table.add_row(
            choice,
            label(sweep.points[i]),
            *cells,
            f"{held.evaluations[i]:.0f}",
            f"{quality[i]:.3f}",
        )
    return table, recorded


def main(config: Config) -> int:
    try:
        sweep, rows = run_sweep(config)
        network = Path(config.model).name
        table, values = report(sweep, rows, network)
        # one choice alone is a table of its own
        alone = [choice.replace(" ", "_") for choice in config.choices[:1]]
        words = ["ablation", *(alone if len(config.choices) == 1 else []), network]
        name = "_".join(words) if config.results is None else config.results
        if name:
            write(name, values)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console(width=150, highlight=False).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
