"""How a photograph becomes a network's input: size, crop, interpolation and normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Float32

from mdm_jax import images
from mdm_jax.errors import InputError, unknown

# Pixels; an input of more would not fit into any memory.
MAX_SIDE = 8192

# Of the training images' channels, in [0, 1].
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True)
class Preprocessing:
    """How a photograph becomes the network's input, as `pretrained_cfg` of timm's config.json."""

    channels: int
    size: tuple[int, int]
    """(height, width) in pixels"""
    crop: float
    """share of the resized short side that the center crop keeps"""
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_mode: str = "center"
    """center keeps the aspect; squash stretches the image to the network's"""

    def fit(self, photograph: PIL.Image.Image) -> Float32[np.ndarray, "h w c"]:
        """Resize and center-crop a photograph as PIL does, to floats in [0, 1].

        The classifier itself normalizes. A network of one channel sees the photograph in gray.
        Raises InputError for a network of neither one nor three."""
        if self.channels not in (1, 3):
            raise InputError(
                f"the network takes {self.channels} channels, which image files do not have: call"
                " mdm_jax.explain"
            )
        if self.channels == 1:
            photograph = photograph.convert("L")
        fitted = images.fit(
            photograph,
            self.size,
            crop=self.crop,
            interpolation=self.interpolation,
            mode=self.crop_mode,
        )
        return images.to_array(fitted)

    def visible_box(self, original: tuple[int, int]) -> tuple[float, float, float, float]:
        """What `fit` keeps of a photograph of `original` pixels (width, height).

        Left, top, right and bottom, in its pixels."""
        region, resized = images.placement(
            original, self.size, crop=self.crop, mode=self.crop_mode
        )
        height, width = self.size
        scale = np.asarray(region) / resized
        start = (
            images.corner(original, region)
            + images.corner(resized, (width, height)) * scale
        )
        end = start + (width, height) * scale
        return (float(start[0]), float(start[1]), float(end[0]), float(end[1]))

    def resized(self, size: Any) -> Preprocessing:
        """The same for another input size in pixels, a side or (height, width).

        None changes nothing. Raises InputError for anything else."""
        if size is None:
            return self
        sides: Any = (size, size) if isinstance(size, Integral) else size
        is_pair = isinstance(sides, Sequence) and len(sides) == 2
        is_whole = is_pair and all(isinstance(side, Integral) for side in sides)
        if not is_whole or min(sides) < images.MIN_SIDE or max(sides) > MAX_SIDE:
            raise InputError(
                f"an input size of {size!r} cannot be: give a side or (height, width),"
                f" {images.MIN_SIDE} to {MAX_SIDE} pixels"
            )
        return replace(self, size=(int(sides[0]), int(sides[1])))


def from_config(config: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that a `pretrained_cfg` tells.

    Raises KeyError for what it lacks, and InputError for values that cannot be."""
    channels, height, width = map(int, config["input_size"])
    preprocessing = Preprocessing(
        channels=channels,
        size=(height, width),
        crop=float(config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=tuple(map(float, config["mean"])),
        std=tuple(map(float, config["std"])),
        crop_mode=config.get("crop_mode", "center"),
    )
    check_preprocessing(preprocessing, config)
    return preprocessing


def check_preprocessing(preprocessing: Preprocessing, config: Mapping[str, Any]) -> None:
    """Raises InputError for values that cannot be; `config` is for the message."""
    interpolation, mode = preprocessing.interpolation, preprocessing.crop_mode
    if interpolation not in images.RESAMPLING:
        raise unknown("interpolation", interpolation, images.RESAMPLING)
    mean, std, sides = preprocessing.mean, preprocessing.std, preprocessing.size
    is_finite = np.isfinite([*mean, *std]).all()
    has_size = min(sides) >= images.MIN_SIDE and max(sides) <= MAX_SIDE
    has_crop = 0 < preprocessing.crop <= 1
    # Finite first: with a NaN among them the comparison says nothing.
    if not is_finite or not has_size or not has_crop or min(std) <= 0:
        raise InputError(
            f"input_size, crop_pct, mean or std in the config cannot be: {dict(config)}"
        )
    channels = preprocessing.channels
    if not len(mean) == len(std) == channels:
        raise InputError(
            f"the config has not one mean and std for each of {channels} channels: {dict(config)}"
        )
    if mode not in images.CROP_MODES:
        supported = " and ".join(images.CROP_MODES)
        raise InputError(
            f"crop_mode {mode!r} in the config is not supported, only {supported} are: crop the"
            " images yourself"
        )
