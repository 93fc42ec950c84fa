"""The network of `fixtures/make_captum.py` in JAX, and what captum computed on it."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mdm_jax.data.preprocessing import Preprocessing

PATH = pathlib.Path(__file__).parent / "fixtures" / "captum.npz"


def captum() -> dict[str, np.ndarray]:
    """Every array of the fixture; the names are those in the docstring of the script that wrote
    it."""
    with np.load(PATH) as file:
        return {name: file[name] for name in file.files}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Network:
    """Two convolutions and a head that weighs every place: images [n, 12, 10, 3] in [0, 1] to
    logits [n, 4] and both maps."""

    weights: dict[str, Any]

    @property
    def preprocessing(self) -> Preprocessing:
        colors = {"mean": (0.45, 0.5, 0.4), "std": (0.25, 0.2, 0.3)}
        return Preprocessing(
            channels=3, size=(12, 10), crop=1.0, interpolation="bilinear", **colors
        )

    def __call__(self, images):
        w = self.weights
        x = (images - w["mean"]) / w["std"]
        conv1 = jax.nn.relu(_convolve(x, w["conv1/kernel"], 1) + w["conv1/bias"])
        conv2 = jax.nn.relu(_convolve(conv1, w["conv2/kernel"], 2) + w["conv2/bias"])
        logits = (
            jnp.matmul(
                conv2.reshape(len(images), -1), w["head/kernel"], precision="highest"
            )
            + w["head/bias"]
        )
        return logits, {"conv1": conv1, "conv2": conv2}


def network(fixture: dict[str, np.ndarray]) -> Network:
    return Network(
        {
            k.removeprefix("weights/"): jnp.asarray(v)
            for k, v in fixture.items()
            if k.startswith("weights/")
        }
    )


def _convolve(x, kernel, stride):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(1, 1), (1, 1)],
        dimension_numbers=dimensions,
        precision="highest",
    )
