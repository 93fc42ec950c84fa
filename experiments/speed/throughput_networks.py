"""What a GPU makes of MDM: images and evaluations per second, and the share of its peak.

    python experiments/speed/throughput_networks.py           # whole networks, 224 px: for a GPU
    python experiments/speed/throughput_networks.py --small   # embedded networks: any machine

Random weights (the embedded networks have their own), the default preset. By network, taken in one
run: seconds of a bare gradient with respect to a batch of images and of an MDM step on the same
batch, alone and inside `lax.scan`, in turn (goal on a GPU: step / gradient <= 1.05); images per
second of `explain`, batched against one by one (goal on a GPU: 20x); steps with 4096 masks in
flight (an image has a mask of every size); and what 50,000 images would take. Evaluations are pairs
of a forward and a backward pass. The share of the peak counts the operations of the network alone,
as JAX counts them before XLA rewrites the program, over the time of the MDM step; peaks are those
of the maker's data sheets for dense bfloat16. Memory is the highest so far, of all networks before.
Not run on a GPU yet.

Results: `experiments/results/throughput_networks*.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments.record_results import write
from experiments.speed.evaluation_speed import Config as Weights
from experiments.speed.evaluation_speed import evaluation, random_network
from experiments.speed.throughput import peak_memory, step_against_gradient
from mdm_jax import PRESETS, explain_batch, load_model, masks
from mdm_jax.data.preprocessing import IMAGENET, Preprocessing
from mdm_jax.execution.network import as_network
from mdm_jax.execution.timing import stopwatch
from mdm_jax.models.classifier import Classifier

PEAKS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "TPU v6 lite": 918.0,
    "TPU v5 lite": 197.0,
    "TPU v5": 459.0,
    "TPU v4": 275.0,
}
"""TFLOP/s of dense bfloat16 by a part of JAX's `device_kind`, the first that fits; a machine that
is not here has no share"""
SMALL_STEPS = 2
DATA_SET = 50_000
"""images, as many as ImageNet's validation set has"""


@dataclass(frozen=True)
class Config:
    """What is measured; `--small` changes the defaults of the first four."""

    small: bool = False
    """the embedded networks at 64 px in float32, 16 images in a batch"""
    networks: tuple[str, ...] = ()
    side: int | None = None
    """pixels a side"""
    dtype: str | None = None
    batch: int | None = None
    """images solved at a time"""
    one_by_one: int = 8
    """images that are timed one at a time"""
    masks: int = 4096
    """in flight at once"""
    flight_steps: int | None = None
    """steps that these masks take; the default's, or 2 with `--small`"""
    repeats: int = 5
    results: str | None = None
    """name of the file in experiments/results that is written, by default throughput_networks or
    throughput_networks_small; none when empty"""

    def filled(self) -> tuple[tuple[str, ...], int, str, int]:
        """Networks, side, dtype and batch."""
        usual: tuple[tuple[str, ...], int, str, int] = (
            (("resnet", "densenet", "vit"), 64, "float32", 16)
            if self.small
            else (("resnet50", "densenet121", "vit_base_patch16_224"), 224, "bfloat16", 64)
        )
        names, side, dtype, size = usual
        return (
            self.networks or names,
            self.side or side,
            self.dtype or dtype,
            self.batch or size,
        )


def build(name: str, side: int, dtype: str) -> Any:
    """A network over images in [0, 1], float32 in and out, that computes in `dtype`."""
    if name in ("resnet", "densenet", "vit"):
        return load_model(name, dtype=dtype)
    classes = tuple(map(str, range(1000)))
    preprocessing = Preprocessing(
        3, (side, side), 0.875, "bilinear", IMAGENET["mean"], IMAGENET["std"]
    )
    return Classifier(
        random_network(name, Weights(side=side), dtype), name, classes, preprocessing, dtype
    )


def peak_of(device: Any, dtype: str) -> float | None:
    """TFLOP/s of the machine, None where it is not known: on a CPU, for another dtype, a machine
    that is not in `PEAKS`."""
    if dtype != "bfloat16" or device.platform == "cpu":
        return None
    return next(
        (
            peak
            for part, peak in PEAKS.items()
            if part.casefold() in device.device_kind.casefold()
        ),
        None,
    )


def operations(network: Any, images: jax.Array) -> float:
    """Floating-point operations of an evaluation of one image, NaN where JAX does not count
    them."""
    costs = jax.jit(evaluation).lower(network, images).cost_analysis() or {}
    return float(costs.get("flops", float("nan"))) / len(images)


def speed(network: Any, images: np.ndarray, size: int) -> tuple[float, float]:
    """Images per second of `explain` on `size` images at a time, compiled before, and evaluations
    an image."""
    explain_batch.explain(network, images[:size], micro_batch=size)
    with stopwatch() as timing:
        found = explain_batch.explain(network, images, micro_batch=size)
    return len(images) / timing.total, float(np.mean(found.info.evaluations))


def in_flight(network: Any, images: np.ndarray, config: Config) -> tuple[int, float, int]:
    """Masks in flight, evaluations per second with all of them in one program, and how many images
    at a time memory allowed."""
    settings = PRESETS["fast"]
    if config.flight_steps is not None or config.small:
        settings = dataclasses.replace(settings, steps=config.flight_steps or SMALL_STEPS)
    sizes = len(masks.resolve_sizes(settings.sizes, images.shape[1:3]))
    many = np.resize(images, (-(-config.masks // sizes), *images.shape[1:]))
    with warnings.catch_warnings(record=True) as said, stopwatch() as timing:
        warnings.simplefilter("always")
        found = explain_batch.explain(network, many, micro_batch=len(many), config=settings)
    halved = sum("out of memory" in str(each.message) for each in said)
    return (
        len(many) * sizes,
        float(np.sum(found.info.evaluations)) / timing.running,
        len(many) >> halved,
    )


def measure(name: str, config: Config) -> tuple[dict[str, str], dict[str, float]]:
    """All figures of one network, as text and as numbers."""
    _, side, dtype, size = config.filled()
    device = jax.local_devices()[0]
    network, _ = as_network(build(name, side, dtype), (side, side, 3))
    images = (
        np.random.default_rng(0).uniform(size=(4 * size, side, side, 3)).astype(np.float32)
    )
    costs = step_against_gradient(network, jnp.asarray(images[:size]), config.repeats)
    alone, _ = speed(network, images[: config.one_by_one], 1)
    together, evaluations = speed(network, images, size)
    flying, rate, at_once = in_flight(network, images, config)
    flops, peak = operations(network, jnp.asarray(images[:2])), peak_of(device, dtype)
    achieved = flops * size / costs["step in scan"] / 1e12
    numbers = {
        "images/s": together,
        "evaluations/s": together * evaluations,
        "GFLOP an evaluation": flops / 1e9,
        "step / gradient": costs["step / gradient"],
        "step in scan / gradient": costs["step in scan / gradient"],
        "batched / one by one": together / alone,
        f"evaluations/s, {flying} masks in flight": rate,
        "peak memory so far, GB": peak_memory() / 1e9,
        f"hours for {DATA_SET:,} images": DATA_SET / together / 3600,
    }
    if peak is not None:
        numbers["share of peak"] = achieved / peak
    texts = {
        "images/s": f"{together:.2f}",
        "evaluations/s": f"{together * evaluations:.1f}",
        "GFLOP an evaluation": f"{flops / 1e9:.2f}",
        "TFLOP/s in a step": f"{achieved:.3f}",
        "share of peak": "-" if peak is None else f"{achieved / peak:.0%} of {peak:g}",
        "step / gradient": f"{costs['step / gradient']:.3f}",
        "step in scan / gradient": f"{costs['step in scan / gradient']:.3f}",
        "batched / one by one": f"{together / alone:.2f}x ({size} against 1)",
        "masks in flight": f"{flying}: {rate:.1f} evaluations/s",
        "of images at a time": str(at_once),
        "peak memory so far": f"{peak_memory() / 1e9:.2f} GB",
        f"{DATA_SET:,} images": f"{DATA_SET / together / 3600:.2f} h",
    }
    return texts, numbers


def main(config: Config) -> None:
    names, side, dtype, size = config.filled()
    device, found, recorded = jax.local_devices()[0], {}, []
    for name in names:
        found[name], numbers = measure(name, config)
        print(name, found[name], flush=True)
        for quantity, value in numbers.items():
            recorded.append({"network": name, "quantity": quantity, "value": value})
    title = (
        f"{device.device_kind}, jax {jax.__version__}, {side} px, {dtype}, batch {size},"
        f" {PRESETS['fast'].steps} steps"
    )
    table = Table("quantity", *found, title=title, box=None, title_justify="left")
    for quantity in next(iter(found.values())):
        table.add_row(quantity, *(each[quantity] for each in found.values()))
    Console(width=140, highlight=False).print(table)
    default = "throughput_networks_small" if config.small else "throughput_networks"
    result = default if config.results is None else config.results
    if result:
        write(result, recorded)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
