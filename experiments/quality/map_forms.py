r"""Which map to make of masks and evidence: what several forms mark, and what random weights leave.

    python experiments/quality/map_forms.py --data folder:ECSSD --split all --skip 40 --limit 24 \
        --model resnet18 --weights WEIGHTS --results map_forms_resnet18

Of every form: energy inside the object, pointing, PxAP, F-measure, parts above a quarter of the
maximum (median), and the Spearman correlation with the same form of the network with all weights
random. A form that is much alike for both is drawn by the image, not by what was learned. The
letters are those of `mdm_jax.evidence`; only `saliency` is calibrated.

Results: `experiments/results/map_forms_*.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy import ndimage

import mdm_jax
from experiments.record_results import write
from mdm_jax import evidence, masks
from mdm_jax.data import open_source
from mdm_jax.data.network_input import PreparedExample, nested_order, prepare_examples
from mdm_jax.errors import InputError
from mdm_jax.metrics import localization, salient_objects, sanity, wsol
from mdm_jax.metrics.similarity import spearman

SCALES = (5 / 224, 8 / 224, 12 / 224)
"""standard deviations of the Gaussian, as shares of the image's shorter side"""
QUARTER = 0.25
"""part of the maximum above which a part of a map counts"""

Forms = dict[tuple[str, str], np.ndarray]
"""maps by form and scale"""


@dataclass(frozen=True)
class Config:
    """Network, images, and where results go."""

    model: str = "resnet"
    """an embedded network (resnet, densenet, vit) or another by name"""
    weights: str | None = None
    data: str = "digits"
    split: str = "train"
    skip: int = 0
    """images at the start of the order of the win matrix, which reports on them"""
    limit: int = 24
    results: str | None = None
    """name of the file in experiments/results that is written, by default with the network's; none
    when empty"""


def images_of(config: Config, classifier: Any) -> list[PreparedExample]:
    """Images with the pixels of their object, behind those that the win matrix takes."""
    source = open_source(config.data, config.split)
    order = nested_order(len(source))[config.skip : config.skip + config.limit]
    prepared = prepare_examples(source, order, classifier.preprocessing)
    return [
        each
        for each in prepared
        if isinstance(each, PreparedExample) and each.mask is not None
    ]


@partial(jax.jit, static_argnums=2)
def forms_of(mask: Any, evidence_of: Any, scale: float) -> dict[str, Any]:
    """The forms of one image: from the stacked mask, stretched, and the evidence, both [h, w]."""
    smoothed = evidence.smooth(evidence_of, scale)
    size = masks.normalize(evidence.smooth(jnp.abs(evidence_of), scale))
    support = evidence.support(smoothed)
    order = masks.normalize(size * support * (mask + evidence.FLOOR))
    signed = order + evidence.AGAINST * evidence.against(smoothed)
    return {
        "A": size,
        "P": support,
        "A P": size * support,
        "A P (M + d)": order,
        "A P (M + d), against last": masks.normalize(signed),
    }


def all_forms(classifier: Any, images: np.ndarray, targets: Any) -> Iterator[Forms]:
    """The forms of every image, and the package's own two maps."""
    found = mdm_jax.explain(classifier, images, targets)
    assert found.evidence is not None
    assert found.ranking is not None
    shape = images.shape[1:3]
    for i, evidence_of in enumerate(found.evidence):
        rendered = [masks.render(vector[i], shape) for vector in found.mask_vectors]
        mask = masks.normalize(jnp.stack(rendered).mean(axis=0))
        forms: Forms = {
            ("saliency", ""): found.saliency[i],
            ("ranking", ""): found.ranking[i],
            ("M", ""): np.asarray(mask),
        }
        for scale in SCALES:
            at = f"{round(224 * scale)}/224"
            made = jax.device_get(forms_of(mask, evidence_of, scale))
            forms |= {(name, at): form for name, form in made.items()}
        yield forms


def marks(saliency: np.ndarray, object_mask: np.ndarray) -> dict[str, Any]:
    """What one map marks, beside the object of its image."""
    bright = saliency > QUARTER * saliency.max()
    place = np.unravel_index(saliency.argmax(), saliency.shape)
    map_and_mask = jnp.asarray(saliency), jnp.asarray(object_mask)
    return {
        "energy": float(localization.energy_pointing(*map_and_mask)),
        "pointing": float(object_mask[place]),
        "f_measure": float(np.mean(salient_objects.f_curve(*map_and_mask))),
        "parts": ndimage.label(bright, np.ones((3, 3)))[1],
        "histogram": np.asarray(wsol.pixel_histograms(*map_and_mask)),
    }


def measure(config: Config, classifier: Any) -> list[dict[str, Any]]:
    """One value for every form and measure."""
    used = images_of(config, classifier)
    images = np.stack([each.image for each in used])
    trained = list(all_forms(classifier, images, None))
    targets = mdm_jax.explain(classifier, images, method="random").info.target
    *_, (_, all_random) = sanity.randomize(classifier, shape=images.shape[1:])
    untrained = list(all_forms(all_random, images, targets))
    rows: list[dict[str, Any]] = []
    for form in trained[0]:
        found = [
            marks(forms[form], np.asarray(each.mask)) for forms, each in zip(trained, used)
        ]
        values: dict[str, float] = {
            name: float(np.mean([each[name] for each in found]))
            for name in ("energy", "pointing", "f_measure")
        }
        histograms = np.stack([each["histogram"] for each in found])
        values["pxap"] = float(wsol.pixel_average_precision(histograms))
        values["parts"] = float(np.median([each["parts"] for each in found]))
        alike = [
            spearman(jnp.asarray(a[form]), jnp.asarray(b[form]))
            for a, b in zip(trained, untrained)
        ]
        values["random weights"] = float(np.mean(alike))
        rows += [
            {"map": form[0], "scale": form[1], "metric": name, "value": value}
            for name, value in values.items()
        ]
    return rows


def main(config: Config) -> int:
    try:
        classifier = mdm_jax.load_model(config.model, weights=config.weights)
        rows = measure(config, classifier)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    network = Path(config.model).name
    name = f"map_forms_{network}" if config.results is None else config.results
    if name:
        write(name, [{"network": network} | row for row in rows])
    for row in rows:
        print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
