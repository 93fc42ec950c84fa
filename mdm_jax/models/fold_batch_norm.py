"""Batch norms folded away: in inference the network computes the same in fewer operations."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from flax import nnx

from mdm_jax.models.layers import Affine, Identity

Module = TypeVar("Module", bound=nnx.Module)


def fold_batch_norms(network: Module) -> Module:
    """The same network for inference only, without batch norms.

    With `s = scale / sqrt(var + eps)`, a norm behind a convolution becomes part of it, `kernel * s`
    and `bias - mean * s`; any other becomes `x * s + (bias - mean * s)`. Modules name their pairs
    in `folds`; in a list, neighbors are pairs. Arithmetic on the host, in numpy: arrays come back
    as numpy."""
    network = nnx.clone(network)
    for _, module in list(nnx.iter_modules(network)):
        pairs = list(getattr(type(module), "folds", ()))
        if isinstance(module, nnx.List):
            pairs += [(i, i + 1) for i in range(len(module) - 1)]
        for first, second in pairs:
            convolution, norm = _get(module, first), _get(module, second)
            # What is paired in one variant of a network is an identity in another.
            if isinstance(convolution, nnx.Conv) and isinstance(norm, nnx.BatchNorm):
                scale, bias = _affine(norm)
                kernel: Any = np.asarray(convolution.kernel[...]) * scale
                convolution.kernel = nnx.Param(kernel)
                convolution.bias = nnx.Param(bias)
                convolution.use_bias = True
                _set(module, second, Identity())
    # Norms that are left follow no convolution, as those of a dense layer.
    for _, module in list(nnx.iter_modules(network)):
        for name, child in list(vars(module).items()):
            if isinstance(child, nnx.BatchNorm):
                setattr(module, name, Affine(*_affine(child)))
    return network


def _affine(norm: Any) -> tuple[Any, Any]:
    """Scale and bias of a batch norm that uses its running statistics."""
    values = (norm.mean, norm.var, norm.scale, norm.bias)
    # In float64: what is rounded here is in every result.
    mean, var, scale, bias = (np.asarray(value[...], np.float64) for value in values)
    factor = scale / np.sqrt(var + norm.epsilon)
    return factor.astype(np.float32), (bias - mean * factor).astype(np.float32)


def _get(module: Any, name: str | int) -> Any:
    return module[name] if isinstance(name, int) else getattr(module, name)


def _set(module: Any, name: str | int, value: Any) -> None:
    if isinstance(name, int):
        module[name] = value
    else:
        setattr(module, name, value)
