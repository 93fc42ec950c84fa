"""The compiled steps of a prototype network, a kind of stage each.

    warm        the new layers and the prototypes; the backbone rests, its batch statistics too
    joint       the backbone as well, with batch statistics of the batch; all rates fall by steps
    last layer  the last layer alone, on similarities of unaugmented images that are computed once

What each stage moves, and at which rate, is in `optimizers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from mdm_jax.training.config import TrainConfig
from mdm_jax.training.prototypes import losses
from mdm_jax.training.prototypes.optimizers import freeze, optimizers, stage_rates
from mdm_jax.training.split_network import (
    SplitNetwork,
    split_network,
    split_weights,
)
from mdm_jax.training.stages import JOINT, LAST_LAYER, WARM
from mdm_jax.training.steps import (
    TrainingProgram,
    TrainingState,
    batch_sums,
    mean_over,
    measuring_step,
)

# Params -> (every term of the loss [b], logits, batch statistics).
Objective = Callable[[Any], tuple[dict[str, Array], Array, Any]]

# (state, ...) -> (state, loss); the state that goes in is consumed.
Step = Callable[..., tuple[TrainingState, Array]]


class PrototypeSums(NamedTuple):
    """`Sums` over the items of a pass so far, and the sum of every term of the loss, not yet
    weighed."""

    loss: Float[Array, ""]
    hits: Float[Array, ""]
    items: Float[Array, ""]
    terms: dict[str, Float[Array, ""]]


def prototype_program(
    config: TrainConfig, module: Any, steps_per_epoch: int
) -> TrainingProgram:
    """The steps of every stage for prototype networks of the structure of `module`."""
    settings = config.prototypes
    network = split_network(module, config)
    steps = _Steps(
        config,
        network,
        module.prototype_classes,
        losses.term_names(settings, has_occurrence=hasattr(module, "occurrence")),
        optimizers(settings, steps_per_epoch),
    )
    measure = measuring_step(network)
    stages: dict[str, Any] = {
        WARM: steps.on_images(WARM),
        JOINT: steps.on_images(JOINT),
        LAST_LAYER: steps.on_similarities(),
    }
    return TrainingProgram(
        steps.initial,
        lambda state: network.merge(state.params, state.stats),
        stages[JOINT],
        lambda *given: measure(*given)[0],
        measure,
        stages,
    )


@dataclass(frozen=True)
class _Steps:
    """What the steps of all stages share, and each kind of step."""

    config: TrainConfig
    network: SplitNetwork
    prototype_classes: Sequence[int]
    term_names: list[str]
    optimizers: dict[str, optax.GradientTransformation]

    def initial(self, module: nnx.Module) -> TrainingState:
        """The state before the first step."""
        params, stats = split_weights(module)
        moments = {kind: each.init(params) for kind, each in self.optimizers.items()}
        zero = jnp.zeros(())
        sums: Any = PrototypeSums(zero, zero, zero, dict.fromkeys(self.term_names, zero))
        state = TrainingState(params, stats, moments, jnp.zeros((), jnp.int32), sums)
        # a buffer of its own for each leaf, since a step consumes them
        return jax.tree.map(jnp.copy, state)

    def on_images(self, kind: str) -> Step:
        """The step of the warm or the joint stage, on a batch of augmented images."""
        network = self.network
        # only the joint stage lets the statistics of the backbone follow the batch
        graph = network.training if kind == JOINT else network.inference

        @partial(jax.jit, donate_argnums=0)
        def train(
            state: TrainingState, images: Array, labels: Array, valid: Array
        ) -> tuple[TrainingState, Array]:
            angle, scale = losses.draw_transformation(self._key(state))

            def objective(params: Any) -> tuple[dict[str, Array], Array, Any]:
                logits, out, stats = network.forward(graph, params, state.stats, images)
                distances = losses.compared_distances(out)
                terms = self._shared_terms(logits, distances, params, labels, valid)
                if "transformation" in self.term_names:
                    changed = losses.transform(images, angle, scale)
                    _, others, _ = network.forward(graph, params, state.stats, changed)
                    maps = others["occurrence_maps"], out["occurrence_maps"]
                    terms["transformation"] = losses.transformation_cost(
                        *maps, angle, scale
                    )
                if "occurrence_norm" in self.term_names:
                    terms["occurrence_norm"] = losses.occurrence_norm(
                        out["occurrence_maps"]
                    )
                return terms, logits, stats

            return self._update(kind, state, objective, labels, valid)

        return train

    def on_similarities(self) -> Step:
        """The step of the last layer's stage: one pass over what was computed once of all images.

        The order is drawn anew for each pass; an incomplete last batch is left out."""

        @partial(jax.jit, donate_argnums=0)
        def last_layer(
            state: TrainingState,
            similarities: Array,
            distances: Array,
            labels: Array,
            valid: Array,
        ) -> tuple[TrainingState, Array]:
            count = len(valid)
            size = min(self.config.data.batch, count)
            # from the step, so that a resumed training draws the same order
            order = jax.random.permutation(self._key(state), count)

            def train(state: TrainingState, chosen: Array) -> tuple[TrainingState, Array]:
                def objective(params: Any) -> tuple[dict[str, Array], Array, Any]:
                    logits = similarities[chosen] @ params["last_layer"]["kernel"][...]
                    terms = self._shared_terms(
                        logits,
                        distances[chosen],
                        params,
                        labels[chosen],
                        valid[chosen],
                    )
                    return terms, logits, state.stats

                return self._update(
                    LAST_LAYER, state, objective, labels[chosen], valid[chosen]
                )

            batches = order[: count // size * size].reshape(-1, size)
            done, each = jax.lax.scan(train, state, batches)
            # a pass is one step of the training, however many batches it has
            return done._replace(step=state.step + 1), jnp.mean(each)

        return last_layer

    def _key(self, state: TrainingState) -> Array:
        return jax.random.fold_in(jax.random.key(self.config.seed), state.step)

    def _shared_terms(
        self,
        logits: Array,
        distances: Array,
        params: Any,
        labels: Array,
        valid: Array,
    ) -> dict[str, Array]:
        """The terms that every stage has."""
        return losses.terms(
            logits,
            distances,
            params["last_layer"]["kernel"][...],
            labels,
            valid,
            self.prototype_classes,
            balanced=self.config.prototypes.balanced,
        )

    def _update(
        self,
        kind: str,
        state: TrainingState,
        objective: Objective,
        labels: Array,
        valid: Array,
    ) -> tuple[TrainingState, Array]:
        """One step of the stage's Adam."""
        settings, names, optimizer = (
            self.config.prototypes,
            self.term_names,
            self.optimizers[kind],
        )
        weights = losses.term_weights(settings)
        # gradients of parameters that rest are not even computed
        learning = stage_rates(settings, kind).keys()

        def total(params: Any) -> tuple[Array, Any]:
            terms, logits, stats = objective(freeze(learning, params))
            weighted = []
            for name in names:
                if name in terms:
                    weighted.append(weights[name] * mean_over(terms[name], valid))
            # the order of addition is that of the terms: results are equal to the bit
            return sum(weighted[1:], start=weighted[0]), (terms, logits, stats)

        differentiate = jax.value_and_grad(total, has_aux=True)
        (loss, (terms, logits, stats)), gradient = differentiate(state.params)
        updates, moments = optimizer.update(gradient, state.optimizer[kind], state.params)
        params = optax.apply_updates(state.params, updates)
        _, correct, items = batch_sums(logits, terms["classification"], labels, valid)
        of_terms = {}
        for name in names:
            if name in terms:
                of_terms[name] = jnp.sum(jnp.where(valid, terms[name], 0.0))
            else:
                of_terms[name] = jnp.zeros(())
        new: Any = PrototypeSums(loss * items, correct, items, of_terms)
        sums = jax.tree.map(jnp.add, state.sums, new)
        optimizer_states = state.optimizer | {kind: moments}
        return TrainingState(params, stats, optimizer_states, state.step + 1, sums), loss
