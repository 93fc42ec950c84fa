"""Classifiers ready to use: `load_model` gives a callable over images in [0, 1] with all that belongs to it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from flax import nnx
from jaxtyping import Array, Float, Float32

from mdm_jax import images
from mdm_jax.errors import InputError, unknown
from mdm_jax.models import weights
from mdm_jax.models.resnet import ResNet

ARCHITECTURES: dict[str, Callable[..., nnx.Module]] = {"resnet": ResNet}
EMBEDDED = "digits_resnet"
EMBEDDED_FOLDER = Path(str(resources.files("mdm_jax.models"))) / "embedded" / EMBEDDED


@dataclass(frozen=True)
class Preprocessing:
    """How a photograph becomes the network's input, read from `pretrained_cfg` of timm's config.json."""

    channels: int
    size: tuple[int, int]
    """(height, width) in pixels"""
    crop: float
    """share of the resized short side that the centre crop keeps"""
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def fit(self, photograph: PIL.Image.Image) -> Float32[np.ndarray, "h w c"]:
        """Resize and centre-crop a photograph as PIL does, to floats in [0, 1]; normalising is the classifier's.

        A network of one channel sees it in grey. Raises InputError for a network of neither one nor three.
        """
        if self.channels not in (1, 3):
            raise InputError(f"the network takes {self.channels} channels, which image files do not have: call mdm_jax.explain")
        if self.channels == 1:
            photograph = photograph.convert("L")
        fitted = images.fit(photograph, self.size, crop=self.crop, interpolation=self.interpolation)
        return images.to_array(fitted)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Classifier:
    """A network in inference mode over images in [0, 1]: `(logits, out) = classifier(images)`."""

    network: Any
    name: str = field(metadata={"static": True})
    class_names: tuple[str, ...] = field(metadata={"static": True})
    preprocessing: Preprocessing = field(metadata={"static": True})

    def __call__(self, images: Float[Array, "n h w c"]) -> tuple[Float[Array, "n classes"], dict[str, Any]]:
        mean, std = (jnp.asarray(value, images.dtype) for value in (self.preprocessing.mean, self.preprocessing.std))
        return self.network((images - mean) / std)


def load_model(path: str | Path | None = None) -> Classifier:
    """The classifier in a folder with config.json and model.safetensors (or the path of that safetensors file).

    None loads the embedded digits network. Raises InputError for files that are missing, damaged or of another network.
    """
    folder = EMBEDDED_FOLDER if path is None else Path(path)
    file = folder / "model.safetensors" if os.path.isdir(folder) else folder
    arrays = weights.read(file)
    described = file.with_name("config.json")
    config = _read_config(described)
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise unknown("architecture", architecture, ARCHITECTURES)
    try:
        preprocessing, class_names = _described(config)
        arguments = dict(config.get("model_args", {}))
        construct = partial(
            ARCHITECTURES[architecture], num_classes=len(class_names), channels=preprocessing.channels, **arguments
        )
        nnx.eval_shape(lambda: construct(rngs=nnx.Rngs(0)))
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{described} lacks {error}: it must describe the network as timm does") from None
    except Exception as error:  # a stranger's file, of any form
        raise InputError(f"{described} does not describe a {architecture} ({type(error).__name__}: {error})") from error
    network = weights.load(lambda: construct(rngs=nnx.Rngs(0)), arrays)
    network = nnx.view(network, deterministic=True, use_running_average=True, raise_if_not_found=False)
    return Classifier(network, file.parent.name, class_names, preprocessing)


def _described(config: dict[str, Any]) -> tuple[Preprocessing, tuple[str, ...]]:
    """Preprocessing and class names of a config."""
    given, count = config["pretrained_cfg"], config["num_classes"]
    channels, height, width = map(int, given["input_size"])
    preprocessing = Preprocessing(
        channels=channels,
        size=(height, width),
        crop=float(given["crop_pct"]),
        interpolation=given["interpolation"],
        mean=tuple(map(float, given["mean"])),
        std=tuple(map(float, given["std"])),
    )
    names = tuple(map(str, config.get("label_names", range(count))))
    if len(names) != count:
        raise InputError(f"the config has {len(names)} label_names for {count} classes: give one each")
    if preprocessing.interpolation not in images.RESAMPLING:
        raise unknown("interpolation", preprocessing.interpolation, images.RESAMPLING)
    if min(height, width) < images.MIN_SIDE or not 0 < preprocessing.crop <= 1 or min(preprocessing.std) <= 0:
        raise InputError(f"input_size, crop_pct or std in the config cannot be: {given}")
    if not len(preprocessing.mean) == len(preprocessing.std) == channels:
        raise InputError(f"the config has not one mean and std for each of {channels} channels: {given}")
    return preprocessing, names


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: the weights need a config.json beside them") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not readable JSON ({error})") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no JSON object: it must describe the network as timm does")
    return config
