"""A step of training and one of evaluation: pure compiled functions of an explicit state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.training.classification import Labels, classification_loss, hits
from mdm_jax.training.config import OptimizerConfig, TrainConfig
from mdm_jax.training.split_network import (
    SplitNetwork,
    split_network,
    split_weights,
)
from mdm_jax.training.stages import PLAIN

# Parameters that do not decay whatever their rank; those of rank one (biases, scales of norms)
# never do.
NO_DECAY = ("pos_embed", "cls_token", "dist_token", "reg_token")


class Sums(NamedTuple):
    """Sums over the items of an epoch so far."""

    loss: Float[Array, ""]
    hits: Float[Array, ""]
    items: Float[Array, ""]

    def __add__(self, other: Sums) -> Sums:  # type: ignore[override]
        return Sums(*(a + b for a, b in zip(self, other)))


class TrainingState(NamedTuple):
    """Everything that a step changes, and so all that a checkpoint holds."""

    params: Any
    stats: Any
    """running statistics of batch norms"""
    optimizer: Any
    step: Int[Array, ""]
    """steps done"""
    sums: Sums


class TrainingProgram(NamedTuple):
    """The compiled steps, and what builds and takes apart the network."""

    initial: Callable[[nnx.Module], TrainingState]
    module: Callable[[TrainingState], nnx.Module]
    train: Callable[..., tuple[TrainingState, Float[Array, ""]]]
    """(state, images, labels, valid) -> (state, loss); the state that goes in is consumed; the
    joint stage's, where there are several"""
    evaluate: Callable[..., Sums]
    """(state, images, labels, valid) -> sums"""
    measure: Callable[..., tuple[Sums, Float[Array, "b classes"]]]
    """as `evaluate`, and the logits"""
    stages: dict[str, Callable[..., tuple[TrainingState, Float[Array, ""]]]]
    """what `train` is in each kind of stage"""


def classifier_program(
    config: TrainConfig, module: nnx.Module, steps: int, steps_per_epoch: int
) -> TrainingProgram:
    """The steps of a training of `steps` steps for networks of the structure of `module`.

    Images are [b, h, w, c] in [0, 1], normalized inside; `valid` [b] says which of them count.
    """
    network = split_network(module, config)
    transformation = build_optimizer(config.optimizer, steps)

    def initial(module: nnx.Module) -> TrainingState:
        params, stats = split_weights(module)
        zero = jnp.zeros(())
        sums = Sums(zero, zero, zero)
        moments = transformation.init(params)
        state = TrainingState(params, stats, moments, jnp.zeros((), jnp.int32), sums)
        # a buffer of its own for each leaf, since a step consumes them
        return jax.tree.map(jnp.copy, state)

    @partial(jax.jit, donate_argnums=0)
    def train(
        state: TrainingState, images: Array, labels: Array, valid: Array
    ) -> tuple[TrainingState, Array]:
        def objective(params: Any) -> tuple[Array, Any]:
            logits, _, stats = network.forward(
                network.training, params, state.stats, images
            )
            losses = classification_loss(
                logits, labels, valid, smoothing=config.optimizer.label_smoothing
            )
            return mean_over(losses, valid), (logits, losses, stats)

        differentiate = jax.value_and_grad(objective, has_aux=True)
        (loss, (logits, losses, stats)), gradient = differentiate(state.params)
        updates, moments = transformation.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        # sums count from zero in each pass, inside the step so that nothing waits for the host
        starts = state.step % steps_per_epoch == 0
        before = jax.tree.map(lambda total: jnp.where(starts, 0.0, total), state.sums)
        sums = before + batch_sums(logits, losses, labels, valid)
        return TrainingState(params, stats, moments, state.step + 1, sums), loss

    measure = measuring_step(network)
    return TrainingProgram(
        initial,
        lambda state: network.merge(state.params, state.stats),
        train,
        lambda *given: measure(*given)[0],
        measure,
        {PLAIN: train},
    )


def measuring_step(network: SplitNetwork) -> Callable[..., tuple[Sums, Array]]:
    """(state, images, labels, valid) -> (sums, logits) of the network at inference."""

    @jax.jit
    def measure(
        state: TrainingState, images: Array, labels: Array, valid: Array
    ) -> tuple[Sums, Array]:
        logits, _, _ = network.forward(network.inference, state.params, state.stats, images)
        losses = classification_loss(logits, labels, valid)
        return batch_sums(logits, losses, labels, valid), logits

    return measure


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> Callable[[Any], Any]:
    """Learning rate of each step 0 .. steps - 1.

    A linear rise, never zero, then a cosine that reaches zero at `steps`."""
    warmup = round(config.warmup * steps)
    return optax.warmup_cosine_decay_schedule(
        init_value=config.learning_rate / (warmup + 1),
        peak_value=config.learning_rate,
        warmup_steps=warmup,
        decay_steps=max(steps, warmup + 1),
    )


def build_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW, or SGD with Nesterov momentum, after clipping.

    Parameters in `decay_mask` decay. The decay of AdamW is decoupled; that of SGD is L2, part of
    the gradient that the momentum gathers. Checkpoints depend on the order of the chain."""
    rate = learning_rate_schedule(config, steps)
    if config.name == "adamw":
        moves = [optax.adamw(rate, weight_decay=config.weight_decay, mask=decay_mask)]
    else:
        decay = optax.add_decayed_weights(config.weight_decay, decay_mask)
        moves = [
            decay,
            optax.sgd(rate, momentum=config.momentum or None, nesterov=config.momentum > 0),
        ]
    # absent without clipping, not zero: checkpoints hold a state for each part of the chain
    clip = [optax.clip_by_global_norm(config.clip)] if config.clip else []
    return optax.chain(*clip, *moves)


def decay_mask(params: Any) -> Any:
    """Which parameters decay: of rank two and more, embeddings of positions and tokens apart."""

    def decays(path: tuple[Any, ...], leaf: Any) -> bool:
        names = {str(getattr(key, "key", getattr(key, "name", ""))) for key in path}
        return leaf.ndim > 1 and names.isdisjoint(NO_DECAY)

    return jax.tree_util.tree_map_with_path(decays, params)


def mean_over(values: Float[Array, " b"], valid: Bool[Array, " b"]) -> Float[Array, ""]:
    """Mean of the valid values, 0 where none is."""
    return jnp.sum(jnp.where(valid, values, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def batch_sums(
    logits: Float[Array, "b k"],
    losses: Float[Array, " b"],
    labels: Labels,
    valid: Bool[Array, " b"],
) -> Sums:
    """Loss, hits and number of the valid items."""
    correct = hits(logits, labels)
    return Sums(
        *(
            jnp.sum(jnp.where(valid, each, 0.0))
            for each in (losses, correct, jnp.ones_like(losses))
        )
    )


def leaves(tree: Any) -> dict[str, Any]:
    """The arrays of any tree by their path, for a checkpoint."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def fill_tree(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A tree of the structure of `tree` with the arrays that `leaves` gave of another.

    Raises KeyError for a missing array."""

    def fill(path: tuple[Any, ...], leaf: Any) -> Array:
        return jnp.array(arrays[_name(path)], leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, tree)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
