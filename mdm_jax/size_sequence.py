"""Mask sizes one after another, each as small as a stated share of the activation allows.

The schedule `sequence`. T steps are divided among the sizes V_1 ... V_K, coarse ones first, and a
step sees the image through the mask M of its size alone. What is solved for every size is

    minimize mean(M)   such that   kept(M) >= kept_share

by its Lagrangian, with proportional steps (gradients divided by their root mean square, which keep
the proportions between cells and need no knowledge of the network's scale), and a multiplier that
follows the share that is kept, so that every image gets the area weight that suits it:

    d = R^T g / rms + weight * R^T h / rms          g, h: gradients of the terms that see the masked
                                                    image, and of those that see the mask alone
    V <- project(V - optimizer(d) * (n_1 / n_k)^rate_power)
    weight <- weight * exp(weight_rate * (kept - kept_share))

R renders the mask. A finer mask starts from the answer of the coarser size and refines it. The
answer of a size is the best mask that was met, the least mean(M) + 10 max(0, kept_share - kept).
That costs nothing: every mask that counts has been evaluated. The gradients g are added up as
evidence (`mdm_jax.evidence`).

Source: ours. The paper's last abstract trains masks of different sizes and stacks them; that each
must hold something by itself, and how, is our reading.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from mdm_jax import masks
from mdm_jax.errors import InputError
from mdm_jax.evidence import proportional
from mdm_jax.types import Mask, Scalar

# The area that a lost share of the activation weighs as much as, when masks are compared.
LOSS_IN_AREA = 10.0

# Bounds of the multiplier: some weight always stays, and none grows beyond what a step can use.
LEAST_WEIGHT, MOST_WEIGHT = 0.02, 5.0


class Unknowns(NamedTuple):
    """What the solver carries as parameters."""

    vectors: masks.Vectors
    """parameters of the mask vectors, coarse ones first"""
    evidence: Float[Array, "h w"]
    """the objective does not depend on it, but its gradient is that of the rendered mask; its
    steps add those gradients up"""


class SequenceState(NamedTuple):
    """What is carried from step to step beside the unknowns."""

    optimizer: Any
    step: Int[Array, ""]
    weight: Float[Array, ""]
    """the multiplier of the area"""
    best: masks.Vectors
    """parameters of the best mask of each size"""
    best_merit: Float[Array, " k"]
    best_kept: Float[Array, " k"]
    """the share of the activation that the best mask keeps"""


def sizes_of_steps(sizes: int, steps: int) -> np.ndarray:
    """The size [steps] that each step works on; the first ones get what cannot be divided.

    Raises InputError for fewer steps than sizes.
    """
    if steps < sizes:
        raise InputError(
            f"{sizes} sizes one after another need at least {sizes} steps, and steps is {steps}:"
            " give more steps, or fewer sizes"
        )
    return np.concatenate(
        [
            np.full(len(part), k)
            for k, part in enumerate(np.array_split(range(steps), sizes))
        ]
    )


def seen_mask(
    unknowns: Unknowns,
    parametrization: masks.Parametrization,
    step: Int[Array, ""],
    steps: int,
    shape: masks.Size,
) -> tuple[Mask, Mask]:
    """The mask [h, w] of a step's size, twice: as the image is seen through it, and as itself.

    Their values are equal. The gradient of the first one goes to `evidence`, that of the second
    one to `vectors`.
    """
    rendered = _render_all(tuple(map(parametrization.decode, unknowns.vectors)), shape)
    active = jnp.asarray(sizes_of_steps(len(rendered), steps))[step]
    itself = rendered[active]
    evidence = unknowns.evidence
    through = jax.lax.stop_gradient(itself) + (evidence - jax.lax.stop_gradient(evidence))
    return through, itself


def transformation(
    optimizer: optax.GradientTransformation,
    parametrization: masks.Parametrization,
    *,
    steps: int,
    shape: masks.Size,
    kept_share: Scalar,
    weight_rate: Scalar,
    rate_power: Scalar,
) -> optax.GradientTransformationExtraArgs:
    """The updates of `Unknowns`, for `solver.make`; `update` needs `terms` with "kept"."""
    decode, project = parametrization.decode, parametrization.project

    def init(unknowns: Unknowns) -> SequenceState:
        sizes = len(unknowns.vectors)
        return SequenceState(
            optimizer=optimizer.init(unknowns.vectors),
            step=jnp.int32(0),
            weight=jnp.ones(()),
            best=unknowns.vectors,
            best_merit=jnp.full(sizes, jnp.inf),
            best_kept=jnp.full(sizes, jnp.nan),
        )

    def update(
        gradient: Unknowns,
        state: SequenceState,
        unknowns: Unknowns | None = None,
        *,
        terms: dict[str, Array],
        **_: Any,
    ) -> tuple[Unknowns, SequenceState]:
        assert unknowns is not None
        vectors = unknowns.vectors
        cells = [max(vector.shape) for vector in vectors]
        order = sizes_of_steps(len(vectors), steps)
        # after the last step, the last size stays active: there is none to hand on to
        active = jnp.asarray(order)[state.step]
        following = jnp.asarray(np.append(order[1:], order[-1]))[state.step]
        is_active = [active == k for k in range(len(vectors))]

        def render(vectors: masks.Vectors) -> Mask:
            return _render_all(tuple(map(decode, vectors)), shape)[active]

        mask, pull_back = jax.vjp(render, vectors)
        (from_image,) = pull_back(gradient.evidence)
        directions = tuple(
            # sizes that are not active have no gradient, and stay
            proportional(of_image) + state.weight * proportional(of_mask)
            for of_image, of_mask in zip(from_image, gradient.vectors)
        )
        moves, optimizer_state = optimizer.update(directions, state.optimizer, vectors)

        kept = terms["kept"]
        merit = mask.mean() + LOSS_IN_AREA * jnp.maximum(kept_share - kept, 0.0)
        moved, best, best_merit, best_kept = [], [], [], []
        for k, (vector, move) in enumerate(zip(vectors, moves)):
            rate = (cells[0] / cells[k]) ** rate_power
            step_result = project(vector + rate * move)
            moved.append(jnp.where(is_active[k], step_result, vector))
            is_best = is_active[k] & (merit < state.best_merit[k])
            best.append(jnp.where(is_best, vector, state.best[k]))
            best_merit.append(jnp.where(is_best, merit, state.best_merit[k]))
            best_kept.append(jnp.where(is_best, kept, state.best_kept[k]))
        for k in range(1, len(vectors)):
            # from the best mask, not the latest: so the finer size begins with what suffices
            coarser = masks.render(decode(best[k - 1]), shape)
            height, width = vectors[k].shape
            (refined,) = masks.start(coarser, [(height, width)], key=jax.random.key(0))
            begins = (active == k - 1) & (following == k)
            moved[k] = jnp.where(begins, parametrization.encode(refined), moved[k])

        growth = jnp.exp(weight_rate * (jnp.maximum(kept, 0.0) - kept_share))
        updates = Unknowns(
            tuple(after - before for after, before in zip(moved, vectors)),
            -proportional(gradient.evidence),
        )
        return updates, SequenceState(
            optimizer=optimizer_state,
            step=jnp.minimum(state.step + 1, steps - 1),
            weight=jnp.clip(state.weight * growth, LEAST_WEIGHT, MOST_WEIGHT),
            best=tuple(best),
            best_merit=jnp.stack(best_merit),
            best_kept=jnp.stack(best_kept),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def projection(parametrization: masks.Parametrization) -> Callable[[Unknowns], Unknowns]:
    """The projection of the mask vectors; evidence has no bounds."""

    def project(unknowns: Unknowns) -> Unknowns:
        return unknowns._replace(vectors=parametrization.project(unknowns.vectors))

    return project


def _render_all(vectors: masks.Vectors, shape: masks.Size) -> Float[Array, "k h w"]:
    return jnp.stack([masks.render(vector, shape) for vector in vectors])
