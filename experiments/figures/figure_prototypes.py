"""Prototypes before and after: the network's own activation map, and MDM at the prototype's node.

    python experiments/figures/figure_prototypes.py    # docs/images/prototypes_before_after.png

Each prototype on the training image that it was pushed to. Outlined: the most salient 5 % of the
image. Below: how much of the similarity is left when only this region stays, on gray; both regions
have the same area. ProtoPNet's similarity is a logarithm and on these images at its largest, so
that the last hundredth of the way to the prototype is most of it; therefore also the share of the
way: from the distance of a gray image to that of the whole one. ProtoPNet shows an activation map,
XProtoNet an occurrence map. The prototypes drawn are spread over all, not chosen; the numbers are
of all, with 95 % bootstrap intervals.

Results: `experiments/results/figure_prototypes.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

import mdm_jax
from experiments.figures import figure_look as look
from experiments.record_results import Value, write
from mdm_jax import prototypes
from mdm_jax.data.network_input import evenly_spaced
from mdm_jax.evaluation.statistics import Interval, estimate
from mdm_jax.fills import neutral_color
from mdm_jax.metrics.metric import mean
from mdm_jax.models.pretrained import EMBEDDED
from mdm_jax.prototypes.boxes import top_share
from mdm_jax.training.prototypes import record
from mdm_jax.views.outline import dim_outside, draw_outline
from mdm_jax.views.prototype_figures import MINUS

OWN = {"protopnet": "activation_map", "xprotonet": "occurrence_map"}
NAMES = {"protopnet": "ProtoPNet", "xprotonet": "XProtoNet"}
LOGARITHMIC = ("protopnet",)
LEFT = ("similarity", "way")
BEFORE, AFTER = "#56b4e9", "#e69f00"


@dataclass(frozen=True)
class Config:
    """What is drawn."""

    models: tuple[str, ...] = ("protopnet", "xprotonet")
    """embedded prototype networks"""
    columns: int = 8
    """prototypes drawn of each"""
    share: float = 0.05
    """of the image that a region covers"""
    seed: int = 0
    out: Path = look.FIGURES / "prototypes_before_after.png"
    results: str = "figure_prototypes"
    """name of the file in experiments/results that is written; none when empty"""


class Found(NamedTuple):
    """A network's prototypes on their source images."""

    labels: list[str]
    images: np.ndarray
    maps: dict[str, np.ndarray]
    """[m, h, w] by region"""
    kept: dict[str, np.ndarray]
    """[m, k] what is left by region: shares of the similarity, and of the way where the similarity
    is a logarithm"""


def main(config: Config) -> None:
    networks = {name: search(name, config) for name in config.models}
    recorded: list[Value] = []
    for name, found in networks.items():
        (own, before), (_, after) = found.kept.items()
        print(
            f"{NAMES[name]}, {len(found.labels)} prototypes, {config.share:.0%} of the image"
        )
        for number, what in enumerate(LEFT[: before.shape[1]]):
            values = (
                before[:, number],
                after[:, number],
                after[:, number] - before[:, number],
            )
            measures = [estimate(mean, value) for value in values]
            for region, (value, (low, high)) in zip(
                (own.replace("_", " "), "MDM", "MDM more by"), measures
            ):
                it = {"network": NAMES[name], "quantity": what, "region": region}
                count = {"prototypes": len(found.labels)}
                recorded.append(it | {"value": value, "low": low, "high": high} | count)
            first, second, more = (format_measure(measure) for measure in measures)
            print(
                f"  {what}: {own.replace('_', ' ')} keeps {first}, MDM {second}, more by {more}"
            )
    look.write(draw(config, networks), config.out)
    if config.results:
        write(config.results, recorded)


def search(name: str, config: Config) -> Found:
    """Both regions of every prototype that was pushed to a training image, and what each keeps."""
    network, kept_record = mdm_jax.load_model(name), record.read(EMBEDDED[name])
    assert kept_record is not None
    pushed = [each for each in kept_record.pushed if each.item is not None]
    images = np.stack(
        [
            each.image
            for each in look.digits(
                [each.item for each in pushed if each.item is not None], kept_record.split
            )
        ]
    )
    numbers, regions = np.asarray([each.prototype for each in pushed]), (OWN[name], "mdm")
    found = prototypes.find_regions(
        network, images, numbers, regions=regions, key=config.seed, ids=numbers.tolist()
    )
    gray = np.asarray(neutral_color(network, images.shape[-1]))
    region = jax.jit(jax.vmap(lambda saliency: top_share(saliency, config.share)))
    whole, nothing = (
        similar(network, each, numbers)
        for each in (images, np.broadcast_to(gray, images.shape))
    )
    kept = {}
    for way, each in found.items():
        inside = np.asarray(region(jnp.asarray(each.saliency)))[..., None]
        left = similar(network, np.where(inside, images, gray), numbers)
        shares = [left[0] / whole[0], (nothing[1] - left[1]) / (nothing[1] - whole[1])]
        kept[way] = np.stack(shares if name in LOGARITHMIC else shares[:1], axis=1)
    labels = [network.class_names[each.class_index] for each in pushed]
    return Found(labels, images, {way: each.saliency for way, each in found.items()}, kept)


def similar(
    network: Any, images: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Similarity and distance of prototype `numbers[i]` in image i."""
    seen = prototypes.activations(network, np.asarray(images, np.float32))
    rows = np.arange(len(numbers))
    return seen.similarities[rows, numbers], seen.distances[rows, numbers]


def format_measure(measure: tuple[float, Interval]) -> str:
    value, (low, high) = measure
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def format_shares(shares: np.ndarray, between: str) -> str:
    return between.join(
        f"{what} {100 * share:.0f} %".replace("-", MINUS)
        for what, share in zip(LEFT, shares)
    )


def draw(config: Config, networks: dict[str, Found]) -> Figure:
    title = (
        "Prototypes as the network shows them (before) and by MDM (after). Outlined:"
        f" {100 * config.share:g} % of the image.\nBelow: what this region alone keeps of the"
        " similarity (and of the way from a gray image to the prototype)."
    )
    figure = look.begin(len(networks) * 3.7 + 0.5, title, dpi=150)
    for part, (name, found) in zip(look.parts(figure, len(networks), 1), networks.items()):
        own, ours = found.kept
        before, after = (
            format_shares(kept.mean(axis=0), " and ") for kept in found.kept.values()
        )
        head = (
            f"{NAMES[name]}, mean of {len(found.labels)} prototypes. Before: {before}. After:"
            f" {after}."
        )
        part.suptitle(head, fontsize=look.TEXT, color=look.INK, x=0.01, ha="left")
        chosen = evenly_spaced(len(found.labels), config.columns)
        grid = part.subplots(3, len(chosen), squeeze=False)
        for column, i in enumerate(chosen):
            look.show(grid[0, column], found.images[i], above=f"“{found.labels[i]}”")
            for ax, way, color in zip(grid[1:, column], (own, ours), (BEFORE, AFTER)):
                saliency = found.maps[way][i]
                below = format_shares(found.kept[way][i], "\n")
                look.show(
                    ax, dim_outside(found.images[i], saliency, config.share), below=below
                )
                draw_outline(ax, saliency, config.share, color, saliency.shape)
        for ax, text in zip(
            grid[:, 0],
            ("training\nimage", f"before:\n{own.replace('_', ' ')}", "after:\nMDM"),
        ):
            look.row_name(ax, text)
    return figure


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
