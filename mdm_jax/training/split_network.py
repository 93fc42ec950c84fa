"""A network apart from its weights, so that a compiled step is a function of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mdm_jax.training.config import TrainConfig

# the overloads of nnx.split do not cover a filter for what remains
_split: Any = nnx.split


@dataclass(frozen=True)
class SplitNetwork:
    """The structure of a network, which every step shares."""

    training: Any
    """graph of the network that updates its batch statistics"""
    inference: Any
    """graph of the network that uses its running statistics"""
    rest: Any
    """state that is neither a parameter nor a batch statistic"""
    dtype: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def merge(self, params: Any, stats: Any) -> nnx.Module:
        """The network with these weights."""
        return nnx.merge(self.training, params, stats, self.rest)

    def forward(
        self, graph: Any, params: Any, stats: Any, images: Array
    ) -> tuple[Float[Array, "b classes"], dict[str, Any], Any]:
        """Logits, named outputs and new batch statistics for images [b, h, w, c] in [0, 1].

        A network that is merged inside a compiled function changes its statistics only there, so
        they must be returned."""
        # a copy, since the same state is merged again by the next call
        network = nnx.merge(
            graph, cast_params(params, self.dtype), stats, self.rest, copy=True
        )
        mean, std = (
            jnp.asarray(self.mean, jnp.float32),
            jnp.asarray(self.std, jnp.float32),
        )
        logits, out = network(((images - mean) / std).astype(self.dtype))
        return logits.astype(jnp.float32), out, nnx.state(network, nnx.BatchStat)


def split_network(module: nnx.Module, config: TrainConfig) -> SplitNetwork:
    """Split a network as a training config computes it."""
    training, _, _, rest = _split(module, nnx.Param, nnx.BatchStat, ...)
    # networks without dropout or batch norms have nothing to set
    still = nnx.view(
        module,
        deterministic=True,
        use_running_average=True,
        raise_if_not_found=False,
    )
    inference, *_ = _split(still, nnx.Param, nnx.BatchStat, ...)
    dtype = jnp.dtype(config.dtype)
    return SplitNetwork(
        training, inference, rest, dtype, config.model.mean, config.model.std
    )


def split_weights(module: nnx.Module) -> tuple[Any, Any]:
    """Parameters and batch statistics of a network."""
    _, params, stats, _ = _split(module, nnx.Param, nnx.BatchStat, ...)
    return params, stats


def cast_params(params: Any, dtype: Any) -> Any:
    """Parameters in the number format that a network computes in."""
    if dtype == jnp.float32:
        return params
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)
