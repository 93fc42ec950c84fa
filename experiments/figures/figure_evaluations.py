r"""Quality against network evaluations: MDM at several numbers of steps, and the baselines.

    python experiments/figures/figure_evaluations.py            # docs/images/evaluations.png
    python experiments/figures/figure_evaluations.py --count 300 --model vit \
        --out evaluations_vit.png --results figure_evaluations_vit

Cost: network evaluations of a map in forward passes, one with a gradient counts as three; the three
forwards with which every method reports on its map are in it. Intervals are the 95 % bootstrap's
over images, which all methods share: differences between methods are known better than the
intervals of each (see `mdm benchmark`, which pairs them).

Results: `experiments/results/figure_evaluations.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

import mdm_jax
from experiments.figures import figure_look as look
from experiments.record_results import Value, write
from mdm_jax import methods
from mdm_jax.config import PRESETS, MDMConfig
from mdm_jax.data.network_input import evenly_spaced
from mdm_jax.evaluation.cost import Cost
from mdm_jax.evaluation.formatting import ARROWS
from mdm_jax.evaluation.statistics import Summary

FAMILIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "RISE": (
        look.GREEN,
        "s",
        (
            "rise:num_samples=30",
            "rise:num_samples=100",
            "rise:num_samples=300",
            "rise:num_samples=1000",
        ),
    ),
    "SmoothGrad": (
        look.ORANGE,
        "^",
        (
            "smoothgrad:num_samples=5",
            "smoothgrad:num_samples=15",
            "smoothgrad:num_samples=50",
        ),
    ),
    "integrated gradients": (
        look.BLUE,
        "v",
        (
            "integrated_gradients:steps=5",
            "integrated_gradients:steps=15",
            "integrated_gradients:steps=50",
        ),
    ),
    "occlusion": (
        look.PINK,
        "P",
        ("occlusion:window=12,stride=6", "occlusion:window=8,stride=4", "occlusion"),
    ),
    "Grad-CAM": (look.SKY, "D", ("grad_cam",)),
    "gradient": (look.GRAY, "X", ("gradient",)),
    "random": (look.INK, "x", ("random",)),
}
"""color, marker, and the method at several costs"""
METRICS = ("insertion", "deletion", "energy")


@dataclass(frozen=True)
class Config:
    """What is measured."""

    model: str = "resnet"
    count: int = 48
    """images, spread evenly over the test split"""
    shares: tuple[float, ...] = (0.2, 0.5, 2.0)
    """of the default's steps at which MDM is run too"""
    presets: tuple[str, ...] = tuple(name for name in PRESETS if name != "fast")
    seed: int = 0
    out: Path = look.FIGURES / "evaluations.png"
    results: str = "figure_evaluations"
    """name of the file in experiments/results that is written; none when empty"""


class Point(NamedTuple):
    """A method at one cost."""

    label: str
    family: str
    cost: float
    """forward passes an image"""
    summary: dict[str, Summary]


def main(config: Config) -> None:
    network, numbers = mdm_jax.load_model(config.model), evenly_spaced(10_000, config.count)
    images, masks, _ = look.stacked(look.digits(numbers))
    points = []
    print(f"{'':34s}{'forward passes':>14s}" + "".join(f"{name:>22s}" for name in METRICS))
    for label, family, method, settings in list_methods(config):
        how: dict[str, Any] = {"key": config.seed, "ids": numbers}
        found = mdm_jax.explain(network, images, method=method, config=settings, **how)
        truth: dict[str, Any] = {
            "attribution": found.attribution,
            "ranking": found.ranking,
            "masks": masks,
            "metrics": METRICS,
        }
        scores = mdm_jax.evaluate(
            network, images, found.saliency, found.info.target, **truth, **how
        )
        summary = {
            scores.metrics[name].name: value for name, value in scores.summary().items()
        }
        cost = Cost(
            float(found.info.evaluations.mean()), float(found.info.forwards.mean())
        ).equivalent
        points.append(Point(label, family, cost, summary))
        cells = "".join(
            f"{value.value:9.3f} {f'[{value.interval.low:.3f}, {value.interval.high:.3f}]'}"
            for value in summary.values()
        )
        print(f"{label:34s}{cost:14.0f}{cells}", flush=True)
    look.write(draw(config, points), config.out)
    if config.results:
        write(
            config.results,
            [value for point in points for value in values_of(point, config)],
        )


def values_of(point: Point, config: Config) -> list[Value]:
    """A point's cost and metrics, for the results."""
    what = {"method": point.label, "images": config.count}
    values: list[Value] = [what | {"metric": "forward passes", "value": point.cost}]
    for name, summary in point.summary.items():
        low, high = summary.interval
        values.append(
            what | {"metric": name, "value": summary.value, "low": low, "high": high}
        )
    return values


def list_methods(config: Config) -> list[tuple[str, str, str, Any]]:
    """Label, family, method and config of everything that is measured."""
    fast = PRESETS["fast"]
    steps = sorted(
        {max(1, round(fast.steps * share)) for share in config.shares} | {fast.steps}
    )
    ours: list[tuple[str, MDMConfig]] = [
        (f"MDM, {n} steps", dataclasses.replace(fast, steps=n)) for n in steps
    ]
    points: list[tuple[str, str, str, Any]] = [
        (label, "MDM", "mdm", settings) for label, settings in ours
    ]
    points += [
        (f"MDM, preset {name}", f"preset {name}", "mdm", PRESETS[name])
        for name in config.presets
    ]
    for family, (_, _, written) in FAMILIES.items():
        for each in written:
            chosen = methods.configure(each).with_default_config()
            points.append((each, family, chosen.name, chosen.config))
    return points


def draw(config: Config, points: list[Point]) -> Figure:
    title = (
        f"Quality against network evaluations, {config.count} digits, {config.model}, with 95 %"
        " intervals.\n"
        "Evaluations in forward passes an image; one with a gradient counts as three. Ringed:"
        " the default."
    )
    figure = look.begin(3.6, title)
    grid = figure.subplots(1, len(METRICS))
    better = {name: summary.better for name, summary in points[0].summary.items()}
    for ax, name in zip(grid, METRICS):
        look.plain(ax, f"{name} {ARROWS[better[name]]}")
        for family, (color, marker, _) in FAMILIES.items():
            line(
                ax,
                [each for each in points if each.family == family],
                name,
                color,
                marker,
                family,
            )
        line(
            ax,
            [each for each in points if each.family == "MDM"],
            name,
            look.RED,
            "o",
            "MDM",
            width=2.0,
        )
        for preset, marker in zip(config.presets, ("*", "h", "p", "d")):
            line(
                ax,
                [each for each in points if each.family == f"preset {preset}"],
                name,
                look.RED,
                marker,
                f"MDM, “{preset}”",
                size=8,
            )
        (default,) = [
            each for each in points if each.label == f"MDM, {PRESETS['fast'].steps} steps"
        ]
        ax.plot(
            default.cost,
            default.summary[name].value,
            "o",
            ms=10,
            mfc="none",
            mec=look.RED,
            mew=1.2,
            zorder=5,
        )
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    grid[1].set_xlabel("forward passes an image", fontsize=look.SMALL, color=look.INK)
    names: dict[str, Any] = {}
    for handle, label in zip(*grid[0].get_legend_handles_labels()):
        names.setdefault(label, handle)
    first = [label for label in names if label.startswith("MDM")]
    order = [*first, *(label for label in names if label not in first)]
    handles = [names[label] for label in order]
    figure.legend(
        handles,
        order,
        loc="outside lower center",
        ncols=5,
        fontsize=look.SMALL,
        frameon=False,
    )
    return figure


def line(
    ax: Axes,
    points: list[Point],
    metric: str,
    color: str,
    marker: str,
    label: str,
    *,
    width: float = 1.2,
    size: float = 4.5,
) -> None:
    """A method at its costs, with intervals."""
    if not points:
        return
    points = sorted(points, key=lambda each: each.cost)
    values = np.asarray([each.summary[metric].value for each in points])
    spans = np.abs(
        np.asarray([each.summary[metric].interval for each in points]).T - values
    )
    costs = [each.cost for each in points]
    ax.errorbar(
        costs,
        values,
        yerr=spans,
        color=color,
        marker=marker,
        ms=size,
        lw=width,
        elinewidth=0.7,
        alpha=0.95,
        label=label,
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
