"""Center: a Gaussian in the middle of the image, where photographs have their objects.

A method must beat it to show that it uses the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from mdm_jax.baselines.attribution import make_explanation
from mdm_jax.errors import find_renamed
from mdm_jax.execution.chunked import check_above_zero
from mdm_jax.problem import begin
from mdm_jax.types import Explanation, Image, Method, Node, Predict


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Center:
    """One number, ours."""

    sigma: Any = 0.25
    """standard deviation, as a share of the image's height and width (leaf)"""

    def check(self) -> None:
        """Raises InputError unless sigma is above zero."""
        check_above_zero("sigma", self.sigma)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "probability",
    key: Key[Array, ""],
    config: Center | None = None,
    trace: bool = False,
) -> Explanation:
    """S(y, x) = exp(-(v^2 + u^2) / (2 sigma^2)), v = (y - center) / height and u likewise.

    No evaluation. Image [h, w, c].
    """
    config = config or Center()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    down, right = ((jnp.arange(side) + 0.5) / side - 0.5 for side in image.shape[:2])
    squared_distance = jnp.square(down)[:, None] + jnp.square(right)[None, :]
    exponent = squared_distance / (2 * jnp.square(config.sigma))
    return make_explanation(predict, problem, jnp.exp(-exponent)[..., None], node=node)


METHOD = Method("center", explain, Center, "probability")
RENAMED = {"CenterConfig": "Center"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
