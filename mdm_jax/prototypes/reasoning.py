"""Why a prototype network says what it says: similarity times weight, prototype by prototype, adds
up to the logit.

z_c = sum_j s_j(x) w_jc (+ b_c),    s_j: how alike prototype j and its best place in the image are,
w_jc: the last layer"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from mdm_jax.errors import InputError
from mdm_jax.models.classifier import Classifier
from mdm_jax.prototypes.search import activations

TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}
"""by which a sum may differ from the logit, as a share of what is added up"""


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
        return float(self.logits[self.target])

    @property
    def contributions(self) -> Float32[np.ndarray, " m"]:
        """similarity x weight: the points that each prototype gives to the class, or takes from
        it"""
        return self.similarities * self.weights

    def first(self, count: int) -> list[int]:
        """The prototypes that give the class most points, most first; of equals the one of the
        lower number."""
        order = np.argsort(-self.contributions, kind="stable")
        return [int(prototype) for prototype in order[:count]]


class Contribution(NamedTuple):
    """A prototype's share in a logit."""

    prototype: int
    similarity: float
    weight: float
    points: float
    """similarity x weight"""


class RoundedSum(NamedTuple):
    """A logit as it is written: rows, all other prototypes together, the bias, and what they add up
    to, all rounded.

    The rounding errors of the rows are in `others`, so that the numbers that a person reads add up.
    """

    rows: tuple[Contribution, ...]
    others: float
    rest: int
    """how many prototypes are among the others"""
    bias: float
    total: float


def explain_decision(
    classifier: Classifier, image: Float[Any, "h w c"], target: int | None = None
) -> Reasoning:
    """Take the logit of one class apart, by default that of the network's first choice. Raises
    InputError as `explain_decisions`."""
    return explain_decisions(
        classifier, np.asarray(image)[None], None if target is None else [target]
    )[0]


def explain_decisions(
    classifier: Classifier,
    images: Float[Any, "n h w c"],
    targets: Sequence[int] | Int[np.ndarray, " n"] | None = None,
) -> list[Reasoning]:
    """Take apart the logit of one class for each image, in batches of one compiled program.

    A negative target is the first choice. Raises InputError for a network without prototypes, a
    target that is no class, or prototypes that do not add up to the logit."""
    seen = activations(classifier, images)
    kernel, bias = last_layer(classifier)
    m, classes = seen.similarities.shape[1], seen.logits.shape[1]
    if kernel.shape != (m, classes):
        raise InputError(
            f"the last layer of {classifier.name} has the shape {kernel.shape}, {m} prototypes and"
            f" {classes} classes need {(m, classes)}: out['similarities'] must be what it weighs"
        )
    firsts = seen.logits.argmax(axis=1)
    chosen = firsts if targets is None else np.asarray(targets)
    if (
        chosen.shape != firsts.shape
        or not np.issubdtype(chosen.dtype, np.integer)
        or chosen.max() >= classes
    ):
        raise InputError(
            f"targets are {chosen.tolist()}: give a class from 0 to {classes - 1} for each of"
            f" {len(firsts)} images"
        )
    found = []
    for first, target, logits, similarities in zip(firsts, chosen, seen.logits, seen.similarities):
        c = int(first if target < 0 else target)
        one = Reasoning(c, int(first), logits, similarities, kernel[:, c], float(bias[c]))
        _check_sum(one, classifier)
        found.append(one)
    return found


def last_layer(
    classifier: Any,
) -> tuple[Float32[np.ndarray, "m classes"], Float32[np.ndarray, " classes"]]:
    """The weights from prototypes to classes, and the bias (0 where there is none). Raises
    InputError where there are none."""
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
    return weights, (
        np.zeros(weights.shape[1], np.float32)
        if bias is None
        else np.asarray(bias[...], np.float32)
    )


def round_sum(reasoning: Reasoning, count: int, places: int = 2) -> RoundedSum:
    """The logit as a sum to read: the first `count` prototypes, and all others together, rounded to
    `places`."""
    rows = tuple(
        Contribution(
            prototype,
            *(
                round(float(value), places)
                for value in (
                    reasoning.similarities[prototype],
                    reasoning.weights[prototype],
                    reasoning.contributions[prototype],
                )
            ),
        )
        for prototype in reasoning.first(count)
    )
    total, bias = round(reasoning.logit, places), round(reasoning.bias, places)
    others = round(total - bias - sum(row.points for row in rows), places)
    return RoundedSum(rows, others + 0.0, len(reasoning.similarities) - len(rows), bias, total)


def _check_sum(one: Reasoning, classifier: Classifier) -> None:
    added = float(one.contributions.sum(dtype=np.float64)) + one.bias
    size = 1.0 + float(np.abs(one.contributions).sum(dtype=np.float64))
    if not np.isfinite(one.logits).all():
        raise InputError(f"the outputs of {classifier.name} are NaN or infinite: check the weights")
    if abs(added - one.logit) > TOLERANCE[classifier.dtype] * size:
        raise InputError(
            f"the prototypes of {classifier.name} add up to {added:.4g}, its logit is"
            f" {one.logit:.4g}: out['similarities'] must be what the last layer weighs"
        )
