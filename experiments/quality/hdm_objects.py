r"""How many of several objects of one class does a map show? HDM against MDM and others.

    python experiments/quality/hdm_objects.py                  # two digits of one class, 3 networks
    python experiments/quality/hdm_objects.py --models vit --limit 4 --methods mdm \
        --results "" --figure docs/images/hdm.png
    python experiments/quality/hdm_objects.py --data digits    # what HDM costs with one object
    python experiments/quality/hdm_objects.py --annotated imagenet_val300 \
        --models vit_tiny_patch16_224=WEIGHTS

An object counts as found when at least half of its pixels are among the most salient ones: as many
as all objects have together (1x), or twice as many (2x), a protocol fixed before anything was
measured (`mdm_jax.metrics.objects`).

Results: `experiments/results/hdm_objects.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from matplotlib.figure import Figure

from experiments.quality.benchmark_imagenet import write_image_folder
from experiments.quality.benchmark_networks import Config, main, parse
from mdm_jax import explain, load_model
from mdm_jax.cli.console import Result, Terminal
from mdm_jax.data.digits import Digits
from mdm_jax.data.network_input import evenly_spaced
from mdm_jax.evaluation.benchmark_config import Targets
from mdm_jax.hdm import HDMConfig, superposed_mask
from mdm_jax.metrics.localization import box_mask
from mdm_jax.metrics.objects import MAX_FRACTION, object_masks, which_found
from mdm_jax.storage.atomic import check_writable
from mdm_jax.views import explanation_figures

METHODS = (
    *(
        "hdm",
        "hdm:rounds=1",
        "mdm",
        "mdm:steps=40",
        "gradient",
        "smoothgrad:num_samples=20",
        "integrated_gradients:steps=20",
    ),
    *("grad_cam", "occlusion:stride=4", "rise:num_samples=200", "random", "center"),
)


@dataclass(frozen=True, kw_only=True)
class Objects(Config):
    models: tuple[str, ...] = ("resnet", "densenet", "vit")
    data: str = "digits:2"
    split: str = "test"
    limit: int | None = 100
    methods: tuple[str, ...] = METHODS
    metrics: tuple[str, ...] = (
        "objects:half-2x",
        "objects:half-1x",
        "energy:mask",
        "insertion:rise-28",
    )
    targets: Targets = "label"
    only_correct: bool = True
    annotated: Path | None = None
    """folder with images/ and annotations.json, see benchmark_imagenet.py, in place of --data: its
    images with several boxes that cover up to a third together"""
    out: Path = Path("hdm-objects")
    results: str = "hdm_objects"
    figure: Path | None = None
    """where the figure of HDM's rounds on two digits goes; none is drawn when not given"""

    def run(self, terminal: Terminal) -> Result:
        config = self
        if self.annotated is not None:
            check_writable(self.out)
            write_image_folder(
                self.annotated, self.out / "data", "val", has_several_objects
            )
            config = dataclasses.replace(
                self,
                annotated=None,
                data=f"folder:{self.out / 'data'}",
                split="val",
                limit=None,
            )
        result = super(Objects, config).run(terminal)
        if self.figure is not None:
            explanation_figures.save(draw(self.models[0], 4, HDMConfig()), self.figure)
        return result


def has_several_objects(file: Path, boxes: list[list[float]]) -> bool:
    """Whether an image has two boxes or more that leave enough of it free for the metric to
    count."""
    with PIL.Image.open(file) as image:
        return (
            len(boxes) > 1
            and box_mask(np.asarray(boxes), (image.height, image.width)).mean()
            <= MAX_FRACTION
        )


def draw(model: str, count: int, config: HDMConfig) -> Figure:
    """A row an image: the image, MDM's map, every round's find alone with its weight, and HDM's
    map; found objects are outlined in full, others dotted."""
    source, classifier = Digits("test", objects=2), load_model(model)
    examples = [source[i] for i in evenly_spaced(len(source), count)]
    images, labels = (
        np.stack([each.image for each in examples]),
        np.asarray([each.label for each in examples]),
    )
    mdm, hdm = (explain(classifier, images, labels, method=name) for name in ("mdm", "hdm"))
    cost = {
        name: int(found.info.evaluations[0]) for name, found in (("MDM", mdm), ("HDM", hdm))
    }
    figure = Figure(
        figsize=(1.5 * (config.rounds + 3), 1.6 * count + 0.3),
        dpi=150,
        layout="constrained",
    )
    axes = figure.subplots(count, config.rounds + 3, squeeze=False)
    of_a_round = len(hdm.mask_vectors) // config.rounds
    for row, example in enumerate(examples):
        objects = object_masks(example.mask, example.boxes, images.shape[1:3])
        panels = [("image", images[row]), (f"MDM ({cost['MDM']})", mdm.saliency[row])]
        for r in range(config.rounds):
            vectors = tuple(
                each[row]
                for each in hdm.mask_vectors[r * of_a_round : (r + 1) * of_a_round]
            )
            weight = float(hdm.info.terms[f"weight_{r + 1}"][row])
            panels.append(
                (
                    f"round {r + 1}, weight {weight:.2f}",
                    np.asarray(superposed_mask(vectors, images.shape[1:3])),
                )
            )
        panels.append((f"HDM ({cost['HDM']})", hdm.saliency[row]))
        for column, (ax, (title, panel)) in enumerate(zip(axes[row], panels)):
            ax.imshow(
                panel
                if column == 0
                else explanation_figures.overlay(
                    images[row], panel / max(float(panel.max()), 1e-6)
                )
            )
            for each, shown in zip(objects, which_found(panel, objects) if column else ()):
                ax.contour(
                    each,
                    levels=[0.5],
                    colors=explanation_figures.TRUTH,
                    linewidths=0.8,
                    linestyles="solid" if shown else "dotted",
                )
            ax.set_title(title, fontsize=7)
            ax.axis("off")
    return figure


if __name__ == "__main__":
    sys.exit(main(parse(Objects, __doc__)))
