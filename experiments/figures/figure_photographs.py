r"""A sheet of photographs: MDM's maps beside those of other methods.

    python experiments/figures/figure_photographs.py --annotated imagenet_val300 \
        --model resnet18 --weights WEIGHTS

Rows: the photograph and what the network says, MDM's saliency map, and the other methods' maps.
Which photographs are shown is no choice of ours: they are spread evenly over the set.

Results: `experiments/results/figure_photographs_*.json`: separate parts of the maps, how many
images are LOST, and the least that masks keep; shown in `docs/measurements.md`.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.figure import Figure
from scipy import ndimage

import mdm_jax
from experiments.figures import figure_look as look
from experiments.quality.benchmark_imagenet import write_image_folder
from experiments.record_results import write
from mdm_jax.data import open_source
from mdm_jax.data.network_input import PreparedExample, evenly_spaced, prepare_examples
from mdm_jax.errors import InputError
from mdm_jax.types import Explanation, Status
from mdm_jax.views.explanation_figures import overlay

COLUMNS = 8
LEVEL = 0.25
"""share of a map's maximum above which its parts are counted"""


@dataclass(frozen=True)
class Config:
    """What is drawn."""

    annotated: Path
    """folder with images/ and annotations.json, see benchmark_imagenet.py"""
    model: str | None = None
    weights: str | None = None
    methods: tuple[str, ...] = ("grad_cam",)
    """beside MDM"""
    count: int = 24
    out: Path = Path("photographs.png")
    """the photographs are yours, so the sheet is no figure of the pages"""
    results: str | None = None
    """name of the file in experiments/results that is written, by default with the network's; none
    when empty"""


def read_examples(config: Config, classifier: mdm_jax.Classifier) -> list[PreparedExample]:
    """Photographs spread evenly over the set, as the network takes them."""
    with tempfile.TemporaryDirectory() as folder:
        write_image_folder(config.annotated.resolve(), Path(folder) / "data", "val")
        source = open_source(f"folder:{folder}/data", "val")
        numbers = evenly_spaced(len(source), config.count)
        prepared = list(prepare_examples(source, numbers, classifier.preprocessing))
    return [each for each in prepared if isinstance(each, PreparedExample)]


def draw(
    images: np.ndarray, names: list[str], found: dict[str, Explanation], title: str
) -> Figure:
    """Bands of `COLUMNS` photographs: the image, and each method's map below it."""
    rows = 1 + len(found)
    bands = -(-len(images) // COLUMNS)
    side = look.WIDTH / COLUMNS
    figure = look.begin(bands * (rows * side + 0.25) + 0.6, title)
    axes = figure.subplots(bands * rows, COLUMNS, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for i, image in enumerate(images):
        band, column = divmod(i, COLUMNS)
        column_axes = axes[band * rows : (band + 1) * rows, column]
        look.show(column_axes[0], image, above=names[i])
        for ax, explanation in zip(column_axes[1:], found.values()):
            look.show(ax, overlay(image, explanation.saliency[i]))
    for band in range(bands):
        for row, name in enumerate(found, start=1):
            look.row_name(axes[band * rows + row, 0], name)
    return figure


def count_parts(saliency: np.ndarray) -> int:
    """Connected parts (eight neighbors) above `LEVEL` of the map's maximum."""
    bright = saliency > LEVEL * saliency.max()
    return int(ndimage.label(bright, np.ones((3, 3)))[1])


def main(config: Config) -> int:
    try:
        classifier = mdm_jax.load_model(config.model, weights=config.weights)
        examples = read_examples(config, classifier)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    images = np.stack([each.image for each in examples])
    found = {
        method: mdm_jax.explain(classifier, images, method=method)
        for method in ("mdm", *config.methods)
    }
    info = found["mdm"].info
    classes = classifier.class_names or ()
    names = [
        f"{str(classes[target]).split(',')[0][:13] if classes else target} {p:.2f}"
        for target, p in zip(info.target, info.activation)
    ]
    network = config.model or Path(str(config.weights)).name
    title = f"{len(images)} photographs, {network}"
    look.write(draw(images, names, found, title), config.out)
    name = f"figure_photographs_{network}" if config.results is None else config.results
    if name:
        rows: list[dict[str, Any]] = []
        of_network = {"network": network, "images": len(images)}
        for method, explanation in found.items():
            parts = float(np.median([count_parts(each) for each in explanation.saliency]))
            row = of_network | {"method": method}
            rows.append(row | {"quantity": "parts, median", "value": parts})
        kept = info.activation_masked / info.activation
        lost = int((info.status == Status.LOST).sum())
        ours = of_network | {"method": "mdm"}
        rows.append(ours | {"quantity": "LOST", "value": lost})
        rows.append(ours | {"quantity": "least share kept", "value": float(kept.min())})
        write(name, rows)
        for row in rows:
            print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
