"""The compiled steps of a prototype network: which weights each stage moves, by which loss, and at
which rate.

As in ProtoPNet's code each kind of stage has an Adam of its own, which goes on where the stage
before of its kind left it:

    warm        the new layers and the prototypes; the backbone rests, its batch statistics too
    joint       the backbone as well, with batch statistics of the batch; all rates fall by steps
    last layer  the last layer alone, on similarities of the images as they are, which are computed
    once
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from mdm_jax.training.classification import classification_loss
from mdm_jax.training.config import TrainConfig
from mdm_jax.training.prototypes import losses as losses
from mdm_jax.training.prototypes.config import PrototypeConfig
from mdm_jax.training.stages import BATCHED, JOINT, LAST_LAYER, WARM, Stage
from mdm_jax.training.steps import (
    Sums,
    TrainingProgram,
    TrainingState,
    batch_sums,
    cast_params,
    mean_over,
)

PART_OF_MODULE = {"backbone": "features", "occurrence": "add_on"}
"""whose learning rate each part of a network has, where that is not its own"""
FROZEN = "frozen"


class PrototypeSums(NamedTuple):
    """`Sums` over the items of a pass so far, and the sum of every term of the loss, not yet
    weighed."""

    loss: Float[Array, ""]
    hits: Float[Array, ""]
    items: Float[Array, ""]
    terms: dict[str, Float[Array, ""]]


def stage_rates(config: PrototypeConfig, kind: str) -> dict[str, float]:
    """The learning rate of each part of the network that learns in a stage, at the stage's first
    step."""
    if kind == LAST_LAYER:
        return {"last_layer": config.last_layer_rate}
    if kind not in BATCHED:
        return {}
    joint = {"features": config.features_rate} if kind == JOINT else {}
    new = {
        "add_on": config.add_on_rate,
        "prototypes": config.prototypes_rate,
        "last_layer": config.joint_last_layer_rate,
    }
    return {part: rate for part, rate in (joint | new).items() if rate > 0}


def rate_factor(config: PrototypeConfig, kind: str, steps_per_epoch: int) -> Callable[[Any], Any]:
    """What the rates of a stage are multiplied by at each of its steps: `decay` once every
    `decay_every` joint passes."""
    if kind != JOINT:
        return lambda step: 1.0
    return lambda step: config.decay ** (step // (config.decay_every * steps_per_epoch))


def optimizers(
    config: PrototypeConfig, steps_per_epoch: int
) -> dict[str, optax.GradientTransformation]:
    """Adam for each kind of stage; the decay is L2, part of the gradient, as torch's Adam has
    it."""

    def adam(part: str, rate: float, kind: str) -> optax.GradientTransformation:
        factor = rate_factor(config, kind, steps_per_epoch)
        decay = (
            [optax.add_decayed_weights(config.weight_decay)]
            if part in ("features", "add_on")
            else []
        )
        return optax.chain(*decay, optax.adam(lambda step: rate * factor(step)))

    def of(kind: str) -> optax.GradientTransformation:
        moving = {part: adam(part, rate, kind) for part, rate in stage_rates(config, kind).items()}
        return optax.partition(
            moving | {FROZEN: optax.set_to_zero()}, partial(_part_labels, moving.keys())
        )

    return {kind: of(kind) for kind in (WARM, JOINT, LAST_LAYER)}


def _part_labels(moving: Any, params: Any) -> Any:
    """The part that each parameter belongs to, `FROZEN` for one that rests."""

    def of(path: tuple[Any, ...], leaf: Any) -> str:
        name = str(getattr(path[0], "key", path[0]))
        part = PART_OF_MODULE.get(name, name)
        return part if part in moving else FROZEN

    return jax.tree_util.tree_map_with_path(of, params)


def prototype_program(config: TrainConfig, module: Any, steps_per_epoch: int) -> TrainingProgram:
    """The steps of every stage for prototype networks of the structure of `module`."""
    split: Any = nnx.split
    graphdef, _, _, rest = split(module, nnx.Param, nnx.BatchStat, ...)
    inference = nnx.view(
        module, deterministic=True, use_running_average=True, raise_if_not_found=False
    )
    inference_graphdef, *_ = split(inference, nnx.Param, nnx.BatchStat, ...)
    settings, classes, dtype = config.prototypes, module.prototype_classes, jnp.dtype(config.dtype)
    names = losses.term_names(settings, has_occurrence=hasattr(module, "occurrence"))
    weights = losses.term_weights(settings)
    moves = optimizers(settings, steps_per_epoch)

    def initial(module: nnx.Module) -> TrainingState:
        _, params, stats, _ = split(module, nnx.Param, nnx.BatchStat, ...)
        moments, zero = {kind: each.init(params) for kind, each in moves.items()}, jnp.zeros(())
        tally: Any = PrototypeSums(zero, zero, zero, dict.fromkeys(names, zero))
        return jax.tree.map(
            jnp.copy, TrainingState(params, stats, moments, jnp.zeros((), jnp.int32), tally)
        )

    def forward(
        graphdef: Any, params: Any, stats: Any, images: Array
    ) -> tuple[Array, dict[str, Any], Any]:
        network = nnx.merge(graphdef, cast_params(params, dtype), stats, rest, copy=True)
        mean, std = (
            jnp.asarray(values, jnp.float32) for values in (config.model.mean, config.model.std)
        )
        logits, out = network(((images - mean) / std).astype(dtype))
        return logits.astype(jnp.float32), out, nnx.state(network, nnx.BatchStat)

    def shared_terms(
        logits: Array, distances: Array, params: Any, labels: Array, valid: Array
    ) -> dict[str, Array]:
        kernel = params["last_layer"]["kernel"][...]
        return losses.terms(
            logits, distances, kernel, labels, valid, classes, balanced=settings.balanced
        )

    def moved(
        kind: str, state: TrainingState, objective: Any, labels: Array, valid: Array
    ) -> tuple[TrainingState, Array]:
        """One step of the stage's Adam; `objective(params)` gives every term, the logits and the
        batch statistics."""

        def total(params: Any) -> tuple[Array, Any]:
            each, logits, stats = objective(freeze(stage_rates(settings, kind).keys(), params))
            weighed = [
                weights[name] * mean_over(each[name], valid) for name in names if name in each
            ]
            return sum(weighed[1:], start=weighed[0]), (each, logits, stats)

        (loss, (each, logits, stats)), gradient = jax.value_and_grad(total, has_aux=True)(
            state.params
        )
        updates, moments = moves[kind].update(gradient, state.optimizer[kind], state.params)
        params = optax.apply_updates(state.params, updates)
        _, hits, items = batch_sums(logits, each["classification"], labels, valid)
        of_terms = {
            name: jnp.sum(jnp.where(valid, each[name], 0.0)) if name in each else jnp.zeros(())
            for name in names
        }
        tally: Any = jax.tree.map(
            jnp.add, state.sums, PrototypeSums(loss * items, hits, items, of_terms)
        )
        return TrainingState(
            params, stats, state.optimizer | {kind: moments}, state.step + 1, tally
        ), loss

    def on_images(kind: str) -> Callable[..., tuple[TrainingState, Array]]:
        running = graphdef if kind == JOINT else inference_graphdef

        @partial(jax.jit, donate_argnums=0)
        def train(
            state: TrainingState, images: Array, labels: Array, valid: Array
        ) -> tuple[TrainingState, Array]:
            angle, scale = losses.draw_transformation(
                jax.random.fold_in(jax.random.key(config.seed), state.step)
            )

            def objective(params: Any) -> tuple[dict[str, Array], Array, Any]:
                logits, out, stats = forward(running, params, state.stats, images)
                each = shared_terms(logits, losses.compared_distances(out), params, labels, valid)
                if "transformation" in names:
                    _, others, _ = forward(
                        running, params, state.stats, losses.transform(images, angle, scale)
                    )
                    maps = others["occurrence_maps"], out["occurrence_maps"]
                    each["transformation"] = losses.transformation_cost(*maps, angle, scale)
                if "occurrence_norm" in names:
                    each["occurrence_norm"] = losses.occurrence_norm(out["occurrence_maps"])
                return each, logits, stats

            return moved(kind, state, objective, labels, valid)

        return train

    @partial(jax.jit, donate_argnums=0)
    def last_layer(
        state: TrainingState, similarities: Array, distances: Array, labels: Array, valid: Array
    ) -> tuple[TrainingState, Array]:
        """One pass over what was computed once of all images, in an order of its own; an incomplete
        last batch is left out."""
        count, size = len(valid), min(config.data.batch, len(valid))
        order = jax.random.permutation(
            jax.random.fold_in(jax.random.key(config.seed), state.step), count
        )

        def one(state: TrainingState, chosen: Array) -> tuple[TrainingState, Array]:
            def objective(params: Any) -> tuple[dict[str, Array], Array, Any]:
                logits = similarities[chosen] @ params["last_layer"]["kernel"][...]
                return (
                    shared_terms(logits, distances[chosen], params, labels[chosen], valid[chosen]),
                    logits,
                    state.stats,
                )

            return moved(LAST_LAYER, state, objective, labels[chosen], valid[chosen])

        done, each = jax.lax.scan(one, state, order[: count // size * size].reshape(-1, size))
        return done._replace(step=state.step + 1), jnp.mean(each)

    @jax.jit
    def measure(
        state: TrainingState, images: Array, labels: Array, valid: Array
    ) -> tuple[Sums, Array]:
        logits, _, _ = forward(inference_graphdef, state.params, state.stats, images)
        return batch_sums(logits, classification_loss(logits, labels, valid), labels, valid), logits

    def whole(state: TrainingState) -> nnx.Module:
        return nnx.merge(graphdef, state.params, state.stats, rest)

    stages: dict[str, Any] = {
        WARM: on_images(WARM),
        JOINT: on_images(JOINT),
        LAST_LAYER: last_layer,
    }
    return TrainingProgram(
        initial, whole, stages[JOINT], lambda *given: measure(*given)[0], measure, stages
    )


def highest_rate(config: PrototypeConfig, stage: Stage, step: int) -> float:
    """The highest learning rate in step `step` of a training."""
    joint = stage.passes_after(step) - config.warm
    falls = joint // config.decay_every if stage.kind == JOINT else 0
    return max(stage_rates(config, stage.kind).values(), default=0.0) * config.decay**falls


def freeze(learns: Any, params: Any) -> Any:
    """The parameters, those that rest cut off from the gradient, so that nothing is computed for
    them."""
    kinds = _part_labels(learns, params)
    return jax.tree.map(
        lambda leaf, kind: jax.lax.stop_gradient(leaf) if kind == FROZEN else leaf, params, kinds
    )
