"""Residual networks (He et al., arXiv 1512.03385; v1.5, stride in the 3x3 convolution), Flax NNX,
NHWC.

`ResNet(images) -> (logits, out)`: `out` names every stage, so CAMs and prototype nodes need no
hooks. Parameters carry timm's and torchvision's names (`layer1.0.conv1`, `layer1.0.downsample.0`),
so weight files map one to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mdm_jax.errors import unknown
from mdm_jax.models.layers import Outputs, conv, head, max_pool, norm
from mdm_jax.models.stem import first_conv, named_stem


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut; the first convolution carries the stride."""

    expansion: ClassVar = 1
    folds: ClassVar = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(self, inputs: int, width: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = conv(inputs, width, 3, stride, rngs=rngs)
        self.bn1 = norm(width, rngs=rngs)
        self.conv2 = conv(width, width, 3, rngs=rngs)
        self.bn2 = norm(width, rngs=rngs)
        self.downsample = _shortcut(inputs, width, stride, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        return jax.nn.relu(self.bn2(self.conv2(y)) + _through(self.downsample, x))


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the 3x3 carries the stride, the output has 4
    times the width."""

    expansion: ClassVar = 4
    folds: ClassVar = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))

    def __init__(self, inputs: int, width: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = conv(inputs, width, 1, rngs=rngs)
        self.bn1 = norm(width, rngs=rngs)
        self.conv2 = conv(width, width, 3, stride, rngs=rngs)
        self.bn2 = norm(width, rngs=rngs)
        self.conv3 = conv(width, 4 * width, 1, rngs=rngs)
        self.bn3 = norm(4 * width, rngs=rngs)
        self.downsample = _shortcut(inputs, 4 * width, stride, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = jax.nn.relu(self.bn2(self.conv2(y)))
        return jax.nn.relu(self.bn3(self.conv3(y)) + _through(self.downsample, x))


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
}


class ResNet(nnx.Module):
    """Residual classifier of any width, depth, stem and class count.

    `widths[s]` channels (4 times as many out of a bottleneck) and `depths[s]` blocks in stage s;
    every stage but the first halves the resolution. Input [n, h, w, channels], already normalized;
    returns logits [n, classes] and `{"stem", "layer1", ..., "features": [n, d]}`: what enters the
    first stage, the stage outputs, the pooled features. With `num_classes=0` there is no head, and
    the pooled features stand in for the logits: a backbone, whose last map has `width` channels
    under the name `feature_layer`. Raises InputError for an unknown block or stem."""

    folds: ClassVar = (("conv1", "bn1"),)

    def __init__(
        self,
        *,
        num_classes: int = 10,
        widths: Sequence[int] = (16, 32, 64, 128),
        depths: Sequence[int] = (1, 1, 1, 1),
        block: str = "basic",
        stem: str = "small",
        channels: int = 3,
        rngs: nnx.Rngs,
    ):
        if block not in BLOCKS:
            raise unknown("block", block, BLOCKS)
        kind = BLOCKS[block]
        kernel, stride, self.pools = named_stem(stem)
        self.conv1 = first_conv(channels, widths[0], kernel, stride, rngs=rngs)
        self.bn1 = norm(widths[0], rngs=rngs)
        self.stages = len(widths)
        inputs = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
            blocks = []
            for index in range(depth):
                blocks.append(kind(inputs, width, 2 if index == 0 and stage > 1 else 1, rngs=rngs))
                inputs = width * kind.expansion
            setattr(self, f"layer{stage}", nnx.List(blocks))
        self.width, self.feature_layer = inputs, f"layer{self.stages}"
        self.fc = head(inputs, num_classes, rngs=rngs)

    def __call__(self, images: Float[Array, "n h w c"]) -> Outputs:
        out: dict[str, Any] = {}
        x = jax.nn.relu(self.bn1(self.conv1(images)))
        x = out["stem"] = max_pool(x) if self.pools else x
        for stage in range(1, self.stages + 1):
            for block in getattr(self, f"layer{stage}"):
                x = block(x)
            out[f"layer{stage}"] = x
        features = out["features"] = jnp.mean(x, axis=(1, 2))
        return self.fc(features), out


def _shortcut(inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs) -> Any:
    """A projection where the shapes differ, nothing where they agree."""
    projects = stride != 1 or inputs != outputs
    return nnx.List(
        [conv(inputs, outputs, 1, stride, rngs=rngs), norm(outputs, rngs=rngs)] if projects else []
    )


def _through(layers: Any, x: Array) -> Array:
    for layer in layers:
        x = layer(x)
    return x
