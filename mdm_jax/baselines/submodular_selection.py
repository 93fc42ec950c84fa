"""Less is More (Chen et al., "Less is More: Fewer Interpretable Region via Submodular Subset
Selection", ICLR 2024, arXiv 2402.09164): superpixels taken one after the other, each time the one
that serves the set best.

Follows the authors' repository for networks that give probabilities (`submodular_vit_torch`). What
needs more than the network's outputs is replaced: confidence is by the entropy of the
probabilities, as there, where the paper trains a second network for it, and effectiveness compares
logits for want of features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from mdm_jax import nodes
from mdm_jax.baselines import superpixels
from mdm_jax.baselines.attribution import make_explanation
from mdm_jax.errors import InputError
from mdm_jax.execution import chunked
from mdm_jax.execution.convolutions import canonical
from mdm_jax.masks import HIGHEST
from mdm_jax.problem import Problem, activation, begin, blend
from mdm_jax.types import (
    STATIC,
    Explanation,
    Image,
    Method,
    Node,
    Predict,
    is_concrete_number,
)

# What the map falls by from first to last for the order alone, ours: the authors evaluate the order
# itself, and their maps lose it where the node stays the same.
ORDER_STEP = 1e-3


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SubmodularSelection:
    """The weights of the authors' ImageNet script; the paper's are one each."""

    segments: int = field(default=36, metadata=STATIC)
    """about how many superpixels (m); the cost grows with their square. The authors take about
    50"""
    compactness: Any = 10.0
    """weight of place against color in SLIC (leaf)"""
    rounds: int = field(default=10, metadata=STATIC)
    """rounds of SLIC"""
    confidence: Any = 0.0
    """weight of how sure the network is of the set (lambda_1) (leaf)"""
    effectiveness: Any = 0.05
    """weight of how far the set's members differ (lambda_2) (leaf)"""
    consistency: Any = 1.0
    """weight of the node on the set (lambda_3) (leaf)"""
    collaboration: Any = 1.0
    """weight of the node's loss on the rest of the image (lambda_4) (leaf)"""
    baseline: Any = "black"
    """what hidden superpixels show: "segments" for their own mean color, or see
    `baseline_image.draw_baseline` (leaf)"""
    chunk: int = field(default=6, metadata=STATIC)
    """candidates evaluated at a time, each with its set and with the rest; the last chunk of a step
    is filled up"""

    def check(self) -> None:
        """Raises InputError for a number out of range or an unknown baseline."""
        chunked.check_count("chunk", self.chunk)
        superpixels.check_superpixels(
            self.segments, self.compactness, self.rounds, self.baseline
        )
        for name in ("confidence", "effectiveness", "consistency", "collaboration"):
            value = getattr(self, name)
            if is_concrete_number(value) and not float(value) >= 0:
                raise InputError(f"{name} is {value}: give a weight of zero or more")


class Scores(NamedTuple):
    """Of one set of superpixels, or of several along a leading axis."""

    kept: Float[Array, "*n"]
    """node on the set"""
    rest: Float[Array, "*n"]
    """node on the rest of the image"""
    confidence: Float[Array, "*n"]
    """1 - entropy / log(classes) on the set"""
    logits: Float[Array, "*n classes"]
    """on the set"""


class Step(NamedTuple):
    """The best candidate of a step so far."""

    value: Float[Array, ""]
    candidate: Int[Array, ""]
    kept: Float[Array, ""]
    rest: Float[Array, ""]


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: SubmodularSelection | None = None,
    trace: bool = False,
) -> Explanation:
    """S falls from superpixel to superpixel, in the order a_1 .. a_m in which they are taken.

    a_t = argmax_a l1 conf(S + a) + l2 eff(S + a) + l3 g(S + a) + l4 (1 - g(rest)), S the t - 1
    before. From each to the next S falls by |F_t - F_{t-1}|, F = g(S) + 1 - g(rest), as in the
    authors' maps, and by `ORDER_STEP` / m. m (m + 1) forward evaluations. Image [h, w, c] in
    [0, 1]. Raises InputError for a network without logits.
    """
    config = config or SubmodularSelection()
    config.check()
    grid = superpixels.make_grid(image.shape, config.segments)
    problem = begin(predict, image, target, node=node, key=key)
    labels = superpixels.slic(
        image, grid, compactness=config.compactness, rounds=config.rounds
    )
    background = superpixels.draw_background(
        predict,
        image,
        labels,
        config.baseline,
        segments=grid.segments,
        key=problem.key,
    )

    def score(members: Float[Array, " m"]) -> Scores:
        mask = superpixels.show(members, labels)
        return score_set(predict, problem, background, mask, node=node)

    m = grid.segments
    order, kept, rest = select(score, m, config)
    values = values_of(kept, rest)
    attribution = superpixels.show(jnp.zeros(m).at[order].set(values), labels)
    return make_explanation(
        predict, problem, attribution[..., None], node=node, forwards=m * (m + 1)
    )


def score_set(
    predict: Predict,
    problem: Problem,
    background: Image,
    mask: Float[Array, "h w"],
    *,
    node: str | Node,
) -> Scores:
    """The scores of one set, by two forward evaluations."""
    both = blend(jnp.stack([mask, 1.0 - mask]), problem.image, background)
    outputs = predict(both)
    inside, outside = (jax.tree.map(lambda leaf: leaf[i], outputs) for i in (0, 1))  # noqa: B023
    logits = nodes.logits_of(inside).astype(jnp.float32)
    log_probability = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(log_probability) * log_probability).sum()
    return Scores(
        activation(node, inside, problem.target).sum(),
        activation(node, outside, problem.target).sum(),
        1.0 - entropy / np.log(len(logits)),
        logits,
    )


def select(
    score: Any, m: int, config: SubmodularSelection
) -> tuple[Int[Array, " m"], Float[Array, " m"], Float[Array, " m"]]:
    """The order in which superpixels are taken, and the node on the set and the rest after each.

    The first step looks at each superpixel alone, which also tells how they differ.
    """
    alone = chunked.map_over(score, jnp.eye(m), config.chunk)
    distance = logit_distance(alone.logits)
    first = best_of(alone, jnp.zeros(m), jnp.arange(m), config)
    taken = jnp.zeros(m, bool).at[first.candidate].set(True)
    score_all = canonical(jax.vmap(score))

    def look(carried: tuple[Array, Step], chunk: tuple[Array, Array]) -> Any:
        taken, best = carried
        places, is_last = chunk
        # those that are not taken come first, in their order
        candidates = jnp.argsort(taken)[jnp.minimum(places, m - 1)]
        is_candidate = (places < m) & ~taken[candidates]
        sets = jax.vmap(lambda each: taken.at[each].set(True))(candidates)
        scores = score_all(sets.astype(jnp.float32))
        spread = jax.vmap(lambda each: effectiveness(each, distance))(sets)
        found = best_of(scores, spread, candidates, config, is_candidate)
        # a score that is not a number is kept, to be seen at the end
        is_better = (found.value > best.value) | jnp.isnan(found.value)
        best = jax.tree.map(lambda old, new: jnp.where(is_better, new, old), best, found)
        after = jnp.where(is_last, taken.at[best.candidate].set(True), taken)
        nothing = best._replace(value=jnp.float32(-jnp.inf))
        start = jax.tree.map(lambda old, new: jnp.where(is_last, new, old), best, nothing)
        return (after, start), best

    places, is_last = schedule(m, config.chunk)
    nothing = first._replace(value=jnp.float32(-jnp.inf))
    _, steps = jax.lax.scan(
        look, (taken, nothing), (jnp.asarray(places), jnp.asarray(is_last))
    )
    steps = jax.tree.map(
        lambda one, more: jnp.concatenate([one[None], more[is_last]]), first, steps
    )
    return steps.candidate, steps.kept, steps.rest


def schedule(m: int, chunk: int) -> tuple[Int[np.ndarray, "n c"], Bool[np.ndarray, " n"]]:
    """Of the steps from the second on: the candidates of each chunk by their place among those that
    are left, and whether a chunk is the last of its step."""
    places, is_last = [], []
    for left in range(m - 1, 0, -1):
        for start in range(0, left, chunk):
            places.append(np.arange(start, start + chunk))
            is_last.append(start + chunk >= left)
    return (
        np.stack(places) if places else np.zeros((0, chunk), int),
        np.asarray(is_last, bool),
    )


def best_of(
    scores: Scores,
    spread: Float[Array, " c"],
    candidates: Int[Array, " c"],
    config: SubmodularSelection,
    is_candidate: Bool[Array, " c"] | bool = True,
) -> Step:
    """The candidate of the greatest value, the first of several."""
    value = (
        config.confidence * scores.confidence
        + config.effectiveness * spread
        + config.consistency * scores.kept
        + config.collaboration * (1.0 - scores.rest)
    )
    value = jnp.where(is_candidate, value, -jnp.inf)
    best = jnp.argmax(value)
    return Step(value[best], candidates[best], scores.kept[best], scores.rest[best])


def logit_distance(logits: Float[Array, "m classes"]) -> Float[Array, "m m"]:
    """The angle between the logits of two superpixels, 0 to 1; 1 between each and itself."""
    length = jnp.linalg.norm(logits, axis=1, keepdims=True)
    directions = logits / jnp.maximum(length, 1e-12)
    cosine = jnp.matmul(directions, directions.T, precision=HIGHEST)
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0)) / np.pi
    return jnp.where(jnp.eye(len(logits), dtype=bool), 1.0, angle)


def effectiveness(
    members: Bool[Array, " m"], distance: Float[Array, "m m"]
) -> Float[Array, ""]:
    """The sum over members of the distance to the nearest other; for one alone it is not asked."""
    nearest = jnp.where(members[None, :], distance, 1.0).min(axis=1)
    return jnp.where(members, nearest, 0.0).sum()


def values_of(kept: Float[Array, " m"], rest: Float[Array, " m"]) -> Float[Array, " m"]:
    """The value of each superpixel in the order in which they are taken.

    Before the first, the set is empty and the rest is the image: the other way round than after
    the last. The order stays visible where nothing changes, as after the first of an object that
    one superpixel holds.
    """
    served = kept + 1.0 - rest
    before = jnp.concatenate([(rest[-1] + 1.0 - kept[-1])[None], served[:-1]])
    return -jnp.cumsum(jnp.abs(served - before) + ORDER_STEP / len(kept))


METHOD = Method("submodular_selection", explain, SubmodularSelection, "probability")
