"""What the convolutional families share: convolution, norm and pooling.

In the exact sense of the references (torchvision, timm), in fast forms."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Shaped

from mdm_jax.errors import InputError

# Logits and every named intermediate of a network.
Outputs = tuple[Float[Array, "n classes"], dict[str, Any]]


def conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, rngs: nnx.Rngs
) -> nnx.Conv:
    """Bias-free convolution."""
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        stride,
        padding=kernel // 2,  # "SAME" pads stride 2 differently from the references
        use_bias=False,
        kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
        rngs=rngs,
    )


def pointwise(inputs: int, outputs: int, *, bias: bool = True, rngs: nnx.Rngs) -> nnx.Conv:
    """Convolution of one pixel a side: a linear map of each position's features.

    Its bias begins at zero."""
    fan_out = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
    return nnx.Conv(
        inputs,
        outputs,
        (1, 1),
        padding="VALID",
        use_bias=bias,
        kernel_init=fan_out,
        rngs=rngs,
    )


class PatchProjection(nnx.Conv):
    """Convolution with a stride of its kernel's side: one linear map of each patch.

    It has a convolution's parameters, and is computed as a product of matrices, whose gradient is
    faster on CPU. What is left of a patch at the border is left out."""

    def __init__(self, inputs: int, outputs: int, side: int, *, rngs: nnx.Rngs):
        super().__init__(inputs, outputs, (side, side), side, padding="VALID", rngs=rngs)

    def __call__(self, inputs: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:  # type: ignore[override]
        kernel = self.kernel[...]
        side, _, channels, width = kernel.shape
        count, rows, columns = len(inputs), inputs.shape[1] // side, inputs.shape[2] // side
        whole = inputs[:, : rows * side, : columns * side]
        cells = whole.reshape(count, rows, side, columns, side, channels)
        patches = cells.swapaxes(2, 3).reshape(count, rows, columns, side * side * channels)
        assert self.bias is not None
        return patches @ kernel.reshape(-1, width) + self.bias[...]


def head(inputs: int, classes: int, *, rngs: nnx.Rngs) -> Any:
    """The linear classifier; for no classes the identity, as timm's `num_classes=0`."""
    return nnx.Linear(inputs, classes, rngs=rngs) if classes else Identity()


def number_of_classes(head: Any) -> int:
    """Of a `head`; 0 for a backbone, which has none."""
    return getattr(head, "out_features", 0)


def norm(width: int, *, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Batch normalization with torch's constants (momentum 0.1 there is 0.9 here)."""
    return nnx.BatchNorm(width, momentum=0.9, epsilon=1e-5, rngs=rngs)


def max_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Maximum over 3x3 windows, stride 2, padding 1, as elementwise maxima along each axis.

    XLA's gradient of a windowed maximum (select-and-scatter) is several times slower on CPU. As in
    torch, a tie's gradient goes to the first of the equals, row by row, and NaN wins."""
    return _pool_axis(_pool_axis(x, 2), 1)


def _pool_axis(x: Array, axis: int) -> Array:
    outputs = (x.shape[axis] + 1) // 2
    padding = [(0, 0)] * x.ndim
    # One row before the first, and one behind where the last window would reach beyond the end.
    padding[axis] = (1, 2 * outputs - x.shape[axis])
    padded = jnp.pad(x, padding, constant_values=-jnp.inf)

    def every_second(start: int) -> Array:
        cut: list[slice] = [slice(None)] * x.ndim
        cut[axis] = slice(start, start + 2 * outputs - 1, 2)
        return padded[tuple(cut)]

    return _first_maximum(_first_maximum(every_second(0), every_second(1)), every_second(2))


def _first_maximum(a: Array, b: Array) -> Array:
    # jnp.maximum would share the gradient of a tie, which torch gives to the first.
    return jnp.where((a >= b) | jnp.isnan(a), a, b)


def average_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Mean over 2x2 windows, stride 2; an odd last row or column is left out, as in torch.

    Raises InputError for a map of one pixel a side, of which nothing would be left.
    """
    n, height, width, channels = x.shape
    if min(height, width) < 2:
        raise InputError(
            "the images are too small for this network, whose maps shrink to nothing: choose a"
            " larger input size"
        )
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return jnp.mean(even.reshape(n, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


class Identity(nnx.Module):
    """What remains of a norm that was folded into the convolution before it."""

    def __call__(self, x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        return x


class Affine(nnx.Module):
    """What remains of a norm that follows no convolution: `x * scale + bias` along the channels."""

    def __init__(self, scale: Any, bias: Any):
        self.scale = nnx.Param(scale)
        self.bias = nnx.Param(bias)

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        return x * self.scale[...] + self.bias[...]
