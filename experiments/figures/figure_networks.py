"""What CNNs and Transformers look at: the same digits through ResNet, DenseNet and ViT.

    python experiments/figures/figure_networks.py               # docs/images/networks.png
    python experiments/figures/figure_networks.py --count 500

Only images count that all three networks classify correctly, so that all explain the same class;
they are spread evenly over the test split, and those drawn are the first. Intervals are the 95 %
bootstrap's over images.

Results: `experiments/results/figure_networks.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import mdm_jax
from experiments.figures import figure_look as look
from experiments.record_results import Value, write
from mdm_jax import fills, mdm, nodes
from mdm_jax.config import PRESETS, MDMConfig
from mdm_jax.data.network_input import evenly_spaced
from mdm_jax.evaluation.statistics import Interval, estimate
from mdm_jax.metrics.metric import mean
from mdm_jax.metrics.similarity import spearman
from mdm_jax.prototypes.boxes import top_share
from mdm_jax.types import Explanation

NETWORKS = {
    "resnet": ("ResNet", look.BLUE, "o"),
    "densenet": ("DenseNet", look.GREEN, "s"),
    "vit": ("ViT", look.ORANGE, "D"),
}
Measure = tuple[float, Interval]


@dataclass(frozen=True)
class Config:
    """What is compared."""

    count: int = 140
    """images looked at; those that a network gets wrong are left out"""
    drawn: int = 5
    preset: str = "fast"
    rim: int = 4
    """pixels about the digit that count as its rim"""
    share: float = 0.05
    """of the image, the most salient pixels, whose overlap between networks is measured"""
    seed: int = 0
    out: Path = look.FIGURES / "networks.png"
    results: str = "figure_networks"
    """name of the file in experiments/results that is written; none when empty"""


def main(config: Config) -> None:
    numbers = np.asarray(evenly_spaced(10_000, config.count))
    images, masks, labels = look.stacked(look.digits(numbers))
    networks = {name: mdm_jax.load_model(name) for name in NETWORKS}
    correct = np.all(
        [
            np.asarray(jax.jit(network)(images)[0]).argmax(-1) == labels
            for network in networks.values()
        ],
        axis=0,
    )
    images, masks, labels, numbers = (
        each[correct] for each in (images, masks, labels, numbers)
    )
    settings = PRESETS[config.preset]
    how = {"config": settings, "key": config.seed, "ids": numbers.tolist()}
    found = {
        name: mdm_jax.explain(network, images, labels, **how)
        for name, network in networks.items()
    }
    own = {name: localization(each, masks, config) for name, each in found.items()}
    between = {
        (one, other): overlap(found[one].saliency, found[other].saliency, config)
        for one, other in combinations(NETWORKS, 2)
    }
    seen = exchange_masks(networks, found, images, labels, settings, numbers)
    report(own, between, seen, len(images), config)
    look.write(draw(config, images, masks, labels, found, own, between, seen), config.out)
    if config.results:
        write(config.results, values_of(own, between, seen, len(images), config))


def values_of(own: Any, between: Any, seen: Any, count: int, config: Config) -> list[Value]:
    """All figures with their intervals, for the results."""
    measures = {
        (quantity, NETWORKS[name][0]): measure
        for name, quantities in own.items()
        for quantity, measure in quantities.items()
    }
    for (theirs, ours), measure in seen.items():
        quantity = f"sees through the mask of {NETWORKS[theirs][0]}"
        measures[quantity, NETWORKS[ours][0]] = measure
    values: list[Value] = []
    for (quantity, network), (value, (low, high)) in measures.items():
        what = {"quantity": quantity, "network": network, "images": count}
        values.append(what | {"value": value, "low": low, "high": high})
    for pair, quantities in between.items():
        networks = " and ".join(NETWORKS[name][0] for name in pair)
        for quantity, (value, (low, high)) in quantities.items():
            what = {"quantity": quantity, "networks": networks, "images": count}
            values.append(what | {"value": value, "low": low, "high": high})
    chance = config.share / (2 - config.share)
    values.append({"quantity": "IoU by chance", "networks": "any", "value": chance})
    return values


def localization(
    found: Explanation, masks: np.ndarray, config: Config
) -> dict[str, Measure]:
    """How much a network's masks keep, and where."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * config.rim + 1,) * 2)
    near = np.stack([cv2.dilate(mask.astype(np.uint8), kernel) for mask in masks]).astype(
        bool
    )
    saliency, whole = found.saliency, found.saliency.sum(axis=(1, 2))
    peak = saliency.reshape(len(saliency), -1).argmax(axis=1)
    return {
        "area kept": estimate(mean, found.info.kept_area),
        "saliency on the digit": estimate(
            mean, (saliency * masks).sum(axis=(1, 2)) / whole
        ),
        "on its rim": estimate(mean, (saliency * (near & ~masks)).sum(axis=(1, 2)) / whole),
        "elsewhere": estimate(mean, (saliency * ~near).sum(axis=(1, 2)) / whole),
        "peak on the digit": estimate(
            mean, masks.reshape(len(masks), -1)[np.arange(len(masks)), peak].astype(float)
        ),
        "probability kept": estimate(
            mean, found.info.activation_masked / found.info.activation
        ),
    }


def overlap(first: np.ndarray, second: np.ndarray, config: Config) -> dict[str, Measure]:
    """How alike the maps of two networks are."""
    region = jax.jit(jax.vmap(lambda saliency: top_share(saliency, config.share)))
    a, b = np.asarray(region(first)), np.asarray(region(second))
    both, either = (a & b).sum(axis=(1, 2)), (a | b).sum(axis=(1, 2))
    alike = np.asarray(jax.jit(jax.vmap(spearman))(first, second))
    return {"IoU": estimate(mean, both / either), "rank correlation": estimate(mean, alike)}


def exchange_masks(
    networks: Any, found: Any, images: Any, labels: Any, settings: MDMConfig, numbers: Any
) -> dict[Any, Measure]:
    """What each network keeps of its probability when it looks through the masks of another, with
    the fill of MDM.

    The mask is the one that the saliency map is stretched from.
    """
    kept, fill = {}, fills.resolve_turns(settings.fill)[0]
    behind = np.stack(
        [
            fill(jnp.asarray(image), key=jax.random.key(number))
            for image, number in zip(images, numbers)
        ]
    )
    for theirs, explanation in found.items():
        mask = stacked_masks(explanation.mask_vectors, images.shape[1:3], settings)[
            ..., None
        ]
        seen = mask * images + (1 - mask) * behind
        for ours, network in networks.items():
            before, after = (
                np.asarray(probability(network, each, labels)) for each in (images, seen)
            )
            kept[theirs, ours] = estimate(mean, after / before)
    return kept


@jax.jit
def probability(network: Any, images: Any, labels: Any) -> Any:
    return jax.vmap(nodes.resolve("probability"))(network(images), labels)


def stacked_masks(vectors: Any, shape: tuple[int, int], settings: MDMConfig) -> np.ndarray:
    """The stacked masks [n, h, w] that the images are seen through."""
    return np.asarray(
        jax.jit(jax.vmap(lambda each: mdm.stacked_mask(each, shape, settings)))(vectors)
    )


def report(own: Any, between: Any, seen: Any, count: int, config: Config) -> None:
    table = Table(
        title=f"{count} digits that all three networks get right, 95 % intervals",
        box=None,
        title_justify="left",
    )
    for column in ("", *(NETWORKS[name][0] for name in own)):
        table.add_column(column, no_wrap=True)
    for quantity in next(iter(own.values())):
        table.add_row(quantity, *(format_measure(own[name][quantity]) for name in own))
    for theirs in own:
        table.add_row(
            f"sees through the mask of {NETWORKS[theirs][0]}",
            *(format_measure(seen[theirs, ours]) for ours in own),
        )
    console = Console(width=120, highlight=False)
    console.print(table)
    for pair, values in between.items():
        names = " and ".join(NETWORKS[name][0] for name in pair)
        console.print(
            f"{names}: "
            + ", ".join(f"{name} {format_measure(value)}" for name, value in values.items())
        )
    console.print(
        f"IoU: of the {config.share:.0%} most salient pixels; two random regions have"
        f" {config.share / (2 - config.share):.3f}"
    )


def format_measure(measure: Measure) -> str:
    value, (low, high) = measure
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def draw(config: Config, images, masks, labels, found, own, between, seen) -> Figure:
    rows = min(config.drawn, len(images))
    title = (
        "What CNNs and Transformers look at: the same digits, explained by MDM (numbers:"
        f" {len(images)} digits)"
    )
    figure = look.begin(1.2 * rows + 0.75, title)
    left, right = look.parts(figure, 1, 2, width_ratios=[4.6, 3.8])
    grid = left.subplots(rows, 1 + len(found), squeeze=False)
    for row, line in enumerate(grid):
        look.show(line[0], images[row], above="image" if row == 0 else "")
        look.row_name(line[0], f"“{labels[row]}”")
        for ax, (name, each) in zip(line[1:], found.items()):
            on = float((each.saliency[row] * masks[row]).sum() / each.saliency[row].sum())
            below = (
                f"area {100 * each.info.kept_area[row]:.0f} %\non digit {100 * on:.0f} %"
            )
            look.heat(
                ax,
                images[row],
                each.saliency[row],
                masks[row],
                above=NETWORKS[name][0] if row == 0 else "",
                below=below,
            )
    top, middle, bottom = right.subplots(3, 1, height_ratios=[1.5, 1.0, 1.25])
    look.plain(top)
    quantities = (
        "area kept",
        "saliency on the digit",
        "on its rim",
        "elsewhere",
        "peak on the digit",
    )
    intervals(
        top,
        {NETWORKS[name]: [own[name][each] for each in quantities] for name in own},
        quantities,
    )
    add_title(top, "where the saliency lies (95 % intervals)")
    look.plain(middle)
    pairs = [", ".join(NETWORKS[name][0] for name in pair) for pair in between]
    kinds = {
        ("IoU of the top 5 %" if config.share == 0.05 else "IoU", look.INK, "o"): "IoU",
        ("rank correlation", look.SOFT, "^"): "rank correlation",
    }
    intervals(
        middle,
        {
            style: [values[kind] for values in between.values()]
            for style, kind in kinds.items()
        },
        pairs,
    )
    add_title(middle, "how alike the maps of two networks are")
    matrix(bottom, seen, list(own))
    return figure


def intervals(
    ax: Axes, series: dict[tuple[str, str, str], list[Measure]], names: Any
) -> None:
    """Values with their intervals, a row a quantity, the series beside each other."""
    step = 0.2
    for place, ((name, color, marker), measures) in enumerate(series.items()):
        y = np.arange(len(names)) + step * (place - (len(series) - 1) / 2)
        values = np.asarray([value for value, _ in measures])
        spans = np.abs(np.asarray([interval for _, interval in measures]).T - values)
        ax.errorbar(
            values, y, xerr=spans, fmt=marker, ms=4, color=color, elinewidth=1.2, label=name
        )
    ax.set(
        yticks=range(len(names)),
        yticklabels=list(names),
        xlim=(0, 1.03),
        ylim=(len(names) - 0.5, -0.5),
    )
    ax.grid(axis="y", visible=False)


def add_title(ax: Axes, title: str) -> None:
    """A title with the legend in one line below it, above the axes."""
    ax.set_title(title, fontsize=look.TEXT, color=look.INK, loc="left", pad=19)
    ax.legend(
        fontsize=look.SMALL,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(-0.03, 0.98),
        ncols=3,
        handletextpad=0.1,
        columnspacing=1.0,
        borderpad=0.2,
    )


def matrix(ax: Axes, seen: Any, names: list[str]) -> None:
    """Numbers on a shade: the share of its probability that a network keeps through another's
    masks."""
    values = np.asarray([[seen[theirs, ours][0] for ours in names] for theirs in names])
    ax.imshow(values, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        ax.text(
            column,
            row,
            f"{100 * value:.0f} %",
            ha="center",
            va="center",
            fontsize=look.SMALL,
            color=look.INK,
        )
    shown = [NETWORKS[name][0] for name in names]
    ax.set(
        xticks=range(len(names)),
        xticklabels=shown,
        yticks=range(len(names)),
        yticklabels=[f"mask of {name}" for name in shown],
    )
    ax.tick_params(labelsize=look.SMALL, length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(
        "what each network (column) keeps of its\nprobability through the masks of another",
        fontsize=look.TEXT,
        loc="left",
        color=look.INK,
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
