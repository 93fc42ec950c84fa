"""What each choice of MDM is worth: one row a choice, against the default preset, tuned on one half
and reported on the other.

    python experiments/quality/ablation.py                                      # 96 digits, the
      embedded ResNet
    python experiments/quality/ablation.py --model vit --choices fill "area weight"
    python experiments/quality/ablation.py --annotated imagenet_val300 --model vit_tiny_patch16_224
      --weights WEIGHTS --limit 24

The tables stand in `ablation_results.txt`, with the command of each: 80 rows on the ResNet, some of
them on the DenseNet, the Transformer, 24 photographs and 64-pixel images. No benchmark looks at
these images. Values are of the half that did not tune; + better,
- worse, = tied with the default by the 95 % interval of the paired difference; F+B: evaluations
  with a gradient; tuned: insertion - deletion + energy on the other half, by which settings are
  chosen.

The presets, `--choices presets --limit 128`, on the ResNet, the DenseNet and the Transformer (2 CPU
cores, jax 0.10.2):

                preset     insert  delete  energy   point    pxap  F+B   tuned
    resnet      fast       0.915   0.110   0.708   1.000   0.770    15  1.494
                best       0.900-  0.127-  0.806+  1.000=  0.789=  150  1.563
                paper      0.914=  0.119=  0.633-  0.984=  0.816+  300  1.403
    densenet    fast       0.933   0.108   0.629   0.922   0.712    15  1.436
                best       0.925-  0.138-  0.781+  0.969=  0.766+  150  1.560
                paper      0.931-  0.125=  0.630=  0.984+  0.781+  300  1.422
    vit         fast       0.907   0.115   0.717   0.969   0.690    15  1.496
                best       0.906=  0.136=  0.819+  0.984=  0.739=  150  1.617
                paper      0.907=  0.132=  0.606-  0.953=  0.703=  300  1.427

What it says. On digits, with 15 evaluations, `fast` is not below the 300 of `paper` in insertion,
deletion or energy on any of the three networks: better or tied in all, energy apart on two (tied on
the DenseNet), insertion apart on the DenseNet. It is below in PxAP on the CNNs, and in pointing on
the DenseNet. On 12 photographs it is far above `paper`, which takes 400 there (insertion .871 and
.785, energy .767 and .718, deletion tied), and on 64-pixel images apart in energy (.763 and .645).
Why each choice is what it is:

- joint: three times fewer evaluations than independent masks with the same steps, and more energy.
- sizes: without the 32 cells energy and PxAP fall; 64 cells cost PxAP; 4 cells cost energy; without
  the 8 PxAP falls.
- sigmoid: the box parametrization is as good at its best learning rate, and far below at another.
- start 0.9: from ones 15 steps are not enough; from lower starts insertion falls. A map of Grad-CAM
  gains nothing on the CNNs and misleads on the Transformer, and not every network has one.
- coarse to fine over half of the steps gains insertion and deletion on the ResNet at a cost in
  energy, everything on the DenseNet (insertion .812 to .929, energy .462 to .649), energy and PxAP
  on the Transformer (.323 to .694). Looked at (`figure_method.py`), the coarsest mask mostly falls
  evenly before the others join: it is a later start of the finer ones. A quarter of the steps has
  more energy on photographs (.812, .767), but fails on the DenseNet (PxAP .543).
- distance: what is lost, as a share. On digits, where the network is sure, all distances are near
  one another (squared, KL and shortfall have more energy on the ResNet, squared and KL less on the
  DenseNet). On photographs, where it is not, those that let the activation rise keep insertion:
  .871 for the lost share, .870 shortfall, .875 surprise, .851 absolute, .842 share, .836 squared.
  Surprise is as good and leaves the method's question: what the network says, not what it could
  say.
- node: being a share, the same weight of area does for the logit and the log-odds, nearly as well
  as for the probability.
- area weight 30: 20 and less cost energy on the CNNs; 40 gains some on the ResNet. On photographs
  it hardly matters from 5 to
  40.
- area in time: raised step by step it gains insertion and costs energy; a bound on the area fails
  with Adam, whose steps have one size for all cells.
- total variation gains little (.3 to 3 alike), the removal term costs energy at the same
  evaluations.
- fill: near one another on digits (noise costs energy); on photographs blur is far better in
  insertion (.871; mean .820, gray .812), while several fills in turn have the better deletion
  (.078).
- more steps buy energy and sell insertion. `best` takes 150 under three fills in turn: of all rows
  up to 300 evaluations on digits whose PxAP does not fall, none has a higher tuned mean over the
  three networks by more than .01. 5 steps are too few, 10 lose little. More steps also come nearer
  to the optimum, which gives up evidence that is large: on the photographs `best` is tied with
  `fast`; on 64-pixel images, where the object fills half of the image, its insertion is .337 for
  .547, and area 5 or 10 is better than 30.
- final smoothing gains PxAP and costs energy; jitter and other stacking weights change little.
- Adam: nadam is as good, lion trades deletion for energy; momentum, at the one learning rate tried,
  leaves the map broad: by far the highest insertion (.952) and hardly any energy. L-BFGS spends its
  evaluations on line searches.
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
from experiments.quality.benchmark_imagenet import laid_out
from mdm_jax import load_model
from mdm_jax.data import open_source
from mdm_jax.data.network_input import Framed, frames, spread
from mdm_jax.errors import InputError, unknown
from mdm_jax.evaluation.statistics import difference, verdict
from mdm_jax.sweeps import Sweep
from mdm_jax.sweeps.points import label

METRICS = ("insertion:rise-28", "deletion:rise-28", "energy:mask", "pointing:exact", "pxap:wsol")
QUALITY = {"insertion": 1.0, "deletion": -1.0, "energy": 1.0}
"""what the first half is ranked by"""
MARKS = {"better": "+", "worse": "-", "tied": "=", "": ""}

Settings = dict[str, Any]


def each(name: str, *values: Any) -> list[Settings]:
    return [{name: value} for value in values]


def objective(**weights: float) -> list[Settings]:
    return [{"objective": weights}]


CHOICES: dict[str, list[Settings]] = {
    "presets": each("preset", "best", "paper"),
    "more steps": [
        {"steps": 60, "learning_rate": 0.5},
        {"steps": 60, "learning_rate": 0.5, "sizes": [8, 16, 32, 64]},
        {"steps": 60, "learning_rate": 0.5, "fill": ["blur", "mean"]},
        {"steps": 60, "learning_rate": 0.5, "fill": ["blur", "mean"], "jitter": 2},
        {"steps": 60, "learning_rate": 0.5, "fill": ["blur", "mean", "noise"]},
        {"steps": 150, "learning_rate": 0.3, "fill": ["blur", "mean", "noise"]},
        {"steps": 150, "learning_rate": 0.3, "fill": ["blur", "mean", "noise"], "jitter": 2},
        {"steps": 300, "learning_rate": 0.2, "fill": ["blur", "mean", "noise"]},
    ],
    "schedule": each("schedule", "independent"),
    "sizes": each("sizes", [8, 16], [16, 32], [4, 8, 16, 32], [8, 16, 32, 64]),
    "parametrization": [{"parametrization": "box", "learning_rate": rate} for rate in (0.05, 0.15)],
    "start": each("start", "ones", "half", 0.7, "grad_cam"),
    "coarse to fine": each("coarse_to_fine", "none", 0.0, 0.25, 0.5),
    "distance": [
        *objective(share=1.0, area=30.0),
        *objective(absolute=1.0, area=30.0),
        *objective(squared=1.0, area=30.0),
        *objective(kl=1.0, area=30.0),
        *objective(shortfall=1.0, area=30.0),
        *objective(surprise=1.0, area=30.0),
    ],
    "node": [
        {"node": "logit", "objective": {"lost_share": 1.0, "area": 30.0}},
        {"node": "log_odds", "objective": {"lost_share": 1.0, "area": 30.0}},
        {"node": "logits", "objective": {"kl": 1.0, "area": 30.0}},
    ],
    "area weight": each("objective.area", 5.0, 10.0, 20.0, 40.0),
    "area in time": [
        *objective(lost_share=1.0, late_area=50.0),
        {"objective": {"lost_share": 1.0}, "area_budget": 0.05},
    ],
    "smoothness": each("objective.total_variation", 0.3, 1.0, 3.0),
    "removal": [
        {"objective.removal": weight, "steps": 7, "learning_rate": 1.0} for weight in (0.3, 1.0)
    ],
    "fill": [
        *({"fill": name} for name in ("blur", "mean", "gray")),
        *({"fill": names} for names in (["blur", "mean"], ["blur", "mean", "noise"])),
    ],
    "jitter": each("jitter", 1, 2, 4),
    "stacking weights": each("stack_weights", 0.0, 0.5, 1.0, 2.0),
    "final smoothing": each("smoothing", 0.5, 1.0, 2.0),
    "learning rate": each("learning_rate", 0.3, 0.5, 0.7, 1.0),
    "steps": each("steps", 5, 8, 10, 12, 15, 20, 30, 60),
    "optimizer": [
        *each("optimizer", "nadam", "lion"),
        *({"optimizer": name, "learning_rate": 50.0} for name in ("momentum", "nesterov")),
        {"optimizer": "schedule_free", "coarse_to_fine": "none"},
        {"optimizer": "lbfgs", "coarse_to_fine": "none", "steps": 4},
    ],
}


@dataclass(frozen=True)
class Config:
    """Which rows, on which images and network."""

    model: str = "resnet"
    """an embedded network (resnet, densenet, vit) or another by name"""
    weights: str | None = None
    data: str = "digits"
    split: str = "test"
    annotated: Path | None = None
    """folder with images/ and annotations.json (see benchmark_imagenet.py), in place of data"""
    limit: int = 96
    """images; every second one is reported, the others tune. None of them is among those of the
    benchmarks"""
    choices: tuple[str, ...] = tuple(CHOICES)
    """names of CHOICES"""
    metrics: tuple[str, ...] = METRICS
    out: Path = Path("ablation")
    """keeps every point: the same command goes on where it was stopped"""


def images_of(config: Config, classifier: Any) -> list[Framed]:
    data, split = config.data, config.split
    if config.annotated is not None:
        data, split = f"folder:{config.out / 'data'}", "val"
        laid_out(config.annotated, config.out / "data", split)
    source = open_source(data, split)
    odd = [
        2 * i + 1 for i in spread(len(source) // 2, config.limit)
    ]  # the benchmarks look at even ones
    return [one for one in frames(source, odd, classifier.preprocessing) if isinstance(one, Framed)]


def swept(config: Config) -> tuple[Sweep, list[tuple[str, int]]]:
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
        masks=[one.mask for one in used],
        ids=[one.id for one in used],
        out=config.out / Path(config.model).name,
        on_progress=lambda done: console.print(f"{done} of {len(points)}", highlight=False),
    )
    return sweep, rows


def report(sweep: Sweep, rows: Sequence[tuple[str, int]], title: str) -> Table:
    """The rows on the images that did not tune; + - = against the default, by the 95 % interval of
    the paired difference."""
    count = len(sweep.ids)
    tuned, held = sweep.of_images(range(0, count, 2)), sweep.of_images(range(1, count, 2))
    quality = tuned.quality(QUALITY)
    table = Table(
        "choice",
        "settings",
        *(name.split(":")[0] for name in held.metrics),
        "F+B",
        "tuned on",
        title=title,
    )
    default = held.outcomes[0].measured
    values: Mapping[str, Any] = {name: held.values(name) for name in held.metrics}
    for choice, i in rows:
        cells = []
        for name, metric in held.metrics.items():
            ours = held.outcomes[i].measured.get(name)
            mark = (
                ""
                if ours is None or i == 0
                else MARKS[verdict(metric.better, difference(metric, ours, default[name])[1])]
            )
            cells.append(f"{values[name][i]:.3f}{mark}")
        table.add_row(
            choice,
            label(sweep.points[i]),
            *cells,
            f"{held.evaluations[i]:.0f}",
            f"{quality[i]:.3f}",
        )
    return table


def main(config: Config) -> int:
    try:
        sweep, rows = swept(config)
        table = report(sweep, rows, f"{config.model}, {len(sweep.ids)} images")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console(width=150, highlight=False).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
