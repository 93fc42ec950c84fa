"""The decision of a prototype network as a sum over prototypes.

    z_c = sum_j s_j(x) w_jc (+ b_c)

s_j: similarity of prototype j to its best position in the image; w_jc, b_c: the last layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from mdm_jax.errors import InputError
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.models.classifier import Classifier
from mdm_jax.prototypes.search import activations

# By which a sum may differ from the logit, as a share of what is added up.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}


class Reasoning(NamedTuple):
    """Why the logit of one class is what it is for one image."""

    target: int
    """class whose logit is taken apart"""
    prediction: int
    """the network's first choice"""
    logits: Float32[np.ndarray, " classes"]
    similarities: Float32[np.ndarray, " m"]
    weights: Float32[np.ndarray, " m"]
    """of each prototype for the class"""
    bias: float = 0.0

    @property
    def logit(self) -> float:
        """The logit of the class."""
        return float(self.logits[self.target])

    @property
    def contributions(self) -> Float32[np.ndarray, " m"]:
        """similarity x weight, the points of each prototype for the class or against it"""
        return self.similarities * self.weights

    def first(self, count: int) -> list[int]:
        """The prototypes with most points, most first; of equals the lower number first."""
        # stable, so that of equals the lower number is first
        order = np.argsort(-self.contributions, kind="stable")
        return [int(prototype) for prototype in order[:count]]


class Contribution(NamedTuple):
    """What a prototype adds to a logit."""

    prototype: int
    similarity: float
    weight: float
    points: float
    """similarity x weight"""


class RoundedSum(NamedTuple):
    """A logit as a rounded sum: rows, all other prototypes together, the bias, and the total.

    `others` takes up the rounding errors of the rows, so that the numbers that a person reads add
    up."""

    rows: tuple[Contribution, ...]
    others: float
    rest: int
    """how many prototypes are among the others"""
    bias: float
    total: float


@own_settings()
def explain_decision(
    classifier: Classifier, image: Float[Any, "h w c"], target: int | None = None
) -> Reasoning:
    """The logit of one class as a sum over prototypes, by default of the network's first choice.

    Raises InputError as `explain_decisions`."""
    targets = None if target is None else [target]
    return explain_decisions(classifier, np.asarray(image)[None], targets)[0]


@own_settings()
def explain_decisions(
    classifier: Classifier,
    images: Float[Any, "n h w c"],
    targets: Sequence[int] | Int[np.ndarray, " n"] | None = None,
) -> list[Reasoning]:
    """The logit of one class for each image as a sum over prototypes.

    A negative target is the first choice. Raises InputError for a network without prototypes, a
    target that is no class, or prototypes that do not add up to the logit."""
    seen = activations(classifier, images)
    kernel, bias = last_layer(classifier)
    m, classes = seen.similarities.shape[1], seen.logits.shape[1]
    # a network may weigh something else, such as similarities of several scales
    if kernel.shape != (m, classes):
        raise InputError(
            f"the last layer of {classifier.name} has the shape {kernel.shape}, {m} prototypes and"
            f" {classes} classes need {(m, classes)}: out['similarities'] must be what it weighs"
        )
    firsts = seen.logits.argmax(axis=1)
    chosen = firsts if targets is None else np.asarray(targets)
    whole_numbers = np.issubdtype(chosen.dtype, np.integer)
    if chosen.shape != firsts.shape or not whole_numbers or chosen.max() >= classes:
        raise InputError(
            f"targets are {chosen.tolist()}: give a class from 0 to {classes - 1} for each of"
            f" {len(firsts)} images"
        )
    found = []
    for first, target, logits, similarities in zip(
        firsts, chosen, seen.logits, seen.similarities
    ):
        c = int(first if target < 0 else target)
        one = Reasoning(c, int(first), logits, similarities, kernel[:, c], float(bias[c]))
        _check_sum(one, classifier)
        found.append(one)
    return found


def last_layer(
    classifier: Any,
) -> tuple[Float32[np.ndarray, "m classes"], Float32[np.ndarray, " classes"]]:
    """The weights from prototypes to classes, and the bias (0 where there is none).

    Raises InputError for a network without such a layer."""
    layer = getattr(getattr(classifier, "network", None), "last_layer", None)
    kernel = getattr(layer, "kernel", None)
    if kernel is None:
        name = getattr(classifier, "name", "the network")
        raise InputError(
            f"{name} has no network.last_layer, whose weights say what a similarity is worth: give"
            " a Classifier whose network names it so"
        )
    weights = np.asarray(kernel[...], np.float32)
    bias = getattr(layer, "bias", None)
    if bias is None:
        return weights, np.zeros(weights.shape[1], np.float32)
    return weights, np.asarray(bias[...], np.float32)


def round_sum(reasoning: Reasoning, count: int, places: int = 2) -> RoundedSum:
    """The first `count` prototypes, and all others together, rounded to `places`."""
    rows = []
    for prototype in reasoning.first(count):
        similarity = round(float(reasoning.similarities[prototype]), places)
        weight = round(float(reasoning.weights[prototype]), places)
        points = round(float(reasoning.contributions[prototype]), places)
        rows.append(Contribution(prototype, similarity, weight, points))
    total, bias = round(reasoning.logit, places), round(reasoning.bias, places)
    others = round(total - bias - sum(row.points for row in rows), places)
    rest = len(reasoning.similarities) - len(rows)
    # adding 0.0 turns a negative zero into zero
    return RoundedSum(tuple(rows), others + 0.0, rest, bias, total)


def _check_sum(one: Reasoning, classifier: Classifier) -> None:
    added = float(one.contributions.sum(dtype=np.float64)) + one.bias
    # rounding grows with what is added up, not with the sum
    size = 1.0 + float(np.abs(one.contributions).sum(dtype=np.float64))
    if not np.isfinite(one.logits).all():
        raise InputError(
            f"the outputs of {classifier.name} are NaN or infinite: check the weights"
        )
    if abs(added - one.logit) > TOLERANCE[classifier.dtype] * size:
        raise InputError(
            f"the prototypes of {classifier.name} add up to {added:.4g}, its logit is"
            f" {one.logit:.4g}: out['similarities'] must be what the last layer weighs"
        )
