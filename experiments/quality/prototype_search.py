"""Which region is a prototype's? Every region of a trained prototype network, compared at equal
area.

    mdm train experiments/configs/digits_protopnet.toml --out digits-protopnet
    python experiments/quality/prototype_search.py digits-protopnet
      # 500 test items of digits
    python experiments/quality/prototype_search.py digits-protopnet --pairs source --checks
      # the prototypes' own images
    python experiments/quality/prototype_search.py tiles --data folder:magnetic-tile --split test

A pair is an image and the prototype of the predicted class that is most similar to it (one pair an
image, so that the bootstrap over pairs is one over images), or a prototype and the training image
that it was pushed to. Written to the folder of `--out`: `table.md`, `table.csv` (every measure),
and `worst.png`, the pairs where MDM loses most against the map that the network shows.

Measured on 2 CPU cores that were shared with other work (jax 0.10.2), the networks of
`train_prototypes.py`; MDM by default, whose settings were chosen on training digits. Value [95 %
interval]; * : the paired difference from MDM is apart from 0.

200 test digits, `--limit 200 --skip 3000 --checks`   (23 prototypes of the ProtoPNet, 24 of the
XProtoNet)

    ProtoPNet             activation map       cell                 Grad-CAM             MDM
    retention, gray       .558 [.496, .616]*   .721 [.689, .753]*   .321 [.274, .371]*   .928 [.897,
    .961] retention, blur       .565 [.505, .621]*   .723 [.690, .754]*   .320 [.274, .369]*   .932
    [.908, .958] removal, gray         .077 [.061, .104]*   .080 [.071, .091]*   .485 [.420, .548]*
    .058 [.046, .073] removal, blur         .063 [.056, .072]    .079 [.070, .090]*   .487 [.422,
    .551]*   .054 [.044, .067] removal, distance     .328 [.309, .348]*   .264 [.247, .282]*   .612
    [.562, .661]*   .293 [.276, .311]   the cell wins least area, similarity .609 [.552, .668]*
    .210 [.195, .225]*   .628 [.577, .677]*   .100 [.075, .128] least area, distance  .259 [.214,
    .307]*   .139 [.130, .150]*   .549 [.495, .602]*   .030 [.026, .038] IoU with the digit    .333
    [.317, .350]*   .284 [.268, .301]*   .148 [.126, .170]*   .611 [.598, .625]

    the same, 500 digits, `--regions activation_map grad_cam mdm`; 500 regions by MDM took 99 s
    retention, gray       .546 [.507, .583]*                        .317 [.288, .348]*   .930 [.912,
    .949] retention, blur       .562 [.522, .600]*                        .320 [.290, .350]*   .937
    [.920, .953] removal, gray         .074 [.065, .086]*                        .480 [.441, .518]*
    .057 [.050, .064] removal, blur         .065 [.060, .070]*                        .477 [.439,
    .515]*   .055 [.049, .062] least area, similarity .608 [.571, .646]*                       .630
    [.599, .662]*   .084 [.072, .098] least area, distance  .277 [.246, .309]*
    .556 [.521, .591]*   .030 [.027, .033]

    XProtoNet             occurrence map                            Grad-CAM             MDM
    retention, gray       .620 [.579, .657]*                        .290 [.229, .350]*   .928 [.918,
    .936] retention, blur       .630 [.588, .669]*                        .286 [.221, .348]*   .940
    [.933, .946] removal, gray         -.117 [-.157, -.078]*                     .128 [.063, .191]*
    -.162 [-.202, -.123] removal, blur         -.141 [-.186, -.097]*                     .112 [.046,
    .175]*   -.196 [-.241, -.151] least area, similarity .199 [.178, .222]*
    .459 [.414, .502]*   .028 [.026, .030] least area, distance  .194 [.173, .216]*
    .461 [.417, .504]*   .033 [.027, .042] IoU with the digit    .282 [.265, .299]*
    .184 [.167, .201]*   .633 [.622, .646]

60 test tiles, Transformers of 10x10 tokens, `--data folder:magnetic_tile --limit 60 --checks`

    ProtoPNet             activation map       Grad-CAM             MDM
    retention, gray       .338 [.296, .387]*   .524 [.461, .592]    .522 [.468, .578]
    retention, blur       .451 [.390, .513]*   .539 [.468, .615]*   .695 [.645, .743]
    removal, gray         .219 [.191, .248]*   .566 [.506, .626]*   .523 [.466, .586]   the map wins
    removal, blur         .490 [.427, .559]*   .670 [.616, .727]*   .622 [.570, .678]   the map wins
    least area, similarity .632 [.513, .753]*  .664 [.545, .778]*   .553 [.435, .661]   not half
    IoU with the defect   .069 [.036, .104]*   .130 [.059, .219]    .190 [.137, .249]

    XProtoNet             occurrence map       Grad-CAM             MDM
    retention, gray       .117 [.038, .198]*   .112 [.029, .197]*   .214 [.132, .295]
    retention, blur       .242 [.149, .331]*   .175 [.079, .269]*   .539 [.475, .604]
    removal, gray         .253 [.178, .330]    .308 [.223, .388]*   .237 [.167, .311]
    removal, blur         .482 [.407, .560]*   .517 [.428, .601]*   .365 [.299, .431]
    least area, similarity .911 [.849, .962]   .945 [.898, .982]    .924 [.877, .963]   not half
    IoU with the defect   .107 [.054, .170]*   .089 [.035, .157]*   .223 [.168, .282]

Looked at: on tiles the ProtoPNet's nearest token is mostly one in a corner, where the Transformer
keeps what it knows of the whole image. Nothing is to be seen there, but the similarity falls at
once when corners go, so the map of corners wins removal; and no region is needed to keep the
similarity, because a gray tile has most of it (a disc in the middle: .602). A `removal` term in the
objective did not help (20 training tiles: .462 instead of .477). On digits MDM fails where another
composition of clutter satisfies the maximum at another place (retention .02 in the worst pair of
200; with the position frozen .77).

Checks, 50 digits (`--limit 50`): regions under noise overlap (IoU at 10 %) .860 for MDM, .864 for
the activation map; under permuted prototypes .466 and .407; under a fresh backbone .210 and .068
(chance .05). XProtoNet's occurrence map is the same whatever its prototype is (1.000 under permuted
prototypes, MDM .664): it says where to look, not what was found."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.console import Console

from mdm_jax import load_model
from mdm_jax.data import open_source
from mdm_jax.data.network_input import Framed, frames, spread
from mdm_jax.errors import InputError
from mdm_jax.evaluation import table_text, tables
from mdm_jax.evaluation.formatting import format_estimate
from mdm_jax.prototypes import boxes, regions, search
from mdm_jax.prototypes.comparison import CHECKS, Comparison, compare
from mdm_jax.prototypes.metrics import METRICS
from mdm_jax.training.prototypes import record

SHOWN = ("activation_map", "occurrence_map")
"""what a network shows of itself, the first that it has"""
WORST = 8


@dataclass(frozen=True)
class Config:
    model: tyro.conf.Positional[Path]
    """folder of a trained prototype network"""
    data: str = "digits"
    split: str = "test"
    limit: int = 500
    """pairs, spread evenly over the data or the prototypes"""
    skip: int = 0
    """items at the beginning of the split that are left out"""
    pairs: str = "strongest"
    """strongest: each image with the most similar prototype of the predicted class; source: each
    prototype with its own"""
    regions: tuple[str, ...] = ()
    """by default all that the network has, and a Gaussian in the middle of the image"""
    checks: tuple[str, ...] = CHECKS
    """noise, prototypes, backbone; each costs every region once more"""
    seed: int = 0
    out: Path = Path("prototype-search")


def main(config: Config) -> int:
    classifier, console = load_model(weights=config.model), Console(width=200)
    framed, prototypes = chosen(config, classifier)
    images = np.stack([each.image for each in framed])
    names = config.regions or (*regions.applicable(classifier, images.shape[1:]), "center")
    with console.status("...") as status:
        compared = compare(
            classifier,
            images,
            prototypes,
            regions=names,
            masks=[each.mask for each in framed],
            parts=[each.parts for each in framed],
            part_names=getattr(open_source(config.data, config.split), "part_names", None),
            checks=config.checks,
            key=config.seed,
            ids=[f"{each.id}/{prototype}" for each, prototype in zip(framed, prototypes)],
            name=config.model.name,
            on_progress=lambda what, done: status.update(f"{what}: {done} of {len(images)}"),
        )
    config.out.mkdir(parents=True, exist_ok=True)
    table = compared.table()
    (config.out / "table.md").write_text(table_text.markdown(table))
    (config.out / "table.csv").write_text(table_text.to_csv(compared.table(metrics=list(METRICS))))
    worst(compared, images).savefig(config.out / "worst.png", dpi=120)
    report(console, compared, table)
    return 0


def chosen(config: Config, classifier: Any) -> tuple[list[Framed], np.ndarray]:
    """The images of the pairs and their prototypes."""
    if config.pairs == "source":
        found = record.read(config.model)
        if found is None:
            raise InputError(
                f"{config.model} has no record of a push: compare the strongest prototypes of test"
                " images"
            )
        pushed = [each for each in found.pushed if each.item is not None]
        pushed = [pushed[i] for i in spread(len(pushed), config.limit)]
        source = open_source(config.data, found.split)
        return _framed(source, [each.item for each in pushed], classifier), np.asarray(
            [each.prototype for each in pushed]
        )
    source = open_source(config.data, config.split)
    items = [config.skip + item for item in spread(len(source) - config.skip, config.limit)]
    framed = _framed(source, items, classifier)
    seen = search.activations(classifier, np.stack([each.image for each in framed]))
    return framed, search.strongest(seen, search.prototype_classes(classifier))[:, 0]


def _framed(source: Any, items: Sequence[Any], classifier: Any) -> list[Framed]:
    framed = [
        each for each in frames(source, items, classifier.preprocessing) if isinstance(each, Framed)
    ]
    if len(framed) < len(items):
        raise InputError(
            f"{len(items) - len(framed)} items of {source.name} cannot be read: mend them first"
        )
    return framed


def report(console: Console, compared: Comparison, table: tables.Table) -> None:
    for line in table.notes:
        console.print(line)
    methods = [row.method for row in table.rows]
    console.print(f"{'':34s}" + "".join(f"{method:>28s}" for method in methods), highlight=False)
    for name in table.metrics:
        cells = []
        for row in table.rows:
            cell = row.cells[name]
            mark = {"better": "+", "worse": "-", "tied": "="}.get(cell.verdict, " ")
            estimate = format_estimate(cell.summary.value, cell.summary.interval)
            cells.append(f"{estimate}{mark}")
        console.print(f"{name:34s}" + "".join(f"{cell:>28s}" for cell in cells), highlight=False)
    seconds = "".join(f"{compared.seconds[method]:28.1f}" for method in methods)
    console.print(f"{f'seconds for {len(compared.ids)} regions':34s}{seconds}", highlight=False)


def worst(compared: Comparison, images: np.ndarray) -> Figure:
    """The pairs whose MDM region keeps least in comparison with the map that the network shows: the
    top 5 % of each region."""
    ours = "mdm" if "mdm" in compared.explanations else next(iter(compared.explanations))
    shown = next((name for name in SHOWN if name in compared.explanations), ours)
    scores = [compared.scores(name).per_image("retention:gray") for name in (ours, shown)]
    gap = np.where(np.isfinite(scores[0] - scores[1]), scores[0] - scores[1], np.inf)
    rows, names = np.argsort(gap)[:WORST], list(compared.explanations)
    figure = Figure(figsize=(1.6 * (len(names) + 1), 1.8 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(names) + 1, squeeze=False)
    for line, i in zip(grid, rows):
        for axes, name in zip(line, [None, *names]):
            axes.imshow(images[i].clip(0, 1), cmap="gray" if images.shape[-1] == 1 else None)
            axes.set(xticks=[], yticks=[])
            if name is None:
                axes.set_title(f"prototype {compared.prototypes[i]}", fontsize=7)
                continue
            region = np.asarray(boxes.top_share(compared.explanations[name].saliency[i], 0.05))
            axes.imshow(np.where(region, np.nan, 1.0), cmap="gray", alpha=0.65, vmin=0, vmax=1)
            axes.set_title(
                f"{name} {compared.scores(name).per_image('retention:gray')[i]:.2f}", fontsize=7
            )
    return figure


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))))
