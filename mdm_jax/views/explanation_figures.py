"""Figures: overlays, the demo sheet, the masks of one image, the animation of a mask learning."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import PIL.Image
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mdm_jax import hdm, masks
from mdm_jax.data.source import Example
from mdm_jax.images import to_uint8
from mdm_jax.size_sequence import sizes_of_steps
from mdm_jax.storage.atomic import write_whole
from mdm_jax.types import REASONS, Explanation, Status, Trace
from mdm_jax.views.panels import Bar, Panel, draw

HEAT = colormaps["inferno"]
TRUTH = "#35e0ff"

# Of the heat where a map is 1.
OPACITY = 0.85

# Pictures in a row of masks: those of the default sizes, with the image and two more.
MASK_COLUMNS = 7


def overlay(
    image: Float[np.ndarray, "H W c"],
    saliency: Float[np.ndarray, "h w"],
    opacity: float = OPACITY,
) -> np.ndarray:
    """The heat of a saliency map, enlarged bilinearly, over a grayed image; 8-bit RGB."""
    if saliency.shape != image.shape[:2]:
        height, width = image.shape[:2]
        values = PIL.Image.fromarray(np.asarray(saliency, np.float32))
        resized = values.resize((width, height), PIL.Image.Resampling.BILINEAR)
        saliency = np.asarray(resized)
    gray = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
    heat = HEAT(saliency)[..., :3]
    # in proportion, so that weak saliency fades into the image without an edge
    weight = opacity * np.clip(saliency, 0.0, 1.0)[..., None]
    return to_uint8((1 - weight) * gray + weight * heat)


def demo_sheet(
    examples: Sequence[Example],
    explanation: Explanation,
    predictions: Sequence[int],
    energies: Sequence[float],
) -> Figure:
    """Images, saliency maps (true digit outlined) and masked images, eight columns to a band."""
    columns = min(8, len(examples))
    bands = -(-len(examples) // columns)
    rows = ("image", "saliency", "kept")
    figure = Figure(
        figsize=(1.22 * columns + 0.35, bands * (1.22 * len(rows) + 0.55)),
        dpi=160,
        layout="constrained",
    )
    axes = figure.subplots(bands * len(rows), columns, squeeze=False)
    info = explanation.info
    for ax in axes.flat:
        ax.axis("off")
    for i, example in enumerate(examples):
        band, column = divmod(i, columns)
        top, middle, bottom = axes[band * 3 : band * 3 + 3, column]
        saliency = explanation.saliency[i]
        top.imshow(example.image)
        right = "" if predictions[i] == example.label else f" (is {example.label})"
        top.set_title(
            f"“{predictions[i]}”{right}  p = {float(info.activation[i]):.2f}",
            fontsize=7.5,
        )
        middle.imshow(overlay(example.image, saliency))
        middle.contour(example.mask, levels=[0.5], colors=TRUTH, linewidths=0.7)
        middle.set_title(f"{100 * energies[i]:.0f} % on the digit", fontsize=6.5, pad=2)
        vectors = tuple(each[i] for each in explanation.mask_vectors)
        shown = (
            saliency if explanation.evidence is None else mean_mask(vectors, saliency.shape)
        )
        bottom.imshow(masked_view(example.image, shown))
        bottom.set_title(
            f"area {100 * float(info.kept_area[i]):.0f} %, p ="
            f" {float(info.activation_masked[i]):.2f}",
            fontsize=6.5,
            pad=2,
        )
    for row in range(bands * 3):
        label_row(axes[row, 0], rows[row % 3])
    return figure


def masks_sheet(
    image: Float[np.ndarray, "h w c"], explanation: Explanation, title: str
) -> Figure:
    """One image, its learned masks from coarse to fine, the saliency and the masked image.

    The masks of HDM stand in a row for each round."""
    shape = image.shape[:2]
    image = np.broadcast_to(image, (*shape, 3))
    seen = explanation.saliency
    if explanation.evidence is not None:
        seen = mean_mask(explanation.mask_vectors, seen.shape)
    before = [Panel(image, "image")]
    status = Status(int(explanation.info.status))
    warning = status.words if status in REASONS else ""
    after = [
        Panel(overlay(image, explanation.saliency), "saliency", warning),
        Panel(masked_view(image, seen), "kept"),
    ]
    weights = hdm.round_weights(explanation.info)
    vectors = explanation.mask_vectors
    drawn = [Panel(render_mask(each, shape), _size_of(each)) for each in vectors]
    notes: list[str] = []
    rows: list[list[Panel | None]]
    if weights:
        sizes = len(drawn) // len(weights)
        notes = [_describe_round(number, each) for number, each in enumerate(weights, 1)]
        rows = []
        for number in range(len(weights)):
            one = drawn[number * sizes : (number + 1) * sizes]
            named = [
                panel._replace(caption=f"round {number + 1}: {panel.caption}")
                for panel in one
            ]
            is_first = number == 0
            rows.append([*before, *named, *after] if is_first else [None, *named])
    else:
        flat = [*before, *drawn, *after]
        rows = [
            list(flat[start : start + MASK_COLUMNS])
            for start in range(0, len(flat), MASK_COLUMNS)
        ]
    if warning:
        notes.insert(0, f"{warning}: {REASONS[status]}")
    ratio = shape[0] / shape[1]
    size = (1.9, 1.9 * ratio) if ratio <= 1 else (1.9 / ratio, 1.9)
    bar = Bar("mask: 1 keeps a pixel", HEAT)
    return draw(rows, bar, title=title, size=size, notes=notes)


def _size_of(vector: np.ndarray) -> str:
    return f"mask {vector.shape[0]}x{vector.shape[1]}"


def _describe_round(number: int, weight: float) -> str:
    """What a round of HDM adds to its map."""
    if weight == 0:
        return f"round {number} is left out: it shows too little of the class"
    return f"round {number} counts with weight {weight:.2f}"


def masked_view(
    image: Float[np.ndarray, "h w c"], mask: Float[np.ndarray, "h w"]
) -> np.ndarray:
    """The image seen through a mask or a map, white where nothing is kept."""
    return to_uint8(mask[..., None] * image + (1 - mask[..., None]))


def mean_mask(vectors: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The mean of the masks of all sizes, what the image is seen through where a map is more than
    masks."""
    return np.mean([render_mask(vector, shape) for vector in vectors], axis=0)


def learning_frames(
    example: Example, trace: Trace, stack_weights: Any = None
) -> Iterator[Figure]:
    """A figure for every step of one image's trace: masks, masked image and terms so far."""
    shape = example.image.shape[:2]
    stack_weights = masks.resolve_weights(
        stack_weights, [vectors.shape[-2:] for vectors in trace.mask_vectors]
    )
    terms = {
        "objective / start": trace.objective / max(float(trace.objective[0]), 1e-6),
        **trace.terms,
    }
    steps = len(trace.objective)
    # only the schedule `sequence` says what is kept, and it shows one size a step
    in_sequence = "kept" in trace.terms
    size_of_step = sizes_of_steps(len(trace.mask_vectors), steps) if in_sequence else None
    figure = Figure(figsize=(8.4, 2.35), dpi=110, layout="constrained")
    for step in range(steps):
        # one figure for all frames: a new one for each would fill the memory
        figure.clear()
        grid = figure.subplots(
            1,
            3 + len(trace.mask_vectors),
            width_ratios=[1] * (2 + len(trace.mask_vectors)) + [1.6],
        )
        maps = [render_mask(v[step], shape) for v in trace.mask_vectors]
        seen = np.average(maps, axis=0, weights=stack_weights)
        if size_of_step is not None:
            seen = maps[size_of_step[step]]
        panels = [
            (f"{v.shape[1]}x{v.shape[2]}", each)
            for v, each in zip(trace.mask_vectors, maps)
        ]
        panels = [
            ("image", example.image),
            *panels,
            ("kept", masked_view(example.image, seen)),
        ]
        for ax, (name, panel) in zip(grid, panels):
            ax.imshow(panel, cmap=HEAT, vmin=0, vmax=1, interpolation="nearest")
            ax.set_title(name, fontsize=8)
            ax.axis("off")
        for name, values in terms.items():
            grid[-1].plot(np.arange(step + 1), values[: step + 1], label=name, lw=1.6)
        grid[-1].set(xlim=(0, max(1, steps - 1)), ylim=(0, 1.05))
        grid[-1].set_title(f"step {step + 1} of {steps}", fontsize=8)
        grid[-1].legend(fontsize=7, loc="upper right", frameon=False)
        grid[-1].tick_params(labelsize=7)
        grid[-1].spines[["top", "right"]].set_visible(False)
        yield figure


def save(figure: Figure, path: Path, texts: Mapping[str, str] | None = None) -> None:
    """Write a figure as PNG, whole or not at all; with `texts` by keyword, which are not drawn."""
    with warnings.catch_warnings():
        # names may be in a script that the font lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        write_whole(
            path,
            lambda file: figure.savefig(
                file, format="png", dpi=figure.dpi, metadata=dict(texts or {})
            ),
        )


def save_png(pixels: np.ndarray, path: Path) -> None:
    """Write an 8-bit image as PNG, whole or not at all."""
    write_whole(path, lambda file: PIL.Image.fromarray(pixels).save(file, format="PNG"))


def save_animation(figures: Iterator[Figure], path: Path, milliseconds: int = 180) -> None:
    """Write figures as an endless GIF that rests on its last frame, whole or not at all."""
    frames = []
    for figure in figures:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        frames.append(PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    durations = [milliseconds] * (len(frames) - 1) + [2500]
    # a GIF has 256 colors; half of them keep the file small
    first, *rest = [frame.quantize(128) for frame in frames]
    write_whole(
        path,
        lambda file: first.save(
            file,
            format="GIF",
            save_all=True,
            append_images=rest,
            duration=durations,
            loop=0,
        ),
    )


def render_mask(vector: Any, shape: tuple[int, int]) -> np.ndarray:
    """A mask vector at image size, as a picture."""
    return np.asarray(masks.render(jnp.asarray(vector), shape))


def label_row(ax: Axes, text: str) -> None:
    """A row label left of an axis whose frame is off."""
    ax.text(
        -0.06,
        0.5,
        text,
        rotation=90,
        ha="right",
        va="center",
        transform=ax.transAxes,
        fontsize=8,
    )
