"""Part (b): one MDM step / a bare gradient of the same network on the same batch, in bfloat16.

The step is taken in the compiled loop and alone, the gradient alone, which is its best; all in
turn."""

from __future__ import annotations

from collections.abc import Iterator

import jax.numpy as jnp

from experiments.speed.accelerator_parts import networks
from experiments.speed.accelerator_parts.record import Clock, Value, measured
from experiments.speed.accelerator_parts.settings import Settings
from experiments.speed.measuring import (
    alternate,
    compile_together,
    step_calls,
    step_ratios,
)

TAKEN = ("gradient", "step", "step in scan")


def measure(settings: Settings, clock: Clock) -> Iterator[Value]:
    networks.require_accelerator(settings)
    images = jnp.asarray(networks.random_images(settings.batch, settings.side))
    for name in settings.explained:
        if clock.has_time(name):
            with clock.case(name):
                net = networks.classifier(name, settings)
                calls = step_calls(net, images)
                compiled = compile_together({k: calls[k] for k in TAKEN}, settings.workers)
                seconds = alternate(compiled, settings.repeats)
                what = {"network": name, "dtype": "bfloat16", "batch": settings.batch}
                for quantity, ratios in step_ratios(seconds).items():
                    yield measured(quantity, ratios, **what)
                per_image = 1e3 * seconds["gradient"] / settings.batch
                yield measured("gradient, ms an image", per_image, **what)
