"""Classifiers ready to use: `load_model` gives a callable over images in [0, 1] with all that belongs to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
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

    size: tuple[int, int]
    """(height, width) in pixels"""
    crop: float
    """share of the resized short side that the centre crop keeps"""
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def fit(self, photograph: PIL.Image.Image) -> Float32[np.ndarray, "h w 3"]:
        """Resize and centre-crop a photograph as PIL does, to floats in [0, 1]; normalising is the classifier's."""
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
    file = folder / "model.safetensors" if folder.is_dir() else folder
    arrays = weights.read(file)
    config = _read_config(file.with_name("config.json"))
    architecture = config.get("architecture")
    if architecture not in ARCHITECTURES:
        raise unknown("architecture", architecture, ARCHITECTURES)
    for name in ("num_classes", "pretrained_cfg"):
        if name not in config:
            raise InputError(f"{file.with_name('config.json')} lacks {name!r}: it must describe the network as timm does")
    preprocessing, arguments = config["pretrained_cfg"], config.get("model_args", {})
    channels, *size = preprocessing["input_size"]
    count = config["num_classes"]

    def construct() -> nnx.Module:
        return ARCHITECTURES[architecture](num_classes=count, channels=channels, rngs=nnx.Rngs(0), **arguments)

    network = nnx.view(weights.load(construct, arrays), deterministic=True, use_running_average=True, raise_if_not_found=False)
    return Classifier(
        network=network,
        name=file.parent.name,
        class_names=tuple(config.get("label_names", map(str, range(count)))),
        preprocessing=Preprocessing(
            size=(size[0], size[1]),
            crop=preprocessing["crop_pct"],
            interpolation=preprocessing["interpolation"],
            mean=tuple(preprocessing["mean"]),
            std=tuple(preprocessing["std"]),
        ),
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: the weights need a config.json beside them") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not readable JSON ({error})") from error
