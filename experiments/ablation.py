"""What each choice of MDM is worth: one row a choice, against the default preset, tuned on one half and reported on the other.

    python experiments/ablation.py                                      # 96 digits, the embedded ResNet
    python experiments/ablation.py --model vit --choices fill "area weight"
    python experiments/ablation.py --annotated imagenet_val300 --model vit_tiny_patch16_224 --weights WEIGHTS --limit 48

Measured on 2 CPU cores (jax 0.10.2), on digits that no benchmark looks at. Values are of the half that did not tune; + better,
- worse, = tied with the default by the 95 % interval of the paired difference; F+B: evaluations with a gradient; tuned:
insertion - deletion + energy on the other half, which chose the settings.

The presets, `--choices presets --limit 128`, on the ResNet, the DenseNet and the Transformer:

    choice           settings                                     insert delete energy  point   pxap F+B  tuned
    resnet
    default          base                                          0.921  0.112  0.716  1.000  0.773  15  1.515
    presets          preset=best                                  0.903- 0.109= 0.792+ 0.969= 0.764=  60  1.569
                     preset=paper                                 0.914= 0.119= 0.633- 0.984= 0.816+ 300  1.403
    densenet
    default          base                                          0.935  0.117  0.629  0.906  0.700  15  1.436
    presets          preset=best                                  0.926- 0.127= 0.731+ 0.938= 0.716=  60  1.511
                     preset=paper                                 0.931- 0.125= 0.630= 0.984+ 0.781+ 300  1.422
    vit
    default          base                                          0.907  0.114  0.734  0.953  0.711  15  1.497
    presets          preset=best                                  0.908= 0.118= 0.843+ 0.953= 0.679=  60  1.644
                     preset=paper                                 0.907= 0.132= 0.606- 0.953= 0.703= 300  1.427

Every choice, ResNet, `--limit 64`:

    choice           settings                                     insert delete energy  point   pxap F+B  tuned
    default          base                                          0.884  0.106  0.767  1.000  0.820  15  1.486
    presets          preset=best                                  0.851- 0.111= 0.838+ 0.969= 0.789-  60  1.559
                     preset=paper                                 0.880= 0.132- 0.654- 0.969= 0.821= 300  1.403
    more steps       steps=60, lr=0.5                             0.851- 0.111= 0.838+ 0.969= 0.789-  60  1.559
                     steps=60, lr=0.5, sizes=8/16/32/64           0.843- 0.122= 0.873+ 1.000= 0.664-  60  1.589
                     steps=60, lr=0.5, fill=blur/mean             0.841- 0.118= 0.839+ 1.000= 0.819=  60  1.548
                     steps=60, lr=0.5, fill=blur/mean, jitter=2   0.867- 0.131- 0.847+ 1.000= 0.836=  60  1.533
                     steps=60, lr=0.5, fill=blur/mean/noise       0.860- 0.124- 0.823+ 1.000= 0.810=  60  1.578
                     steps=150, lr=0.3, fill=blur/mean/noise      0.849- 0.124- 0.856+ 1.000= 0.818= 150  1.571
    schedule         schedule=independent                         0.845- 0.111= 0.746= 1.000= 0.793-  45  1.466
    sizes            sizes=8/16                                   0.872- 0.128= 0.680- 0.938= 0.736-  15  1.382
                     sizes=16/32                                  0.877= 0.110= 0.772= 1.000= 0.803-  15  1.508
                     sizes=4/8/16/32                              0.883= 0.113= 0.739- 1.000= 0.819=  15  1.469
                     sizes=8/16/32/64                             0.876= 0.112= 0.767= 1.000= 0.737-  15  1.488
    parametrisation  parametrisation=box, lr=0.05                 0.824- 0.097= 0.306- 1.000= 0.447-  15  0.983
                     parametrisation=box, lr=0.15                 0.873- 0.135- 0.751- 1.000= 0.828=  15  1.471
    start            start=ones                                   0.871- 0.121= 0.600- 1.000= 0.818=  15  1.303
                     start=half                                   0.841- 0.119= 0.751= 0.969= 0.801=  15  1.412
                     start=0.7                                    0.858- 0.115= 0.776= 1.000= 0.788-  15  1.481
                     start=grad_cam                               0.868- 0.134- 0.802+ 0.969= 0.796=  16  1.538
                     coarse_to_fine=0                             0.847- 0.133- 0.830+ 1.000= 0.803=  15  1.537
                     coarse_to_fine=0.25                          0.861- 0.125- 0.815+ 1.000= 0.819=  15  1.512
                     coarse_to_fine=0.5                           0.884= 0.106= 0.767= 1.000= 0.820=  15  1.486
    distance         1 squared+30 area                            0.879= 0.110= 0.797+ 1.000= 0.788-  15  1.492
                     1 kl+30 area                                 0.878= 0.104= 0.779= 1.000= 0.806=  15  1.469
                     1 shortfall+30 area                          0.876= 0.103= 0.786+ 1.000= 0.809-  15  1.487
                     1 surprise+30 area                           0.876- 0.107= 0.751- 1.000= 0.792-  15  1.464
    node             node=logit, 1 share+30 area                  0.874- 0.129- 0.684- 1.000= 0.807=  15  1.404
                     node=log_odds, 1 share+30 area               0.868- 0.137- 0.678- 1.000= 0.793=  15  1.400
                     node=logits, 1 kl+30 area                    0.876= 0.106= 0.780= 1.000= 0.812=  15  1.470
    area weight      area=5                                       0.866- 0.125= 0.568- 0.969= 0.734-  15  1.318
                     area=10                                      0.869- 0.120= 0.657- 0.969= 0.783-  15  1.393
                     area=20                                      0.877- 0.113= 0.734- 1.000= 0.805-  15  1.447
                     area=40                                      0.888= 0.110= 0.790+ 0.969= 0.815=  15  1.508
    area in time     1 absolute+50 late_area                      0.875- 0.129- 0.717- 1.000= 0.812=  15  1.441
                     1 absolute, area_budget=0.05                 0.760- 0.146- 0.142- 0.188- 0.162-  15  0.771
    smoothness       total_variation=0.3                          0.883= 0.101= 0.770+ 1.000= 0.825+  15  1.484
                     total_variation=1                            0.883= 0.099= 0.770+ 1.000= 0.821=  15  1.484
                     total_variation=3                            0.880= 0.098= 0.770= 1.000= 0.825+  15  1.488
    removal          removal=0.3, steps=7, lr=1                   0.866- 0.115= 0.611- 1.000= 0.762-  14  1.333
                     removal=1, steps=7, lr=1                     0.866- 0.113= 0.528- 0.969= 0.705-  14  1.254
    fill             fill=blur                                    0.884= 0.106= 0.767= 1.000= 0.820=  15  1.486
                     fill=mean                                    0.875- 0.112= 0.757= 1.000= 0.841=  15  1.496
                     fill=grey                                    0.882= 0.123= 0.757= 1.000= 0.828=  15  1.495
                     fill=blur/mean                               0.879= 0.119= 0.768= 1.000= 0.844+  15  1.500
                     fill=blur/mean/noise                         0.868- 0.109= 0.678- 1.000= 0.805=  15  1.403
    jitter           jitter=1                                     0.879= 0.111= 0.760= 1.000= 0.825=  15  1.496
                     jitter=2                                     0.874- 0.112= 0.753= 1.000= 0.831=  15  1.480
                     jitter=4                                     0.870- 0.112= 0.758= 1.000= 0.833+  15  1.464
    stacking weights stack_weights=0                              0.884= 0.106- 0.767= 1.000= 0.820=  15  1.486
                     stack_weights=0.5                            0.884= 0.120= 0.776= 1.000= 0.814=  15  1.481
                     stack_weights=1                              0.883= 0.124- 0.789+ 1.000= 0.820=  15  1.492
                     stack_weights=2                              0.868= 0.127= 0.784= 1.000= 0.793-  15  1.496
    final smoothing  smoothing=0.5                                0.884= 0.110= 0.760- 1.000= 0.838+  15  1.474
                     smoothing=1                                  0.880= 0.118= 0.731- 1.000= 0.852+  15  1.441
                     smoothing=2                                  0.873- 0.132- 0.652- 1.000= 0.846+  15  1.353
    learning rate    lr=0.3                                       0.870- 0.117= 0.567- 1.000= 0.702-  15  1.256
                     lr=0.5                                       0.877= 0.116= 0.649- 1.000= 0.815=  15  1.363
                     lr=0.7                                       0.879= 0.121= 0.706- 1.000= 0.827=  15  1.423
                     lr=1                                         0.884= 0.106= 0.767= 1.000= 0.820=  15  1.486
    steps            steps=5                                      0.700- 0.151- 0.390- 0.938= 0.528-   5  0.917
                     steps=8                                      0.868- 0.113= 0.628- 1.000= 0.817=   8  1.334
                     steps=10                                     0.873- 0.115= 0.689- 1.000= 0.829=  10  1.402
                     steps=12                                     0.879= 0.127= 0.739- 1.000= 0.829+  12  1.439
                     steps=15                                     0.884= 0.106= 0.767= 1.000= 0.820=  15  1.486
                     steps=20                                     0.875= 0.114= 0.813+ 0.969= 0.806-  20  1.533
                     steps=30                                     0.870- 0.107= 0.831+ 0.969= 0.789-  30  1.558
                     steps=60                                     0.867- 0.117= 0.828+ 1.000= 0.777-  60  1.546
    optimiser        nadam                                        0.873- 0.104= 0.791+ 0.969= 0.825=  15  1.511
                     lion                                         0.878= 0.138- 0.824+ 1.000= 0.804-  15  1.565
                     momentum, lr=50                              0.882= 0.096= 0.128- 1.000= 0.565-  15  0.933
                     nesterov, lr=50                              0.916+ 0.093= 0.155- 1.000= 0.624-  15  0.950
                     schedule_free, coarse_to_fine=none           0.842- 0.129- 0.755= 1.000= 0.846+  15  1.469
                     lbfgs, coarse_to_fine=none, steps=4          0.776- 0.119= 0.413- 0.906= 0.373-  17  1.019

The Transformer, `--model vit --limit 48 --choices start "area weight" fill`:

    choice           settings                                     insert delete energy  point   pxap F+B  tuned
    default          base                                          0.872  0.106  0.664  0.875  0.733  15  1.543
    start            start=ones                                   0.879= 0.126= 0.537- 0.833= 0.661-  15  1.363
                     start=half                                   0.846= 0.133= 0.658= 0.833= 0.644=  15  1.487
                     start=0.7                                    0.869= 0.121= 0.713+ 0.917= 0.676=  15  1.537
                     start=grad_cam                               0.810- 0.113= 0.509- 0.792= 0.405-  16  0.925
                     coarse_to_fine=0                             0.796= 0.120= 0.473- 0.833= 0.311-  15  1.531
                     coarse_to_fine=0.25                          0.860- 0.139= 0.668= 0.875= 0.647-  15  1.547
                     coarse_to_fine=0.5                           0.872= 0.106= 0.664= 0.875= 0.733=  15  1.543
    area weight      area=5                                       0.870= 0.137= 0.620- 0.875= 0.608-  15  1.457
                     area=10                                      0.873= 0.111= 0.601- 0.833= 0.665-  15  1.512
                     area=20                                      0.873= 0.106= 0.644= 0.833= 0.712=  15  1.533
                     area=40                                      0.872= 0.132- 0.658= 0.875= 0.695-  15  1.544
    fill             fill=blur                                    0.872= 0.106= 0.664= 0.875= 0.733=  15  1.543
                     fill=mean                                    0.876= 0.113= 0.674= 0.833= 0.749=  15  1.522
                     fill=grey                                    0.876= 0.116= 0.675= 0.875= 0.751=  15  1.517
                     fill=blur/mean                               0.871= 0.096= 0.662= 0.833= 0.703=  15  1.494
                     fill=blur/mean/noise                         0.869= 0.099= 0.537- 0.792= 0.627-  15  1.433

The DenseNet, `--model densenet --limit 48 --choices start "area weight" fill`:

    choice           settings                                     insert delete energy  point   pxap F+B  tuned
    default          base                                          0.928  0.080  0.652  0.958  0.660  15  1.460
    start            start=ones                                   0.929= 0.094= 0.529- 0.958= 0.686=  15  1.363
                     start=half                                   0.880- 0.113- 0.612= 0.875= 0.574=  15  1.388
                     start=0.7                                    0.921- 0.081= 0.670+ 0.875= 0.685=  15  1.449
                     start=grad_cam                               0.923- 0.097= 0.648= 0.792- 0.695=  16  1.435
                     coarse_to_fine=0                             0.834- 0.118= 0.435- 0.792= 0.354-  15  1.252
                     coarse_to_fine=0.25                          0.920- 0.096= 0.671= 0.875= 0.566-  15  1.386
                     coarse_to_fine=0.5                           0.928= 0.080= 0.652= 0.958= 0.660=  15  1.460
    area weight      area=5                                       0.927= 0.082= 0.582- 0.917= 0.714=  15  1.380
                     area=10                                      0.925= 0.081= 0.612- 0.917= 0.728+  15  1.393
                     area=20                                      0.927= 0.079= 0.637= 0.958= 0.719+  15  1.424
                     area=40                                      0.930= 0.090= 0.639= 0.917= 0.623-  15  1.470
    fill             fill=blur                                    0.928= 0.080= 0.652= 0.958= 0.660=  15  1.460
                     fill=mean                                    0.927= 0.078= 0.699+ 1.000= 0.759+  15  1.508
                     fill=grey                                    0.923- 0.071= 0.697+ 1.000= 0.766+  15  1.469
                     fill=blur/mean                               0.926= 0.084= 0.666= 0.958= 0.712+  15  1.447
                     fill=blur/mean/noise                         0.928= 0.085= 0.648= 0.958= 0.723+  15  1.424

What it says. With 15 evaluations `fast` is not below the 300 of `paper` in insertion, deletion or energy on any of the three
networks: better or tied in all, energy apart on two (tied on the DenseNet), insertion apart on the DenseNet. It is below in
PxAP and pointing on the DenseNet, and in PxAP on the ResNet. Why each choice is what it is:

- joint: three times fewer evaluations than independent masks with the same steps, and better in insertion.
- sizes: without the 32 cells energy and PxAP fall; 64 cells cost PxAP; 4 cells cost energy.
- sigmoid: the box parametrisation is as good at its best learning rate, and far below at another.
- start 0.9: from ones 15 steps are not enough; from lower starts insertion falls. A map of Grad-CAM gains energy and loses
  insertion, and not every network has one.
- coarse to fine over half of the steps gains insertion (.847 to .884) and deletion at a cost in energy. Looked at
  (`figure_method.py`), the coarsest mask mostly falls evenly before the others join: it is a later start of the finer ones.
- distance and node: absolute, squared, KL and shortfall of the probability are near one another; the class's logit loses
  energy.
- area weight 30: 20 and less are worse in all, 40 gains energy on digits and was not tried on photographs.
- total variation gains little (.3 to 3 alike), the removal term costs energy at the same evaluations, a bound on the area
  fails with Adam, whose steps have one size for all cells.
- fill: blur, mean and both in turn are near one another on digits, noise among them costs energy. Blur is kept for
  photographs, where no table of ours has compared them yet.
- more steps buy energy (.77 to .84) and sell insertion; `best` takes 60. 5 steps are too few, 10 lose little.
- final smoothing gains PxAP (.82 to .85) and costs energy; jitter and other stacking weights change little.
- Adam: nadam is as good, lion trades deletion for energy; momentum, at the one learning rate tried, leaves the map broad: the
  highest insertion (.916) and hardly any energy. L-BFGS spends its evaluations on line searches.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from benchmark_imagenet import laid_out
from rich.console import Console
from rich.table import Table

import mdm_jax
from mdm_jax import load_model
from mdm_jax.data.sources import open_source
from mdm_jax.errors import InputError, unknown
from mdm_jax.evaluation.framing import Framed, frames, spread
from mdm_jax.evaluation.scores import difference, verdict
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
    ],
    "schedule": each("schedule", "independent"),
    "sizes": each("sizes", [8, 16], [16, 32], [4, 8, 16, 32], [8, 16, 32, 64]),
    "parametrisation": [{"parametrisation": "box", "learning_rate": rate} for rate in (0.05, 0.15)],
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
    "area in time": [*objective(lost_share=1.0, late_area=50.0), {"objective": {"lost_share": 1.0}, "area_budget": 0.05}],
    "smoothness": each("objective.total_variation", 0.3, 1.0, 3.0),
    "removal": [{"objective.removal": weight, "steps": 7, "learning_rate": 1.0} for weight in (0.3, 1.0)],
    "fill": [
        *({"fill": name} for name in ("blur", "mean", "grey")),
        *({"fill": names} for names in (["blur", "mean"], ["blur", "mean", "noise"])),
    ],
    "jitter": each("jitter", 1, 2, 4),
    "stacking weights": each("stack_weights", 0.0, 0.5, 1.0, 2.0),
    "final smoothing": each("smoothing", 0.5, 1.0, 2.0),
    "learning rate": each("learning_rate", 0.3, 0.5, 0.7, 1.0),
    "steps": each("steps", 5, 8, 10, 12, 15, 20, 30, 60),
    "optimiser": [
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
    """images; every second one is reported, the others tune. None of them is among those of the benchmarks"""
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
    odd = [2 * i + 1 for i in spread(len(source) // 2, config.limit)]  # the benchmarks look at even ones
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
    """The rows on the images that did not tune; + - = against the default, by the 95 % interval of the paired difference."""
    count = len(sweep.ids)
    tuned, held = sweep.of_images(range(0, count, 2)), sweep.of_images(range(1, count, 2))
    quality = tuned.quality(QUALITY)
    table = Table("choice", "settings", *(name.split(":")[0] for name in held.metrics), "F+B", "tuned on", title=title)
    default = held.outcomes[0].measured
    values: Mapping[str, Any] = {name: held.values(name) for name in held.metrics}
    for choice, i in rows:
        cells = []
        for name, metric in held.metrics.items():
            ours = held.outcomes[i].measured.get(name)
            mark = "" if ours is None or i == 0 else MARKS[verdict(metric.better, difference(metric, ours, default[name])[1])]
            cells.append(f"{values[name][i]:.3f}{mark}")
        table.add_row(choice, label(sweep.points[i]), *cells, f"{held.evaluations[i]:.0f}", f"{quality[i]:.3f}")
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
