"""Part (e): do maps agree between CPU in float32, the device in float32, and in bfloat16?

Spearman's correlation of the two maps of an image, the default preset of MDM: digits by the
embedded networks, and random images by a network of the published size with random weights whose
batch norms have positive scales and variances near one. In float32 the device rounds products as it
does by default (on NVIDIA to TensorFloat-32), or not at all ("highest")."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np

from experiments.speed.accelerator_parts import networks
from experiments.speed.accelerator_parts.record import Clock, Value, measured
from experiments.speed.accelerator_parts.settings import Settings
from mdm_jax import PRESETS, explain_batch, load_model
from mdm_jax.metrics.similarity import spearman

WAYS = {
    "device, float32": ("float32", None),
    "device, float32, highest precision": ("float32", "highest"),
    "device, bfloat16": ("bfloat16", None),
}
"""what is compared with the CPU's float32: dtype and precision of products"""


def measure(settings: Settings, clock: Clock) -> Iterator[Value]:
    networks.require_accelerator(settings)
    for name in settings.agreement_networks:
        case = f"{name}, digits"
        if find_spec("sklearn") is None:
            clock.missed[case] = "needs sklearn"
        elif clock.has_time(case):
            with clock.case(case):
                yield from compare(name, digits(settings.digits), settings)
    name = settings.explained[0]
    case = f"{name}, random weights"
    if clock.has_time(case):
        with clock.case(case):
            images = networks.random_images(settings.agreement_images, settings.side)
            yield from compare(name, images, settings, random_weights=True)


def digits(count: int) -> np.ndarray:
    from mdm_jax.data.digits import Digits

    source = Digits("test")
    return np.stack([source[index].image for index in range(count)])


def compare(
    name: str, images: np.ndarray, settings: Settings, random_weights: bool = False
) -> Iterator[Value]:
    """Each of `WAYS` against the CPU, on the classes that the CPU chose."""

    def maps(dtype: str, targets: Any) -> Any:
        if random_weights:
            net = networks.classifier(name, settings, dtype)
        else:
            net = load_model(name, dtype=dtype)
        size = min(len(images), settings.batch)
        config = dataclasses.replace(PRESETS["fast"], steps=settings.agreement_steps)
        return explain_batch.explain(net, images, targets, micro_batch=size, config=config)

    with jax.default_device(jax.devices("cpu")[0]):
        exact = maps("float32", None)
    shown = f"{name}, random weights" if random_weights else f"{name}, digits"
    for way, (dtype, precision) in WAYS.items():
        with jax.default_matmul_precision(precision):
            found = maps(dtype, exact.info.target)
        with jax.default_device(jax.devices("cpu")[0]):
            alike = np.asarray(jax.vmap(spearman)(exact.saliency, found.saliency))
        what = {"network": shown, "way": way, "images": len(images)}
        yield measured("Spearman, median", float(np.median(alike)), **what)
        yield measured("Spearman, minimum", float(alike.min()), **what)
