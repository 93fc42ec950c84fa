"""Residual networks (He et al., arXiv 1512.03385), Flax NNX, NHWC.

`ResNet(images) -> (logits, out)`: `out` names every stage, so CAMs and prototype nodes need no hooks. Parameters carry
timm's names (`layer1.0.conv1`, `layer1.0.downsample.0`), so weight files map one to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

Outputs = tuple[Float[Array, "n classes"], dict[str, Any]]


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut; the first convolution carries the stride."""

    def __init__(self, inputs: int, width: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = conv(inputs, width, 3, stride, rngs=rngs)
        self.bn1 = norm(width, rngs=rngs)
        self.conv2 = conv(width, width, 3, rngs=rngs)
        self.bn2 = norm(width, rngs=rngs)
        projects = stride != 1 or inputs != width
        self.downsample = nnx.List([conv(inputs, width, 1, stride, rngs=rngs), norm(width, rngs=rngs)] if projects else [])

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        shortcut = x
        for layer in self.downsample:
            shortcut = layer(shortcut)
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        return jax.nn.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet(nnx.Module):
    """Residual classifier with basic blocks and a 3x3 stem of stride 1, for small images.

    `widths[s]` channels and `depths[s]` blocks in stage s; every stage but the first halves the resolution.
    Input [n, h, w, channels], already normalised; returns logits [n, classes] and
    `{"stem", "layer1", ..., "features": [n, d]}`, the stage outputs and the pooled features.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        widths: Sequence[int] = (16, 32, 64, 128),
        depths: Sequence[int] = (1, 1, 1, 1),
        channels: int = 3,
        rngs: nnx.Rngs,
    ):
        self.conv1 = conv(channels, widths[0], 3, rngs=rngs)
        self.bn1 = norm(widths[0], rngs=rngs)
        self.stages = len(widths)
        inputs = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
            strides = [1 if stage == 1 else 2] + [1] * (depth - 1)
            blocks = [BasicBlock(w, width, s, rngs=rngs) for w, s in zip([inputs] + [width] * (depth - 1), strides)]
            setattr(self, f"layer{stage}", nnx.List(blocks))
            inputs = width
        self.fc = nnx.Linear(inputs, num_classes, rngs=rngs)

    def __call__(self, images: Float[Array, "n h w c"]) -> Outputs:
        out: dict[str, Any] = {}
        x = out["stem"] = jax.nn.relu(self.bn1(self.conv1(images)))
        for stage in range(1, self.stages + 1):
            for block in getattr(self, f"layer{stage}"):
                x = block(x)
            out[f"layer{stage}"] = x
        features = out["features"] = jnp.mean(x, axis=(1, 2))
        return self.fc(features), out


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, *, rngs: nnx.Rngs) -> nnx.Conv:
    """Bias-free convolution with explicit symmetric padding: "SAME" pads stride 2 differently from the references."""
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        stride,
        padding=kernel // 2,
        use_bias=False,
        kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
        rngs=rngs,
    )


def norm(width: int, *, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Batch normalisation with torch's constants (momentum 0.1 there is 0.9 here)."""
    return nnx.BatchNorm(width, momentum=0.9, epsilon=1e-5, rngs=rngs)
