r"""What MDM costs beyond the network: step against bare gradient, batching, memory, compilation.

    python experiments/speed/throughput.py                  # the embedded network, 64 px
    python experiments/speed/throughput.py --network resnet18 --batch 8 \
        --results throughput_resnet18                       # ResNet-18's widths, random weights
    python experiments/speed/throughput.py --network wide --batch 256 \
        --micro-batches 1 16 64 256                         # for a GPU

Prints, from one run: (a) one MDM step on B masked images / a bare value-and-gradient with respect
to the input of the same network on the same batch, both alone and inside `lax.scan`; (b) images per
second of `explain` for several micro-batches against one image at a time; (c) peak memory against
the number of images. Ratios carry over, absolute times do not.

Results: `experiments/results/throughput*.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from rich.console import Console
from rich.table import Table

from experiments.record_results import write
from experiments.speed.measuring import peak_memory, step_against_gradient
from mdm_jax import explain_batch
from mdm_jax.data import Digits
from mdm_jax.execution.network import as_network, residual_bytes
from mdm_jax.execution.timing import stopwatch
from mdm_jax.models.pretrained import load_model
from mdm_jax.models.resnet import ResNet

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet18": {"widths": (64, 128, 256, 512), "depths": (2, 2, 2, 2)},
    "wide": {"widths": (128, 256, 512, 1024), "depths": (3, 4, 6, 3)},
}


@dataclass(frozen=True)
class Config:
    """What is measured, and how often."""

    network: str = "digits"
    """digits (the embedded network), resnet18 or wide (random weights)"""
    side: int = 64
    """pixels a side"""
    batch: int = 16
    """masked images in a step"""
    micro_batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    counts: tuple[int, ...] = (16, 32, 64)
    """numbers of images whose peak memory is compared"""
    repeats: int = 7
    results: str = "throughput"
    """name of the file in experiments/results that is written; none when empty"""


def build(config: Config) -> Callable[..., Any]:
    if config.network == "digits":
        return load_model()
    network = ResNet(num_classes=10, rngs=nnx.Rngs(0), **NETWORKS[config.network])
    return nnx.view(
        network, deterministic=True, use_running_average=True, raise_if_not_found=False
    )


def batching(
    network: Any, images: np.ndarray, sizes: tuple[int, ...]
) -> list[tuple[int, float, float, float]]:
    """(b) For every micro-batch: images per second, seconds of compilation, and the share of images
    that rounding changed.

    An image counts as changed when a mask value differs by more than 1e-4 from that of the first
    micro-batch size."""
    rows, reference = [], None
    for size in sizes:
        with stopwatch() as first:
            explain_batch.explain(network, images[:size], micro_batch=size)
        with stopwatch() as timing:
            vectors = explain_batch.explain(network, images, micro_batch=size).mask_vectors
        reference = reference or vectors
        change = np.max(
            [np.abs(a - b).max(axis=(1, 2)) for a, b in zip(vectors, reference)], axis=0
        )
        rows.append(
            (
                size,
                len(images) / timing.total,
                first.compiling,
                float(np.mean(change > 1e-4)),
            )
        )
    return rows


def main(config: Config) -> None:
    device = jax.local_devices()[0]
    network, console = build(config), Console(width=120)
    shape = (config.side, config.side, 3)
    count = max(*config.counts, config.batch, *config.micro_batches)
    if config.network == "digits":
        images = np.stack([Digits("test")[i].image for i in range(count)])
    else:
        images = np.random.default_rng(0).uniform(size=(count, *shape)).astype(np.float32)
    network, _ = as_network(network, shape)

    memory = []
    for number in sorted(config.counts):
        explain_batch.explain(
            network, images[:number], micro_batch=min(config.batch, config.counts[0])
        )
        memory.append((number, peak_memory()))
    costs = step_against_gradient(
        network, jnp.asarray(images[: config.batch]), config.repeats
    )
    speeds = batching(network, images, config.micro_batches)

    console.print(
        f"\n{device.device_kind}, jax {jax.__version__}, {config.network}, {config.side} px, batch"
        f" {config.batch}"
    )
    console.print(
        f"one image's gradient keeps {residual_bytes(network, shape) / 1e6:.1f} MB"
    )
    table = Table("quantity", "value", box=None)
    for name, value in costs.items():
        table.add_row(
            f"(a) {name}",
            f"{value:.3f}"
            if "/" in name
            else f"{1e3 * value / config.batch:.2f} ms an image",
        )
    for size, speed, compiling, changed in speeds:
        ratio = speed / speeds[0][1]
        table.add_row(
            f"(b) explain, micro-batch {size}",
            f"{speed:.2f} images/s, {ratio:.2f}x, compiled in {compiling:.1f} s, {changed:.0%}"
            " differ",
        )
    for number, peak in memory:
        table.add_row(
            f"(c) peak memory after {number} images",
            f"{peak / 1e6:.0f} MB, {peak / memory[0][1]:.3f}x",
        )
    console.print(table)
    if config.results:
        quantities = {name: value for name, value in costs.items() if "/" in name}
        most = max(speeds, key=lambda row: row[0])
        quantities |= {
            "images per second, largest / smallest micro-batch": most[1] / speeds[0][1],
            "share of masks that rounding changed": most[3],
            "peak memory, most / fewest images": memory[-1][1] / memory[0][1],
            "compilation, seconds": speeds[0][2],
        }
        write(config.results, [{"quantity": q, "value": v} for q, v in quantities.items()])


if __name__ == "__main__":
    main(tyro.cli(Config))
