"""MDM beside all baselines on the same images: the maps, how each scores, and what it cost.

    python experiments/figures/figure_baselines.py              # docs/images/baselines.png
    python experiments/figures/figure_baselines.py --model vit --out baselines_vit.png

Under a map: insertion (higher is better) / deletion (lower is better) on that image, the best of an
image in bold. Under a name: the network evaluations of a map in forward passes (one with a gradient
counts as three). The images are not chosen but spread evenly over the test split. Methods that a
network cannot have are left out and named. RISE takes 1000 masks, not 4000, and the extremal
perturbation plays with no flipped copy, as in `benchmark_digits.py`. The means that it prints are
over the images drawn, which are too few to compare by, so they are not among the results.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure

import mdm_jax
from experiments.figures import figure_look as look
from mdm_jax import methods
from mdm_jax.data.network_input import evenly_spaced
from mdm_jax.errors import InputError
from mdm_jax.types import Explanation

SETTINGS = {
    "rise": "rise:num_samples=1000",
    "extremal_perturbation": "extremal_perturbation:flip=false",
}
"""methods that are run with other settings than their defaults, to save time"""
NAMES = {
    "mdm": "MDM",
    "hdm": "HDM",
    "input_x_gradient": "input x\ngradient",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients": "integrated\ngradients",
    "rise": "RISE",
    "grad_cam": "Grad-CAM",
    "grad_cam_pp": "Grad-CAM++",
    "layer_cam": "LayerCAM",
    "score_cam": "Score-CAM",
    "hires_cam": "HiResCAM",
    "xgrad_cam": "XGrad-CAM",
    "eigen_cam": "EigenCAM",
    "ablation_cam": "Ablation-CAM",
    "fullgrad": "FullGrad",
    "attn_lrp": "AttnLRP",
    "sobel": "Sobel",
    "center": "center",
    "chefer": "Chefer",
    "meaningful_perturbation": "meaningful\nperturbation",
    "extremal_perturbation": "extremal\nperturbation",
}
OURS = tuple(name for name in ("mdm", "hdm") if name in methods.METHODS)
"""masks of several sizes, learned: what the others are compared with"""
ORDER = (
    *OURS,
    *(name for name in methods.METHODS if name not in (*OURS, "random", "center", "sobel")),
    "sobel",
    "center",
    "random",
)
"""those that do not ask the network come last"""


@dataclass(frozen=True)
class Config:
    """What is drawn."""

    model: str = "resnet"
    count: int = 4
    """images"""
    seed: int = 0
    out: Path = look.FIGURES / "baselines.png"


def main(config: Config) -> None:
    network = mdm_jax.load_model(config.model)
    numbers = evenly_spaced(10_000, config.count)
    images, masks, _ = look.stacked(look.digits(numbers))
    found: dict[str, Explanation] = {}
    scores: dict[str, np.ndarray] = {}
    for name in ORDER:
        chosen = methods.configure(SETTINGS.get(name, name)).with_default_config()
        try:
            each = mdm_jax.explain(
                network,
                images,
                method=name,
                config=chosen.config,
                key=config.seed,
                ids=numbers,
            )
        except InputError as error:
            print(f"left out: {name} ({str(error).partition(':')[0]})")
            continue
        measured = mdm_jax.evaluate(
            network,
            images,
            each.saliency,
            each.info.target,
            attribution=each.attribution,
            ranking=each.ranking,
            object_masks=masks,
            metrics=("insertion", "deletion", "energy"),
            key=config.seed,
            ids=numbers,
        )
        found[name], scores[name] = (
            each,
            np.stack([measured.per_image(metric) for metric in measured.metrics]),
        )
        mean = "  ".join(
            f"{metric.name} {value:.3f}"
            for metric, value in zip(measured.metrics.values(), scores[name].mean(axis=1))
        )
        print(f"{name:24s} {mean}  {cost(each):5d} forward passes", flush=True)
    look.write(draw(config, images, masks, found, scores), config.out)


def cost(found: Explanation) -> int:
    """Network evaluations of one map in forward passes."""
    return round(float(np.mean(3 * found.info.evaluations + found.info.forwards)))


def draw(
    config: Config,
    images,
    masks,
    found: dict[str, Explanation],
    scores: dict[str, np.ndarray],
) -> Figure:
    names, (n, bands) = list(found), (len(images), 2)
    columns = -(-len(names) // bands) + 1
    title = (
        f"MDM and {len(names) - len(OURS)} baselines ({config.model}). Under a name: network"
        " evaluations in forward passes.\n"
        "Under a map: insertion (higher is better) / deletion (lower is better) on that image;"
        " the best of all in bold."
    )
    figure = look.begin(bands * (n * 0.98 + 0.55) + 0.5, title, dpi=120)
    best = np.stack(list(scores.values()))[:, :2]
    best = np.stack([best[:, 0].max(axis=0), best[:, 1].min(axis=0)])
    for band, part in enumerate(look.parts(figure, bands, 1)):
        grid = part.subplots(n, columns, squeeze=False)
        chosen = names[band * (columns - 1) : (band + 1) * (columns - 1)]
        for row, line in enumerate(grid):
            look.show(
                line[0], images[row], mask=masks[row], above="image\n" if row == 0 else ""
            )
            for ax in line[1 + len(chosen) :]:
                ax.axis("off")
            for ax, name in zip(line[1:], chosen):
                insertion, deletion = scores[name][:2, row]
                head = f"{NAMES.get(name, name)}\n{cost(found[name])}" if row == 0 else ""
                look.heat(
                    ax, images[row], found[name].saliency[row], masks[row], above=head
                )
                caption(
                    ax,
                    (insertion, deletion),
                    (insertion >= best[0, row], deletion <= best[1, row]),
                )
                if name in OURS:
                    ax.title.set_color(look.RED)
                    ax.spines[:].set(visible=True, color=look.RED, linewidth=1.2)
    return figure


def caption(ax, values, best) -> None:
    """Insertion / deletion below a map, each bold where it is the best."""
    for value, bold, x, side in zip(values, best, (0.47, 0.53), ("right", "left")):
        weight = "bold" if bold else "normal"
        ax.text(
            x,
            -0.04,
            f"{value:.2f}",
            ha=side,
            va="top",
            size=look.SMALL,
            weight=weight,
            color=look.INK,
            transform=ax.transAxes,
        )
    ax.text(
        0.5,
        -0.04,
        "/",
        ha="center",
        va="top",
        size=look.SMALL,
        color=look.INK,
        transform=ax.transAxes,
    )
    ax.set_xlabel(" ", fontsize=look.SMALL, labelpad=1)  # room for them


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
