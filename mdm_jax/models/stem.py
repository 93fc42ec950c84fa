"""How a convolutional network begins: named stems, whose input gradient is fast."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from mdm_jax.errors import unknown
from mdm_jax.models.layers import conv

# Kernel, stride and whether a max-pool follows; `imagenet` is for photographs, the others are for
# Images of some 32 to 160 pixels.
STEMS = {"imagenet": (7, 2, True), "strided": (3, 2, False), "small": (3, 1, False)}


def named_stem(name: str) -> tuple[int, int, bool]:
    """Kernel, stride and pooling of a named stem. Raises InputError for an unknown name."""
    if name not in STEMS:
        raise unknown("stem", name, STEMS)
    return STEMS[name]


def stem_name(convolution: nnx.Conv, pools: bool) -> str:
    """The name of the stem that begins with this convolution."""
    kernel: Any = convolution.kernel_size
    strides: Any = convolution.strides
    stride = strides if isinstance(strides, int) else strides[0]
    for name, stem in STEMS.items():
        if stem == (kernel[0], stride, pools):
            return name
    raise ValueError(
        f"no stem has a kernel of {kernel}, stride {stride} and pooling {pools}"
    )


def first_conv(
    inputs: int, outputs: int, kernel: int, stride: int, *, rngs: nnx.Rngs
) -> nnx.Conv:
    """The convolution that reads the image; with stride 2 its input gradient is a fast one."""
    layer = conv(inputs, outputs, kernel, stride, rngs=rngs)
    if stride == 2:
        layer.conv_general_dilated = _halving_conv
    return layer


def _halving_conv(
    x: Array, kernel: Array, strides: Any, padding: Any, **options: Any
) -> Array:
    """The signature that `nnx.Conv` calls; strides are (2, 2) and the padding is symmetric."""
    return _halving(x, kernel, padding[0][0], options["precision"])


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _halving(x: Array, kernel: Array, pad: int, precision: Any) -> Array:
    """Convolution of stride 2, with a tangent of its own.

    XLA's input gradient of it runs over an image filled up with zeros, on CPU 4 times slower than
    need be. The tangent here, and so the gradient, is that of the same convolution on 2x2 pixels as
    channels, without a stride."""
    return _conv(x, kernel, 2, [(pad, pad)] * 2, precision)


def _halving_tangent(
    pad: int, precision: Any, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    y = _halving(x, kernel, pad, precision)
    # Symbolic zeros: with respect to images the kernel's tangent is not computed, in training the
    # images' is not.
    zero = jax.custom_derivatives.SymbolicZero
    parts = []
    if not isinstance(dx, zero):
        parts.append(_by_blocks(dx, kernel, pad, precision))
    if not isinstance(dkernel, zero):
        parts.append(_conv(x, dkernel, 2, [(pad, pad)] * 2, precision))
    return y, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(y)


_halving.defjvp(_halving_tangent, symbolic_zeros=True)


def _by_blocks(x: Array, kernel: Array, pad: int, precision: Any) -> Array:
    """The convolution of stride 2 as one of stride 1 over blocks of 2x2 pixels.

    Each block is a pixel of 4 times the channels."""
    n, *sides, channels = x.shape
    width = kernel.shape[0]
    outputs = [(side + 2 * pad - width) // 2 + 1 for side in sides]
    taps = (width + 1) // 2
    kernel = jnp.pad(kernel, [(0, 2 * taps - width)] * 2 + [(0, 0)] * 2)
    kernel = (
        kernel.reshape(taps, 2, taps, 2, channels, -1)
        .transpose(0, 2, 1, 3, 4, 5)
        .reshape(taps, taps, 4 * channels, -1)
    )
    blocks = [count + taps - 1 for count in outputs]
    ends = [(pad, 2 * count - side - pad, 0) for count, side in zip(blocks, sides)]
    # A negative end cuts what no window reaches.
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *ends, (0, 0, 0)])
    x = (
        x.reshape(n, blocks[0], 2, blocks[1], 2, channels)
        .transpose(0, 1, 3, 2, 4, 5)
        .reshape(n, *blocks, 4 * channels)
    )
    return _conv(x, kernel, 1, "VALID", precision)


def _conv(x: Array, kernel: Array, stride: int, padding: Any, precision: Any) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=layout, precision=precision
    )
