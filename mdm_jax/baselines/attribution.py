"""From signed attributions to an `Explanation`: what every baseline ends with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax import masks
from mdm_jax.errors import find_renamed, unknown
from mdm_jax.problem import Problem, report
from mdm_jax.types import Explanation, Node, Predict, Status

# How attributions [h, w, c] become a map [h, w]: the sum over channels, its positive part, the sum
# of magnitudes, or the largest magnitude.
REDUCTIONS: dict[str, Callable[[Array], Array]] = {
    "signed": lambda attribution: attribution.sum(axis=-1),
    "positive": lambda attribution: jnp.maximum(attribution.sum(axis=-1), 0.0),
    "absolute": lambda attribution: jnp.abs(attribution).sum(axis=-1),
    "maximum": lambda attribution: jnp.abs(attribution).max(axis=-1),
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NoSettings:
    """The config of a method in which there is nothing to choose."""

    def check(self) -> None:
        """Nothing can be wrong."""


def check_reduction(name: str) -> None:
    """Raises InputError for another name than those of `REDUCTIONS`."""
    if name not in REDUCTIONS:
        raise unknown("reduction", name, REDUCTIONS)


def make_explanation(
    predict: Predict,
    problem: Problem,
    attribution: Float[Array, "h w c"],
    *,
    node: str | Node,
    reduction: str = "signed",
    evaluations: Int[Array, ""] | int = 0,
    forwards: Int[Array, ""] | int = 0,
) -> Explanation:
    """The explanation of an attribution [h, w, c]; a map without channels comes as [h, w, 1].

    The saliency map is the reduced attribution, stretched to [0, 1] by its least and greatest
    value; all zeros where it is constant or not finite.
    """
    finite = jnp.isfinite(attribution).all() & jnp.isfinite(problem.reference).all()
    attribution = jnp.where(finite, attribution, 0.0)
    # clipped, because XLA may round an attribution differently where it takes the minimum and
    # where it subtracts it
    saliency = jnp.clip(masks.normalize(REDUCTIONS[reduction](attribution)), 0.0, 1.0)
    status = jnp.where(finite, jnp.int32(Status.CONVERGED), jnp.int32(Status.NOT_FINITE))
    info = report(
        predict,
        problem,
        saliency,
        node=node,
        status=status,
        evaluations=evaluations,
        forwards=forwards,
    )
    return Explanation(saliency, (), info, None, attribution.sum(axis=-1))


RENAMED = {"explained": "make_explanation"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
