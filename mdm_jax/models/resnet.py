"""Residual networks (He et al., arXiv 1512.03385), Flax NNX, NHWC.

Version 1.5: the stride is in the 3x3 convolution.

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

from mdm_jax.data.preprocessing import IMAGENET
from mdm_jax.errors import unknown
from mdm_jax.models.family import Family, Variant
from mdm_jax.models.layers import Outputs, conv, head, max_pool, norm, number_of_classes
from mdm_jax.models.stem import first_conv, named_stem, stem_name


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
    """1x1, 3x3 and 1x1 convolutions and a shortcut.

    The 3x3 carries the stride, the output has 4 times the width."""

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
                stride = 2 if index == 0 and stage > 1 else 1
                blocks.append(kind(inputs, width, stride, rngs=rngs))
                inputs = width * kind.expansion
            setattr(self, f"layer{stage}", nnx.List(blocks))
        self.width, self.feature_layer = inputs, f"layer{self.stages}"
        self.fc = head(inputs, num_classes, rngs=rngs)

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was made with."""
        # Read off the layers rather than stored: an attribute would become part of checkpoints.
        stages = [getattr(self, f"layer{stage}") for stage in range(1, self.stages + 1)]
        block = "bottleneck" if isinstance(stages[0][0], Bottleneck) else "basic"
        return {
            "num_classes": number_of_classes(self.fc),
            "widths": [blocks[0].conv1.out_features for blocks in stages],
            "depths": [len(blocks) for blocks in stages],
            "block": block,
            "stem": stem_name(self.conv1, self.pools),
            "channels": self.conv1.in_features,
        }

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
    if stride == 1 and inputs == outputs:
        return nnx.List([])
    projection = conv(inputs, outputs, 1, stride, rngs=rngs)
    return nnx.List([projection, norm(outputs, rngs=rngs)])


def _through(layers: Any, x: Array) -> Array:
    for layer in layers:
        x = layer(x)
    return x


def _variant(block: str, *depths: int) -> Variant:
    widths = (64, 128, 256, 512)
    return Variant({"block": block, "depths": depths, "widths": widths, "stem": "imagenet"})


def _usual_weights(name: str) -> str | None:
    """torchvision's first weights, whose numbers the literature quotes."""
    return f"timm/{name}.tv_in1k" if name in FAMILY.variants else None


FAMILY = Family(
    ResNet,
    first_layer="conv1",
    head="fc",
    preprocessing={"crop_pct": 0.875, "interpolation": "bilinear", **IMAGENET},
    usual_weights=_usual_weights,
    variants={
        "resnet18": _variant("basic", 2, 2, 2, 2),
        "resnet34": _variant("basic", 3, 4, 6, 3),
        "resnet50": _variant("bottleneck", 3, 4, 6, 3),
        "resnet101": _variant("bottleneck", 3, 4, 23, 3),
        "resnet152": _variant("bottleneck", 3, 8, 36, 3),
    },
)
