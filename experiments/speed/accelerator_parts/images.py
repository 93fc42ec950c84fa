"""Part (c): images per second of `explain` and of `mdm run`, default preset, network in bfloat16.

`explain` is timed on images in memory, batched and one by one, and with as many of the masks in
flight as memory holds; `mdm run` on JPEG files that it reads and decodes, with what it writes. All
programs are compiled before. The idle share of the device is what `mdm run` itself counts."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
import PIL.Image
import psutil

from experiments.speed.accelerator_parts import networks
from experiments.speed.accelerator_parts.record import Clock, Value, measured
from experiments.speed.accelerator_parts.settings import Settings
from mdm_jax import PRESETS, explain_batch, masks
from mdm_jax.execution.network import residual_bytes
from mdm_jax.execution.timing import stopwatch

DATA_SET = 50_000
"""images, as many as ImageNet's validation set has"""
FOR_RUNS = ("grain", "pyarrow", "tensorstore", "orbax", "filelock")
"""packages that `mdm run` needs beside those of `explain`"""
TIMES = 3


def measure(settings: Settings, clock: Clock) -> Iterator[Value]:
    networks.require_accelerator(settings)
    images = networks.random_images(settings.images, settings.side)
    lacking = [package for package in FOR_RUNS if find_spec(package) is None]
    for name in settings.explained:
        net = networks.classifier(name, settings)
        what = {"network": name, "dtype": "bfloat16"}
        kinds: dict[str, Any] = {
            "explain": lambda net=net: explain_rates(net, images, settings),
            "run": lambda net=net: run_rates(net, images, settings),
            "masks in flight": lambda net=net: in_flight(net, images, settings),
        }
        for kind, measure_kind in kinds.items():
            case = f"{name}, {kind}"
            if kind == "run" and lacking:
                clock.missed[case] = f"needs {', '.join(lacking)}"
            elif clock.has_time(case):
                with clock.case(case):
                    for value in measure_kind():
                        yield what | value


def explain_rates(net: Any, images: np.ndarray, settings: Settings) -> Iterator[Value]:
    """Batched against one by one."""
    few = images[: settings.one_by_one]
    rates = {}
    for size, some in ((settings.batch, images), (1, few)):
        explain_batch.explain(net, some[:size], micro_batch=size)
        seconds = []
        for _ in range(TIMES):
            with stopwatch() as timing:
                found = explain_batch.explain(net, some, micro_batch=size)
            seconds.append(timing.total)
        rates[size] = len(some) / np.asarray(seconds)
        yield measured("explain, images/s", rates[size], batch=size)
    gain = float(np.median(rates[settings.batch]) / np.median(rates[1]))
    yield measured("explain, batched / one by one", gain, batch=settings.batch)
    evaluations = float(np.mean(found.info.evaluations))
    yield measured("explain, evaluations an image", evaluations, batch=settings.batch)


def run_rates(net: Any, images: np.ndarray, settings: Settings) -> Iterator[Value]:
    """`mdm run` over JPEG files: a short run that compiles, then the one that is timed."""
    from mdm_jax.data.open_source import open_source
    from mdm_jax.runs.config import RunConfig
    from mdm_jax.runs.loop import run

    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        for number, image in enumerate(images):
            picture = PIL.Image.fromarray((255 * image).astype(np.uint8))
            picture.save(photos / f"{number:05}.jpg")
        source = open_source(f"files:{photos}", "all")
        asked: dict[str, Any] = {"micro_batch": settings.batch, "chunk": settings.batch}
        run(net, source, f"{folder}/first", RunConfig(limit=settings.batch, **asked))
        ended = run(net, source, f"{folder}/timed", RunConfig(**asked))
    rate = ended.rows / ended.timing.running
    what = {"batch": settings.batch, "images": ended.rows}
    yield measured("mdm run, images/s", rate, **what)
    idle = 1.0 - ended.busy / ended.timing.total
    yield measured("mdm run, idle share of the device", idle, **what)
    yield measured(
        f"mdm run, minutes for {DATA_SET:,} images", DATA_SET / rate / 60, **what
    )


def in_flight(net: Any, images: np.ndarray, settings: Settings) -> Iterator[Value]:
    """Evaluations per second with all masks in one program, of a few steps; fewer masks where
    memory holds no more. An image has a mask of every size."""
    # without the forwards of calibration, which a few steps would not outweigh
    fast = PRESETS["fast"]
    config = dataclasses.replace(fast, map="mask", steps=settings.flight_steps)
    shape = (settings.side, settings.side, 3)
    sizes = len(masks.resolve_sizes(config.sizes, shape[:2]))
    wanted = -(-settings.masks // sizes)
    stats = jax.local_devices()[0].memory_stats() or {}
    free = stats.get("bytes_limit", psutil.virtual_memory().available)
    free -= stats.get("bytes_in_use", 0)
    count = min(wanted, max(1, int(0.7 * free / residual_bytes(net, shape))))
    many = np.resize(images, (count, *shape))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        explain_batch.explain(net, many, micro_batch=count, config=config)
    halved = sum("out of memory" in str(each.message) for each in said)
    count >>= halved
    rates = []
    for _ in range(TIMES):
        with stopwatch() as timing:
            found = explain_batch.explain(
                net, many[:count], micro_batch=count, config=config
            )
        rates.append(float(np.sum(found.info.evaluations)) / timing.running)
    yield measured("masks in flight", count * sizes, batch=count)
    yield measured("masks in flight, evaluations/s", rates, batch=count)
