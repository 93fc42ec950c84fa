"""Part (d): peak memory against the number of images, network in bfloat16.

Of a bare evaluation and of the default preset of MDM. Where the device counts its memory, the
highest that it held, for programs that raised it (what compiling needs may be in it); for a bare
evaluation also what the compiled program asks for, its temporary memory and its results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from experiments.speed.accelerator_parts import networks
from experiments.speed.accelerator_parts.record import Clock, Value, measured
from experiments.speed.accelerator_parts.settings import Settings
from experiments.speed.measuring import evaluation
from mdm_jax import explain_batch


def measure(settings: Settings, clock: Clock) -> Iterator[Value]:
    networks.require_accelerator(settings)
    for name in settings.explained:
        net = networks.network(name, settings, "bfloat16")
        for size in settings.memory_batches:
            case = f"{name}, evaluation of {size}"
            if clock.has_time(case):
                with clock.case(case):
                    yield from of_evaluation(name, net, size, settings)
    name = settings.explained[0]
    explained = networks.classifier(name, settings)
    for size in settings.memory_batches:
        case = f"{name}, explain {size}"
        if clock.has_time(case):
            with clock.case(case):
                images = networks.random_images(size, settings.side)
                before = peak()
                explain_batch.explain(explained, images, micro_batch=size)
                what = {"network": name, "program": "explain", "batch": size}
                yield from of_device(before, what)


def of_evaluation(name: str, net: Any, size: int, settings: Settings) -> Iterator[Value]:
    shape = (size, settings.side, settings.side, 3)
    images, before = jnp.zeros(shape, jnp.bfloat16), peak()
    compiled = jax.jit(evaluation).lower(net, images).compile()
    jax.block_until_ready(compiled(net, images))
    what = {"network": name, "program": "evaluation", "batch": size}
    analysis: Any = compiled.memory_analysis()
    if analysis is not None:
        asked = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
        yield measured("compiled, MB", asked / 1e6, **what)
    yield from of_device(before, what)


def peak() -> int:
    """The highest number of bytes that the device held so far; 0 where it does not count."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats.get("peak_bytes_in_use", 0))


def of_device(before: int, what: dict[str, Any]) -> Iterator[Value]:
    """The device's own count, where it is higher than that of all programs before."""
    if peak() > before:
        yield measured("peak, MB", peak() / 1e6, **what)
