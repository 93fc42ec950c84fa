"""Which network a job uses, as command lines and config files say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mdm_jax.errors import InputError

if TYPE_CHECKING:
    from mdm_jax.models.classifier import Classifier

DType = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A network by its name, its weights, or both."""

    model: str | None = None
    """network by name, such as resnet50, densenet121, vit_base_patch16_224 or
    deit_small_patch16_224; by its weights alone when not given; without either the embedded digits
    network"""
    weights: str | None = None
    """hub id, folder with config.json and model.safetensors, safetensors file, or folder of a
    training; the usual ones of the model when not given"""
    image_size: int | None = None
    """side of the network's input in pixels, in place of its config's"""
    dtype: DType = "float32"
    """what the network computes in; masks are float32 always"""

    def load(self) -> Classifier:
        """The network. Raises InputError for what cannot be loaded, saying what to do."""
        # Imported here: flax and the networks take a second that `mdm --help` need not wait for.
        from mdm_jax.models.pretrained import load_model

        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"image_size is {self.image_size}: give a whole number from 1")
        return load_model(
            self.model, weights=self.weights, image_size=self.image_size, dtype=self.dtype
        )
