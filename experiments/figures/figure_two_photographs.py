"""Two photographs, what a network sees in them, and what its decisions rest on.

    python experiments/figures/figure_two_photographs.py --weights WEIGHTS

The photographs are those that scikit-learn brings: china.jpg by danielbuechele and flower.jpg by
vultilion, both CC BY 2.0. A row holds the photograph as the network takes it, the saliency map, and
the image through the learned masks.

Results: `experiments/results/figure_two_photographs.json`: the probabilities and the areas kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import PIL.Image
import tyro
from sklearn.datasets import load_sample_images

import mdm_jax
from experiments.figures import figure_look as look
from experiments.record_results import Value, write
from mdm_jax import masks
from mdm_jax.config import PresetName
from mdm_jax.types import Explanation
from mdm_jax.views.explanation_figures import overlay

GRAY = 0.5
"""what stands for masked pixels in the picture; the network sees a blur or a mean color there"""
ORDER = (1, 0)
"""the flower, then the temple"""


@dataclass(frozen=True)
class Config:
    """The network, and where the picture goes."""

    weights: str
    """of a network of ImageNet: a folder, a file or a hub id"""
    model: str = "resnet50"
    preset: PresetName = "best"
    out: Path = look.FIGURES / "photographs.png"
    results: str = "figure_two_photographs"
    """name of the file in experiments/results that is written; none when empty"""


def through_masks(image: np.ndarray, found: Explanation, number: int) -> np.ndarray:
    """The image through the finest learned mask, the rest gray."""
    mask = masks.render(jnp.asarray(found.mask_vectors[-1][number]), image.shape[:2])
    shown = np.asarray(mask)[..., None]
    return shown * image + (1 - shown) * GRAY


def main(config: Config) -> None:
    classifier = mdm_jax.load_model(config.model, weights=config.weights)
    photographs = load_sample_images().images
    images = np.stack(
        [classifier.preprocess(PIL.Image.fromarray(photographs[k])) for k in ORDER]
    )
    found = mdm_jax.explain(classifier, images, config=config.preset)
    classes = classifier.class_names or ()
    figure = look.begin(2 * 2.95 + 0.3, "")
    axes = figure.subplots(2, 3, squeeze=False)
    recorded: list[Value] = []
    for i, (row, image) in enumerate(zip(axes, images)):
        target = int(found.info.target[i])
        name = str(classes[target]).split(",")[0] if classes else f"class {target}"
        before, after = found.info.activation[i], found.info.activation_masked[i]
        area = float(np.mean(found.mask_vectors[-1][i]))
        look.show(row[0], image, below=f"{name}, {before:.2f}", size=look.TEXT)
        look.show(
            row[1], overlay(image, found.saliency[i]), below="saliency", size=look.TEXT
        )
        says = f"{name}, {after:.2f}, through masks of {area:.0%}"
        look.show(row[2], through_masks(image, found, i), below=says, size=look.TEXT)
        for quantity, value in (("before", before), ("after", after), ("area", area)):
            recorded.append({"image": name, "quantity": quantity, "value": float(value)})
    look.write(figure, config.out)
    if config.results:
        write(config.results, recorded)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
