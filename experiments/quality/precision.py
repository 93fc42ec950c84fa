r"""Do maps in bfloat16 agree with those in float32? Spearman's correlation of the two maps.

    python experiments/quality/precision.py                    # the embedded digits networks
    python experiments/quality/precision.py --models vit_tiny_patch16_224=WEIGHTS \
        --photos FOLDER --count 16 --results precision_photographs

WEIGHTS is a hub id, a folder with config.json and model.safetensors, or a file; FOLDER holds
photographs. Only the network computes in bfloat16; masks, fills, the softmax of the node and the
optimizer are float32 in both. For comparison the map in float32 of the image with noise, uniform
within half a level of 255: what the rounding of a file's pixels does.

Results: `experiments/results/precision*.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import mdm_jax
from experiments.record_results import write
from mdm_jax.data import Digits
from mdm_jax.data.network_input import evenly_spaced
from mdm_jax.images import read
from mdm_jax.metrics.similarity import spearman


@dataclass(frozen=True)
class Config:
    """What is compared."""

    models: tuple[str, ...] = ("resnet", "densenet", "vit")
    """names, with `=WEIGHTS` where they are not the usual ones"""
    count: int = 32
    """images"""
    photos: Path | None = None
    """a folder of photographs, in place of the test digits"""
    preset: str = "fast"
    smoothing: float | None = None
    """final smoothing of the maps, in pixels"""
    only_weights: bool = False
    """round the weights to bfloat16 and compute in float32"""
    seed: int = 0
    results: str = "precision"
    """name of the file in experiments/results that is written; none when empty"""


def main(config: Config) -> None:
    alike = jax.jit(jax.vmap(spearman))
    table = Table(
        "network",
        "images",
        "median",
        "5 %",
        "change of p",
        "with noise: median",
        "5 %",
        box=None,
    )
    recorded = []
    for written in config.models:
        name, _, weights = written.partition("=")
        full, half = (
            mdm_jax.load_model(name, weights=weights or None, dtype=dtype)
            for dtype in ("float32", "bfloat16")
        )
        if config.only_weights:
            half = dataclasses.replace(
                full,
                network=jax.tree.map(lambda leaf: leaf.astype(np.float32), half.network),
            )
        images, numbers = load_images(config, full)
        settings = dataclasses.replace(
            mdm_jax.PRESETS[config.preset], smoothing=config.smoothing
        )
        how: dict[str, Any] = {"config": settings, "key": config.seed, "ids": numbers}
        exact = mdm_jax.explain(full, images, **how)
        rough = mdm_jax.explain(half, images, exact.info.target, **how)
        noise = (
            np.random.default_rng(config.seed)
            .uniform(-0.5 / 255, 0.5 / 255, images.shape)
            .astype(np.float32)
        )
        noisy = mdm_jax.explain(
            full, np.clip(images + noise, 0, 1), exact.info.target, **how
        )
        same, other = (
            np.asarray(alike(exact.saliency, each.saliency)) for each in (rough, noisy)
        )
        change = np.abs(exact.info.activation - rough.info.activation).max()
        values = {
            "median": np.median(same),
            "5 %": np.percentile(same, 5),
            "change of p": change,
            "with noise: median": np.median(other),
            "with noise: 5 %": np.percentile(other, 5),
        }
        table.add_row(
            name, str(len(images)), *(f"{value:.3f}" for value in values.values())
        )
        for quantity, value in values.items():
            what = {"network": name, "quantity": quantity, "images": len(images)}
            recorded.append(what | {"value": value})
        print(name, f"median {np.median(same):.4f}, least {same.min():.3f}", flush=True)
    Console(width=120, highlight=False).print(table)
    if config.results:
        write(config.results, recorded)


def load_images(
    config: Config, network: mdm_jax.Classifier
) -> tuple[np.ndarray, list[int]]:
    """Images and their numbers, spread evenly over the test digits or the folder."""
    if config.photos is None:
        source = Digits("test")
        numbers = evenly_spaced(len(source), config.count)
        return np.stack([source[number].image for number in numbers]), numbers
    files = sorted(file for file in config.photos.iterdir() if file.is_file())
    numbers = evenly_spaced(len(files), config.count)
    return np.stack(
        [network.preprocess(read(files[number])) for number in numbers]
    ), numbers


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
