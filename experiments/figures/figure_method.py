"""The method on one image: masks over the steps, what the network sees, the terms, what is kept.

    python experiments/figures/figure_method.py                 # docs/images/method.png
    python experiments/figures/figure_method.py --preset paper --number 3 --model vit --results ""

The stacked mask is the mean of the scales; below it the image as the network sees it, with the fill
where the mask is dark.

Results: `experiments/results/figure_method.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

import mdm_jax
from experiments.figures import figure_look as look
from experiments.record_results import write
from mdm_jax import PRESETS, mdm
from mdm_jax.problem import activation, begin, blend
from mdm_jax.size_sequence import sizes_of_steps
from mdm_jax.types import Explanation
from mdm_jax.views.explanation_figures import render_mask

FLOOR = 1e-3
"""of the logarithmic axis of the terms"""


@dataclass(frozen=True)
class Config:
    """What is drawn."""

    number: int = 5
    """of the test digit"""
    model: str = "resnet"
    preset: str = "fast"
    columns: int = 5
    """states shown: the start, the end, and some between"""
    seed: int = 0
    out: Path = look.FIGURES / "method.png"
    results: str = "figure_method"
    """name of the file in experiments/results that is written; none when empty"""


def main(config: Config) -> None:
    (example,), network, settings = (
        look.digits([config.number]),
        mdm_jax.load_model(config.model),
        PRESETS[config.preset],
    )
    image, key = jnp.asarray(example.image), jax.random.key(config.seed)
    found = mdm_jax.explain(
        network,
        example.image[None],
        config=settings,
        key=key,
        ids=[config.number],
        trace=True,
    )
    found = jax.tree.map(lambda leaf: leaf[0], found)
    vectors = states(found)
    masks = [
        np.stack([render_mask(vector, (image.shape[0], image.shape[1])) for vector in each])
        for each in vectors
    ]
    shape = (image.shape[0], image.shape[1])
    stacked = np.stack(seen_masks(vectors, masks, shape, settings))
    problem = begin(
        network,
        image,
        None,
        node="probability",
        key=jax.random.fold_in(key, config.number),
        fill=settings.fill,
    )
    outputs = network(blend(jnp.asarray(stacked), image, problem.background))
    kept = np.asarray(
        jax.vmap(lambda each: activation("probability", each, problem.target))(outputs)
    )
    figure = draw(
        config, example, found, masks, stacked, np.asarray(problem.background), kept
    )
    steps, (before, after) = (
        len(stacked) - 1,
        (float(found.info.activation), float(found.info.activation_masked)),
    )
    print(
        f"{int(found.info.evaluations)} evaluations with a gradient and {int(found.info.forwards)}"
        f" without, in {steps} steps"
    )
    print(
        f"probability {before:.3f} of the image, {after:.3f} through the mask, which keeps"
        f" {float(found.info.kept_area):.1%}"
    )
    look.write(figure, config.out)
    if config.results:
        quantities = {
            "evaluations with a gradient": int(found.info.evaluations),
            "evaluations without a gradient": int(found.info.forwards),
            "steps": steps,
            "probability of the image": before,
            "probability through the mask": after,
            "area of the mask": float(found.info.kept_area),
        }
        write(config.results, [{"quantity": q, "value": v} for q, v in quantities.items()])


def states(found: Explanation) -> list[tuple[np.ndarray, ...]]:
    """The mask vectors that each step began with, and those in the end."""
    steps = int(found.info.steps)
    assert found.trace is not None
    return [
        tuple(each[step] for each in found.trace.mask_vectors) for step in range(steps)
    ] + [found.mask_vectors]


def seen_masks(vectors, masks, shape, settings) -> list[np.ndarray]:
    """The mask that each step sees the image through, and the stacked one in the end."""
    stacked = [
        np.asarray(mdm.stacked_mask(tuple(map(jnp.asarray, each)), shape, settings))
        for each in vectors
    ]
    if settings.schedule == "sequence":
        order = sizes_of_steps(len(vectors[0]), settings.steps)
        return [each[k] for each, k in zip(masks, order)] + [stacked[-1]]
    return stacked


def draw(config, example, found: Explanation, masks, stacked, background, kept) -> Figure:
    steps, scales = len(stacked) - 1, len(found.mask_vectors)
    chosen = sorted(
        {round(steps * share) for share in np.linspace(0, 1, config.columns) ** 1.7}
    )
    figure = look.begin(
        0.87 * (scales + 2) + 1.0,
        f"The method on one image: masks of {scales} scales learn what the"
        f" “{int(found.info.target)}” rests on.\nWhere a mask is light the image is kept, where it"
        " is dark the fill takes its place.",
    )
    left, middle, right = look.parts(figure, 1, 3, width_ratios=[1.2, 4.7, 2.5])
    info, image = found.info, example.image

    whole, behind, result = left.subplots(3, 1)
    look.show(
        whole,
        image,
        above="image",
        below=f"p(“{int(info.target)}”) = {float(info.activation):.2f}",
    )
    look.show(
        behind, background, above="fill", below=f"p = {float(info.activation_fill):.2f}"
    )
    look.heat(
        result,
        image,
        found.saliency,
        example.mask,
        above="saliency",
        below="digit outlined",
    )

    grid = middle.subplots(scales + 2, len(chosen), squeeze=False)
    for column, step in enumerate(chosen):
        name = (
            "start"
            if step == 0
            else f"after step {step}"
            if column == 1
            else f"step {step}"
        )
        for row, (line, mask) in enumerate(
            zip(grid[:, column], [*masks[step], stacked[step]])
        ):
            look.show(line, mask, above=name if row == 0 else "")
        seen = (
            stacked[step][..., None] * image + (1 - stacked[step][..., None]) * background
        )
        look.show(
            grid[-1, column],
            np.clip(seen, 0, 1),
            below=f"p = {kept[step]:.2f}\narea {100 * stacked[step].mean():.0f} %",
        )
    for line, vector in zip(grid, found.mask_vectors):
        look.row_name(line[0], "x".join(map(str, vector.shape)))
    look.row_name(grid[-2, 0], "mask of\nthe step")
    look.row_name(grid[-1, 0], "what the\nnetwork sees")

    above, below = right.subplots(2, 1, sharex=True)
    at = np.arange(steps + 1)
    look.plain(above, "kept through the mask of the step")
    above.axhline(float(info.activation), color=look.GRAY, lw=1, ls=":")
    above.annotate(
        "probability of the image",
        (steps, float(info.activation)),
        (0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=look.SMALL,
        color=look.SOFT,
    )
    above.plot(at, kept, color=look.BLUE, lw=1.8, label="probability")
    above.plot(at, stacked.mean(axis=(1, 2)), color=look.RED, lw=1.8, ls="--", label="area")
    above.set(ylim=(0, 1.12))
    above.legend(fontsize=look.SMALL, frameon=False, loc="center right")
    look.plain(below, "terms, unweighted, logarithmic")
    styles = (
        (look.BLUE, "-"),
        (look.RED, "--"),
        (look.GREEN, "-."),
        (look.PINK, ":"),
        (look.ORANGE, "-"),
        (look.SKY, "--"),
    )
    assert found.trace is not None
    for (name, values), (color, style) in zip(found.trace.terms.items(), styles):
        below.plot(
            at[:-1],
            np.maximum(values[:steps], FLOOR),
            color=color,
            ls=style,
            lw=1.8,
            label=name.replace("_", " "),
        )
    below.set(yscale="log", ylim=(FLOOR, None))
    below.set_xlabel("step", fontsize=look.SMALL, color=look.INK)
    below.legend(fontsize=look.SMALL, frameon=False, loc="best")
    return figure


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
