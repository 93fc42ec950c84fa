"""One image's problem, and the report on its answer: what every method begins and ends with."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax import fills, nodes
from mdm_jax.errors import InputError
from mdm_jax.types import Explanation, Image, Info, Mask, Node, Predict, Status
from mdm_jax.view import kept_share

# Forward evaluations that every method spends on its report: the image, the fill, and the image
# through the map.
FORWARDS = 3


# A mask that keeps less than this share of the activation explains nothing.
LEAST_KEPT = 0.5

# What programs call `name_lost` and `name_empty`.
LOST_RULE, EMPTY_RULE = "name_lost", "name_empty"


class Problem(NamedTuple):
    """One image's problem: all that stays the same while it is solved."""

    image: Image
    background: Image
    """the fill, drawn once"""
    target: Int[Array, ""]
    reference: Float[Array, "..."]
    """node on the original image"""
    fill_activation: Float[Array, "..."]
    """node on the background alone"""
    key: Key[Array, ""]


def begin(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None,
    *,
    node: str | Node,
    key: Key[Array, ""],
    fill: Any = "mean",
) -> Problem:
    """State the problem: draw the fill, choose the target, evaluate the reference activation.

    Of several fills the first is drawn. Two forward evaluations.
    """
    fill_key, key = jax.random.split(key)
    background = fills.draw(fills.resolve_turns(fill)[0], image, key=fill_key)
    image_outputs, fill_outputs = _unstack(predict(jnp.stack([image, background])))
    target = choose_target(node, image_outputs, target)
    return Problem(
        image=image,
        background=background,
        target=target,
        reference=activation(node, image_outputs, target),
        fill_activation=activation(node, fill_outputs, target),
        key=key,
    )


def report(
    predict: Predict,
    problem: Problem,
    mask: Mask,
    *,
    node: str | Node,
    status: Int[Array, ""],
    evaluations: Int[Array, ""] | int = 0,
    forwards: Int[Array, ""] | int = 0,
    must_keep: bool = False,
    **solved: Any,
) -> Info:
    """The diagnostics of an answer, whose `mask` in [0, 1] is what is kept.

    One forward evaluation. `evaluations` and `forwards` are the method's own; the `FORWARDS` of
    this report are added. With `must_keep` a mask that keeps less than `LEAST_KEPT` of the
    activation is `Status.LOST`. `solved` holds the objective, the terms and the steps of a method
    that optimizes.
    """
    background, target = problem.background, problem.target
    reference, fill_activation = problem.reference, problem.fill_activation
    (outputs,) = _unstack(predict(blend(mask[None], problem.image, background)))
    masked_activation = activation(node, outputs, target)
    if must_keep:
        status = name_lost(
            status,
            masked_activation,
            reference,
            fill_activation,
            direction=nodes.direction(node),
        )
    constant = _is_same(reference, masked_activation) & _is_same(reference, fill_activation)
    return Info(
        target=target,
        activation=reference,
        activation_masked=masked_activation,
        activation_fill=fill_activation,
        kept_area=mask.mean(),
        evaluations=jnp.int32(evaluations),
        forwards=jnp.int32(forwards) + FORWARDS,
        status=jnp.where(constant, jnp.int32(Status.CONSTANT), status),
        **({"objective": jnp.zeros(()), "terms": {}, "steps": jnp.int32(0)} | solved),
    )


@partial(jax.jit, static_argnames="direction")
def name_lost(
    status: Int[Array, ""],
    masked_activation: Float[Array, "..."],
    reference: Float[Array, "..."],
    fill_activation: Float[Array, "..."],
    *,
    direction: float,
) -> Int[Array, ""]:
    """The status of a mask, `Status.LOST` where it keeps less than `LEAST_KEPT`.

    A call of its own in a program, as it changes no other result: checksums of programs leave it
    out (`mdm_jax.runs.compiled`)."""
    kept = kept_share(masked_activation, reference, fill_activation, direction)
    is_lost = (kept < LEAST_KEPT) & (status != Status.NOT_FINITE)
    return jnp.where(is_lost, jnp.int32(Status.LOST), status)


@jax.jit
def name_empty(status: Int[Array, ""], saliency: Mask) -> Int[Array, ""]:
    """The status of a map, `Status.EMPTY` where it would be a usual one and all pixels are equal.

    A call of its own for the same reason as `name_lost`."""
    is_usual = (status == Status.CONVERGED) | (status == Status.OUT_OF_STEPS)
    is_empty = jnp.max(saliency) == jnp.min(saliency)
    return jnp.where(is_usual & is_empty, jnp.int32(Status.EMPTY), status)


def with_empty_named(explanation: Explanation) -> Explanation:
    """The explanation of any method, whose status says where its map is empty."""
    info = explanation.info
    status = name_empty(info.status, explanation.saliency)
    return explanation._replace(info=info._replace(status=status))


def activation(
    node: str | Node, outputs: Any, target: Int[Array, ""]
) -> Float[Array, "..."]:
    """The node's activation in float32, NaN where the network's own output is not finite.

    The outputs themselves are looked at, because XLA's softmax on CPU can turn NaN logits into
    ordinary numbers.
    """
    head = nodes.logits_of(outputs) if nodes.has_logits(outputs) else outputs
    inexact = [
        leaf for leaf in jax.tree.leaves(head) if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    finite: Any = True
    if inexact:
        finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in inexact]))
    return jnp.where(
        finite, nodes.resolve(node)(outputs, target).astype(jnp.float32), jnp.nan
    )


def blend(
    masks: Float[Array, "v h w"], image: Image, background: Image
) -> Float[Array, "v h w c"]:
    """Masked images, M * x + (1 - M) * b."""
    return masks[..., None] * image + (1.0 - masks[..., None]) * background


def choose_target(
    node: str | Node, outputs: Any, target: Int[Array, ""] | int | None
) -> Int[Array, ""]:
    """The target to explain: `target`, or the first choice where it is None or negative.

    The first choice is the network's class, or the node's own.
    """
    count = nodes.targets_of(node, outputs)
    if target is not None and count is None:
        return jnp.int32(target)
    if isinstance(target, int | np.integer) and count is not None and target >= count:
        raise out_of_range(node, int(target), count)
    first = nodes.first_target(node, outputs)
    if target is None:
        return first
    return jnp.where(target < 0, first, target).astype(jnp.int32)


def check_targets(
    targets: Any, n: int, outputs: Any, node: str | Node = "probability"
) -> np.ndarray:
    """Targets [n] as int32, -1 for the first choice.

    Raises InputError for a target outside the classes, or another number of targets.
    """
    count = nodes.targets_of(node, outputs)
    if targets is None:
        if count is None:
            nodes.logits_of(outputs)  # raises: a first choice needs logits
        return np.full(n, -1, np.int32)
    chosen = np.asarray(targets)
    if not np.issubdtype(chosen.dtype, np.integer) or chosen.shape not in {(), (n,)}:
        raise InputError(
            f"targets have shape {chosen.shape} and type {chosen.dtype}: give one class index, or"
            f" {n} of them"
        )
    if count is not None and chosen.max() >= count:
        raise out_of_range(node, int(chosen.max()), count)
    if chosen.max() > np.iinfo(np.int32).max:
        raise InputError(f"target {chosen.max()} is out of range: give a class index")
    # any negative number means the first choice; as it is it might not fit in 32 bits
    return np.broadcast_to(np.maximum(chosen, -1), (n,)).astype(np.int32)


def out_of_range(node: str | Node, target: int, count: int) -> InputError:
    """The error for a target that does not exist, to be raised."""
    if isinstance(nodes.resolve(node), nodes.Entry):
        return InputError(
            f"target {target} is out of range: the node {node!r} has {count} targets, 0 to"
            f" {count - 1}"
        )
    return InputError(
        f"class index {target} is out of range: the network has {count} classes, 0 to {count - 1}"
    )


def _unstack(outputs: Any) -> list[Any]:
    """A batch of outputs as a list of one image's outputs each."""
    n = jax.tree.leaves(outputs)[0].shape[0]
    return [jax.tree.map(lambda leaf: leaf[i], outputs) for i in range(n)]  # noqa: B023


def _is_same(a: Float[Array, "..."], b: Float[Array, "..."]) -> Array:
    return jnp.all(jnp.abs(a - b) <= 1e-6 * jnp.abs(a))
