"""Densely connected networks (Huang et al., arXiv 1608.06993), Flax NNX, NHWC.

`DenseNet(images) -> (logits, out)`. Parameters carry timm's and torchvision's names
(`features.denseblock1.denselayer1.conv1`, `features.transition1.norm`, `classifier`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mdm_jax.data.preprocessing import IMAGENET
from mdm_jax.models.family import Family, Variant
from mdm_jax.models.layers import (
    Outputs,
    average_pool,
    conv,
    head,
    max_pool,
    norm,
    number_of_classes,
)
from mdm_jax.models.stem import first_conv, named_stem, stem_name


class DenseLayer(nnx.Module):
    """Norm-ReLU-1x1 to 4 times the growth, norm-ReLU-3x3 to the growth: only the new channels."""

    folds: ClassVar = (("conv1", "norm2"),)

    def __init__(self, inputs: int, growth: int, *, rngs: nnx.Rngs):
        self.norm1 = norm(inputs, rngs=rngs)
        self.conv1 = conv(inputs, 4 * growth, 1, rngs=rngs)
        self.norm2 = norm(4 * growth, rngs=rngs)
        self.conv2 = conv(4 * growth, growth, 3, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w growth"]:
        y = self.conv1(jax.nn.relu(self.norm1(x)))
        return self.conv2(jax.nn.relu(self.norm2(y)))


class Transition(nnx.Module):
    """Norm-ReLU-1x1 to half the channels, then 2x2 means."""

    def __init__(self, inputs: int, *, rngs: nnx.Rngs):
        self.norm = norm(inputs, rngs=rngs)
        self.conv = conv(inputs, inputs // 2, 1, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        return average_pool(self.conv(jax.nn.relu(self.norm(x))))


class Features(nnx.Module):
    """Everything before pooling, under the name that the references give it."""

    folds: ClassVar = (("conv0", "norm0"),)

    def __init__(
        self,
        *,
        growth: int,
        initial: int,
        blocks: Sequence[int],
        stem: tuple[int, int, bool],
        channels: int,
        rngs: nnx.Rngs,
    ):
        kernel, stride, self.pools = stem
        self.conv0 = first_conv(channels, initial, kernel, stride, rngs=rngs)
        self.norm0 = norm(initial, rngs=rngs)
        self.count, self.width = len(blocks), initial
        for number, layers in enumerate(blocks, start=1):
            widths = [self.width + growth * index for index in range(layers)]
            dense = {}
            for index, width in enumerate(widths, start=1):
                dense[f"denselayer{index}"] = DenseLayer(width, growth, rngs=rngs)
            setattr(self, f"denseblock{number}", nnx.Dict(dense))
            self.width += growth * layers
            if number < len(blocks):
                setattr(self, f"transition{number}", Transition(self.width, rngs=rngs))
                self.width //= 2
        self.norm5 = norm(self.width, rngs=rngs)

    def __call__(self, images: Float[Array, "n h w c"]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        x = jax.nn.relu(self.norm0(self.conv0(images)))
        x = out["stem"] = max_pool(x) if self.pools else x
        for number in range(1, self.count + 1):
            block = getattr(self, f"denseblock{number}")
            for index in range(1, len(block) + 1):
                x = jnp.concatenate([x, block[f"denselayer{index}"](x)], axis=-1)
            # The last block's output is named after the norm and ReLU that only it has: this is
            # what reaches the head, and so what a CAM weighs.
            if number == self.count:
                x = jax.nn.relu(self.norm5(x))
            out[f"block{number}"] = x
            if number < self.count:
                x = getattr(self, f"transition{number}")(x)
        return out


class DenseNet(nnx.Module):
    """Dense classifier of any growth, depth, stem and class count.

    `blocks[b]` layers in dense block b, each adding `growth` channels to the `initial` ones; a
    transition halves channels and resolution between blocks. Input [n, h, w, channels], already
    normalized; returns logits [n, classes] and `{"stem", "block1", ..., "features": [n, d]}`: block
    outputs (the last after its norm and ReLU, where CAMs look) and the pooled features. With
    `num_classes=0` there is no head, see `ResNet`. Raises InputError for an unknown stem."""

    def __init__(
        self,
        *,
        num_classes: int = 10,
        growth: int = 12,
        initial: int = 24,
        blocks: Sequence[int] = (4, 4, 4),
        stem: str = "small",
        channels: int = 3,
        rngs: nnx.Rngs,
    ):
        self.features = Features(
            growth=growth,
            initial=initial,
            blocks=blocks,
            stem=named_stem(stem),
            channels=channels,
            rngs=rngs,
        )
        self.width, self.feature_layer = self.features.width, f"block{self.features.count}"
        self.classifier = head(self.width, num_classes, rngs=rngs)

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was made with."""
        features = self.features
        numbers = range(1, features.count + 1)
        blocks = [getattr(features, f"denseblock{number}") for number in numbers]
        return {
            "num_classes": number_of_classes(self.classifier),
            "growth": blocks[0]["denselayer1"].conv2.out_features,
            "initial": features.conv0.out_features,
            "blocks": [len(block) for block in blocks],
            "stem": stem_name(features.conv0, features.pools),
            "channels": features.conv0.in_features,
        }

    def __call__(self, images: Float[Array, "n h w c"]) -> Outputs:
        out = self.features(images)
        features = out["features"] = jnp.mean(
            out[f"block{self.features.count}"], axis=(1, 2)
        )
        return self.classifier(features), out


def _variant(growth: int, initial: int, *blocks: int) -> Variant:
    sizes = {"growth": growth, "initial": initial, "blocks": blocks}
    return Variant({**sizes, "stem": "imagenet"})


def _usual_weights(name: str) -> str | None:
    """torchvision's first weights, whose numbers the literature quotes."""
    return f"timm/{name}.tv_in1k" if name in FAMILY.variants else None


FAMILY = Family(
    DenseNet,
    first_layer="features.conv0",
    head="classifier",
    preprocessing={"crop_pct": 0.875, "interpolation": "bicubic", **IMAGENET},
    usual_weights=_usual_weights,
    variants={
        "densenet121": _variant(32, 64, 6, 12, 24, 16),
        "densenet161": _variant(48, 96, 6, 12, 36, 24),
        "densenet169": _variant(32, 64, 6, 12, 32, 32),
        "densenet201": _variant(32, 64, 6, 12, 48, 32),
    },
)
