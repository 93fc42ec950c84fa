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

from mdm_jax.models.layers import Outputs, average_pool, conv, head, max_pool, norm
from mdm_jax.models.stem import first_conv, named_stem


class DenseLayer(nnx.Module):
    """Norm-ReLU-1x1 to 4 times the growth, norm-ReLU-3x3 to the growth: the new channels alone."""

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
            dense = {
                f"denselayer{i}": DenseLayer(width, growth, rngs=rngs)
                for i, width in enumerate(widths, start=1)
            }
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

    def __call__(self, images: Float[Array, "n h w c"]) -> Outputs:
        out = self.features(images)
        features = out["features"] = jnp.mean(out[f"block{self.features.count}"], axis=(1, 2))
        return self.classifier(features), out
