"""Networks and images of the parts that use JAX: random weights, nothing is loaded."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from experiments.speed.accelerator_parts.record import Skipped
from experiments.speed.accelerator_parts.settings import Settings
from experiments.speed.measuring import random_network
from mdm_jax.data.preprocessing import IMAGENET, Preprocessing
from mdm_jax.models.classifier import Classifier


def require_accelerator(settings: Settings) -> None:
    """Raises Skipped where JAX sees a CPU only and more than a rehearsal is asked for."""
    if not settings.tiny and jax.default_backend() == "cpu":
        raise Skipped("JAX sees no accelerator (--tiny rehearses on a CPU)")


def network(name: str, settings: Settings, dtype: str) -> Any:
    """A network over normalized images."""
    arguments: dict[str, Any] = {**settings.networks[name]}
    return random_network(name, settings.side, dtype, **arguments)


def classifier(name: str, settings: Settings, dtype: str = "bfloat16") -> Classifier:
    """A network over images in [0, 1], float32 in and out, that computes in `dtype`."""
    preprocessing = Preprocessing(
        3,
        (settings.side, settings.side),
        0.875,
        "bilinear",
        IMAGENET["mean"],
        IMAGENET["std"],
    )
    classes = tuple(map(str, range(1000)))
    return Classifier(network(name, settings, dtype), name, classes, preprocessing, dtype)


def random_images(count: int, side: int) -> np.ndarray:
    """float32 [count, side, side, 3] in [0, 1]: colored patches, so that blurring changes them
    and neighbors are alike, as in photographs."""
    rng = np.random.default_rng(0)
    cell = max(1, side // 14)
    cells = -(-side // cell)
    coarse = rng.uniform(size=(count, cells, cells, 3)).astype(np.float32)
    fine = rng.uniform(-0.1, 0.1, (count, side, side, 3)).astype(np.float32)
    large = coarse.repeat(cell, axis=1).repeat(cell, axis=2)[:, :side, :side]
    return np.clip(large + fine, 0.0, 1.0)
