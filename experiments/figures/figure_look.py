"""What the figures of the method share: width, text, colors, and a picture without axes.

8.4 inches are about the width of a README; text of 7.5 points is then still 10 pixels high. The
colors are Okabe and Ito's, which people who see few colors tell apart; heat is
`mdm_jax.views.explanation_figures.HEAT`, which grows lighter with its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from mdm_jax.data import Digits
from mdm_jax.data.source import Example
from mdm_jax.views.explanation_figures import HEAT, TRUTH, overlay, save

WIDTH, DPI = 8.4, 200
TITLE, TEXT, SMALL = 10.0, 8.5, 7.5
"""points"""
BLUE, RED, GREEN, PINK, ORANGE, SKY, GRAY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7a7d82",
)
SHADES = 63
INK, SOFT = "#1c1d1f", "#5d6066"
FIGURES = Path(__file__).parents[2] / "docs" / "images"


def digits(numbers: Iterable[int], split: str = "test") -> list[Example]:
    """Cluttered digits by their numbers."""
    source = Digits(split)
    return [source[int(number)] for number in numbers]


def stacked(examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images [n, h, w, 3], the digits' pixels [n, h, w] and labels [n]."""
    images, masks = (
        [np.asarray(getattr(each, name)) for each in examples] for name in ("image", "mask")
    )
    return np.stack(images), np.stack(masks), np.asarray([each.label for each in examples])


def coarse(picture: np.ndarray) -> np.ndarray:
    """A picture in fewer shades than can be told apart, which halves its file."""
    scaled = picture / 255 if picture.dtype == np.uint8 else picture
    return np.round(scaled * SHADES) / SHADES


def show(
    ax: Axes,
    picture: np.ndarray,
    below: str = "",
    above: str = "",
    mask: np.ndarray | None = None,
    **how: Any,
) -> None:
    """A picture, or a map in [0, 1] as heat, without axes; text above and below; the object
    outlined."""
    ax.imshow(
        picture if picture.ndim == 2 else coarse(picture),
        cmap=HEAT,
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if mask is not None:
        ax.contour(mask, levels=[0.5], colors=TRUTH, linewidths=0.8)
    if above:
        ax.set_title(above, fontsize=how.get("size", SMALL), color=INK, pad=3)
    if below:
        ax.set_xlabel(
            below,
            fontsize=how.get("size", SMALL),
            color=how.get("color", SOFT),
            labelpad=2,
            weight=how.get("weight"),
        )


def heat(
    ax: Axes,
    image: np.ndarray,
    saliency: np.ndarray,
    mask: np.ndarray | None = None,
    **how: Any,
) -> None:
    """A saliency map over its image in gray."""
    show(ax, overlay(image, saliency), mask=mask, **how)


def row_name(ax: Axes, text: str, size: float = SMALL) -> None:
    """What a row of pictures shows, left of its first."""
    ax.set_ylabel(text, fontsize=size, color=INK, labelpad=3)


def plain(ax: Axes, title: str = "") -> None:
    """Axes with little ink."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=SMALL, length=2, pad=2)
    ax.grid(alpha=0.25, lw=0.5)
    ax.set_axisbelow(True)
    if title:
        ax.set_title(title, fontsize=TEXT, color=INK, loc="left", pad=4)


def begin(height: float, title: str, dpi: int = DPI) -> Figure:
    """An empty figure of the common width with its title."""
    figure = Figure(
        figsize=(WIDTH, height), dpi=dpi, layout="constrained", facecolor="white"
    )
    figure.suptitle(title, fontsize=TITLE, color=INK, x=0.01, ha="left", parse_math=False)
    return figure


def parts(figure: Figure, rows: int, columns: int, **how: Any) -> list[SubFigure]:
    """Figures within a figure, row by row."""
    return np.ravel(figure.subfigures(rows, columns, squeeze=False, **how)).tolist()


def write(figure: Figure, path: Path) -> None:
    """Save a figure and say where."""
    save(figure, path)
    print(f"wrote {path} ({path.stat().st_size / 1000:.0f} kB)")
