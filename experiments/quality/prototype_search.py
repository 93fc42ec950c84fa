"""Which region is a prototype's? Every region of a trained network, compared at equal area.

    mdm train experiments/configs/digits_protopnet.toml --out digits-protopnet
    python experiments/quality/prototype_search.py digits-protopnet     # 500 test digits
    python experiments/quality/prototype_search.py digits-protopnet --pairs source --checks
    python experiments/quality/prototype_search.py tiles --data folder:magnetic-tile --split test

A pair is an image and the prototype of the predicted class that is most similar to it (one pair an
image, so that the bootstrap over pairs is one over images), or a prototype and the training image
that it was pushed to (`--pairs source`). Written to the folder of `--out`: `table.md`, `table.csv`
(every measure), and `worst.png`, the pairs where MDM loses most against the map that the network
shows.

Results: `experiments/results/prototype_search_*.json`, shown in `docs/measurements.md`.
"""

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

from experiments.record_results import Value, write
from mdm_jax import load_model
from mdm_jax.data import open_source
from mdm_jax.data.network_input import PreparedExample, evenly_spaced, prepare_examples
from mdm_jax.errors import InputError
from mdm_jax.evaluation import table_text, tables
from mdm_jax.evaluation.formatting import format_estimate
from mdm_jax.prototypes import boxes, regions, search
from mdm_jax.prototypes.comparison import (
    CHECKS,
    Comparison,
    PairAnnotations,
    compare_regions,
)
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
    results: str | None = None
    """name of the file in experiments/results that is written, by default with the network's; none
    when empty"""


def main(config: Config) -> int:
    classifier, console = load_model(weights=config.model), Console(width=200)
    framed, prototypes = choose_pairs(config, classifier)
    images = np.stack([each.image for each in framed])
    names = config.regions or (
        *regions.applicable_regions(classifier, images.shape[1:]),
        "center",
    )
    with console.status("...") as status:
        compared = compare_regions(
            classifier,
            images,
            prototypes,
            regions=names,
            annotations=PairAnnotations(
                masks=[each.mask for each in framed],
                parts=[each.parts for each in framed],
                part_names=getattr(
                    open_source(config.data, config.split), "part_names", None
                ),
            ),
            checks=config.checks,
            key=config.seed,
            ids=[f"{each.id}/{prototype}" for each, prototype in zip(framed, prototypes)],
            name=config.model.name,
            on_progress=lambda what, done: status.update(
                f"{what}: {done} of {len(images)}"
            ),
        )
    config.out.mkdir(parents=True, exist_ok=True)
    table = compared.table()
    (config.out / "table.md").write_text(table_text.markdown(table))
    (config.out / "table.csv").write_text(
        table_text.to_csv(compared.table(metrics=list(METRICS)))
    )
    draw_worst(compared, images).savefig(config.out / "worst.png", dpi=120)
    report(console, compared, table)
    network = config.model.name.replace("-", "_")
    name = f"prototype_search_{network}" if config.results is None else config.results
    if name:
        write(name, values_of(table, network))
    return 0


def values_of(table: tables.Table, network: str) -> list[Value]:
    """The table's values for the results; verdicts are against MDM's region."""
    return [
        {
            "network": network,
            "region": row.method,
            "measure": name,
            "value": cell.summary.value,
            "low": cell.summary.interval.low,
            "high": cell.summary.interval.high,
            "verdict": cell.verdict,
            "pairs": cell.summary.counted,
        }
        for row in table.rows
        for name, cell in row.cells.items()
    ]


def choose_pairs(
    config: Config, classifier: Any
) -> tuple[list[PreparedExample], np.ndarray]:
    """The images of the pairs and their prototypes."""
    if config.pairs == "source":
        found = record.read(config.model)
        if found is None:
            raise InputError(
                f"{config.model} has no record of a push: compare the strongest prototypes of test"
                " images"
            )
        pushed = [each for each in found.pushed if each.item is not None]
        pushed = [pushed[i] for i in evenly_spaced(len(pushed), config.limit)]
        source = open_source(config.data, found.split)
        return _prepare(source, [each.item for each in pushed], classifier), np.asarray(
            [each.prototype for each in pushed]
        )
    source = open_source(config.data, config.split)
    items = [
        config.skip + item
        for item in evenly_spaced(len(source) - config.skip, config.limit)
    ]
    framed = _prepare(source, items, classifier)
    seen = search.activations(classifier, np.stack([each.image for each in framed]))
    return framed, search.strongest(seen, search.prototype_classes(classifier))[:, 0]


def _prepare(source: Any, items: Sequence[Any], classifier: Any) -> list[PreparedExample]:
    framed = [
        each
        for each in prepare_examples(source, items, classifier.preprocessing)
        if isinstance(each, PreparedExample)
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
    console.print(
        f"{'':34s}" + "".join(f"{method:>28s}" for method in methods), highlight=False
    )
    for name in table.metrics:
        cells = []
        for row in table.rows:
            cell = row.cells[name]
            mark = {"better": "+", "worse": "-", "tied": "="}.get(cell.verdict, " ")
            estimate = format_estimate(cell.summary.value, cell.summary.interval)
            cells.append(f"{estimate}{mark}")
        console.print(
            f"{name:34s}" + "".join(f"{cell:>28s}" for cell in cells), highlight=False
        )
    seconds = "".join(f"{compared.seconds[method]:28.1f}" for method in methods)
    console.print(
        f"{f'seconds for {len(compared.ids)} regions':34s}{seconds}", highlight=False
    )


def draw_worst(compared: Comparison, images: np.ndarray) -> Figure:
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
            axes.imshow(
                images[i].clip(0, 1), cmap="gray" if images.shape[-1] == 1 else None
            )
            axes.set(xticks=[], yticks=[])
            if name is None:
                axes.set_title(f"prototype {compared.prototypes[i]}", fontsize=7)
                continue
            region = np.asarray(
                boxes.top_share(compared.explanations[name].saliency[i], 0.05)
            )
            axes.imshow(
                np.where(region, np.nan, 1.0), cmap="gray", alpha=0.65, vmin=0, vmax=1
            )
            axes.set_title(
                f"{name} {compared.scores(name).per_image('retention:gray')[i]:.2f}",
                fontsize=7,
            )
    return figure


if __name__ == "__main__":
    sys.exit(
        main(tyro.cli(Config, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
    )
