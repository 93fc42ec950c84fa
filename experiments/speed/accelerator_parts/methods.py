"""Part (g), our side: the methods that `torch_methods` measures, at the same evaluations.

One compiled program over all images, the network in bfloat16; compiled before it is timed. MDM
takes its default's evaluations and stands beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.speed.accelerator_parts import networks
from experiments.speed.accelerator_parts.record import Clock, Value, measured
from experiments.speed.accelerator_parts.settings import Settings
from mdm_jax import explain_batch
from mdm_jax.baselines.extremal_perturbation import ExtremalPerturbation
from mdm_jax.baselines.integrated_gradients import IntegratedGradients
from mdm_jax.baselines.meaningful_perturbation import MeaningfulPerturbation
from mdm_jax.config import PRESETS
from mdm_jax.execution.timing import stopwatch

TIMES = 3


def measure(settings: Settings, clock: Clock) -> Iterator[Value]:
    networks.require_accelerator(settings)
    net = networks.classifier(settings.explained[0], settings)
    images = networks.random_images(settings.method_images, settings.side)
    steps = settings.evaluations
    methods: dict[str, Any] = {
        "integrated gradients": IntegratedGradients(steps=steps, rule="middle"),
        "extremal perturbation": ExtremalPerturbation(steps=steps),
        "meaningful perturbation": MeaningfulPerturbation(steps=steps, start="ones"),
        "mdm": PRESETS["fast"],
    }
    for method, config in methods.items():
        for size in (len(images), 1):
            case = f"{method}, {size} at a time"
            if clock.has_time(case):
                with clock.case(case):
                    yield from rates(method, config, net, images[:size])


def rates(method: str, config: Any, net: Any, images: np.ndarray) -> Iterator[Value]:
    n, seconds, count = len(images), [], 0.0
    name = method.replace(" ", "_")
    how: dict[str, Any] = {"method": name, "config": config, "micro_batch": n}
    explain_batch.explain(net, images, **how)
    for _ in range(TIMES):
        with stopwatch() as timing:
            found = explain_batch.explain(net, images, **how)
        seconds.append(timing.total)
        count = float(np.mean(found.info.evaluations))
    what = {"method": method, "library": "mdm_jax", "batch": n, "evaluations": count}
    yield measured("evaluations/s", n * count / np.asarray(seconds), **what)
    yield measured("images/s", n / np.asarray(seconds), **what)
