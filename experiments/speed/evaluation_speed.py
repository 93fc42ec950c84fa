r"""What one evaluation costs, the unit of MDM's time: (forward + input gradient) / forward.

    python experiments/speed/evaluation_speed.py     # CPU, batch of 8, 224 px, float32
    python experiments/speed/evaluation_speed.py --batch 256 --dtypes float32 bfloat16 \
        --peak 67 989 --networks resnet50 densenet121 vit_base_patch16_224   # a GPU, its TFLOP/s

Random weights, folded batch norms (`--no-fold` keeps them). Gradient: of the probability of one
class with respect to the images. Evaluations per second count pairs of a forward and a backward
pass. The share of the peak counts the operations that XLA counts. Times are medians of functions
taken in turn; ratios carry over to other machines, times do not.

Results: `experiments/results/evaluation_speed.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments.record_results import write
from experiments.speed.measuring import alternate, evaluation, forward, random_network

NETWORKS = (
    "resnet18",
    "resnet50",
    "densenet121",
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "vit_base_patch16_224",
)


@dataclass(frozen=True)
class Config:
    """What is measured, and how often."""

    networks: tuple[str, ...] = NETWORKS
    dtypes: tuple[str, ...] = ("float32",)
    peak: tuple[float, ...] = ()
    """the machine's peak in TFLOP/s for each of the dtypes, when known"""
    batch: int = 8
    side: int = 224
    """pixels a side"""
    fold: bool = True
    remat: bool = False
    """compute a Transformer's blocks again in the backward pass"""
    repeats: int = 7
    results: str = "evaluation_speed"
    """name of the file in experiments/results that is written; none when empty"""


def measure(name: str, dtype: str, config: Config) -> dict[str, float]:
    """Seconds of a forward pass and of an evaluation, and the floating-point operations of the
    evaluation."""
    network = random_network(name, config.side, dtype, fold=config.fold, remat=config.remat)
    images = jax.random.normal(
        jax.random.key(0), (config.batch, config.side, config.side, 3), jnp.dtype(dtype)
    )
    compiled = {
        f.__name__: jax.jit(f).lower(network, images).compile()
        for f in (forward, evaluation)
    }
    runs = alternate(
        {key: partial(f, network, images) for key, f in compiled.items()}, config.repeats
    )
    taken = {key: float(np.median(seconds)) for key, seconds in runs.items()}
    costs = compiled["evaluation"].cost_analysis() or {}
    return taken | {"flops": float(costs.get("flops", float("nan")))}


def main(config: Config) -> None:
    device = jax.devices()[0]
    table = Table(
        title=f"{device.device_kind}, jax {jax.__version__}, batch {config.batch}, {config.side} px"
    )
    columns = (
        "network",
        "dtype",
        "forward ms",
        "evaluation ms",
        "ratio",
        "evaluations/s",
        "TFLOP/s",
        "share of peak",
    )
    for column in columns:
        table.add_column(
            column,
            justify="left" if column in ("network", "dtype") else "right",
            no_wrap=True,
        )
    recorded = []
    for name in config.networks:
        for i, dtype in enumerate(config.dtypes):
            got = measure(name, dtype, config)
            rate = got["flops"] / got["evaluation"] / 1e12
            share = f"{rate / config.peak[i]:.0%}" if i < len(config.peak) else "-"
            numbers = (f"{got['forward'] * 1e3:.1f}", f"{got['evaluation'] * 1e3:.1f}")
            ratio, each = (
                f"{got['evaluation'] / got['forward']:.2f}",
                f"{config.batch / got['evaluation']:.1f}",
            )
            table.add_row(name, dtype, *numbers, ratio, each, f"{rate:.3f}", share)
            quantities = {
                "forward ms": got["forward"] * 1e3,
                "evaluation ms": got["evaluation"] * 1e3,
                "ratio": got["evaluation"] / got["forward"],
            }
            for quantity, value in quantities.items():
                what = {"network": name, "dtype": dtype, "quantity": quantity}
                recorded.append(what | {"value": value})
    Console(width=140).print(table)
    if config.results:
        write(config.results, recorded)


if __name__ == "__main__":
    main(tyro.cli(Config, config=(tyro.conf.FlagCreatePairsOff,)))
