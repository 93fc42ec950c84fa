"""AttnLRP (Achtibat et al., arXiv 2402.05602): relevance that attention hands on, by gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import jax
from jaxtyping import Array, Int, Key

from mdm_jax import fills
from mdm_jax.baselines.attribution import make_explanation
from mdm_jax.baselines.cam import resize_to_image
from mdm_jax.errors import InputError, unknown
from mdm_jax.execution import feature_maps, intermediates, relevance
from mdm_jax.problem import activation, begin
from mdm_jax.types import STATIC, Explanation, Image, Method, Node, Predict

Level = Literal["tokens", "pixels"]
LEVELS: dict[str, str] = {
    "tokens": "of the patches that enter the first block, their place included",
    "pixels": "of the image, measured from the network's neutral color",
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AttnLRP:
    """The rules have nothing to choose; the relevance is read where it is least noisy."""

    level: Level = field(default="tokens", metadata=STATIC)
    """a name of `LEVELS`"""

    def check(self) -> None:
        """Raises InputError for an unknown level."""
        if self.level not in LEVELS:
            raise unknown("level", self.level, LEVELS)


def explain(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "logit",
    key: Key[Array, ""],
    config: AttnLRP | None = None,
    trace: bool = False,
) -> Explanation:
    """S = sum_c x_c * G_c, with G the gradient d g / d x under the rules of `execution.relevance`.

    One evaluation with a gradient. `g` is the logit; x are the tokens or the pixels. The rules are
    the paper's for softmax, products and norms, in linear layers the
    epsilon rule with epsilon zero; its gamma rule, which the paper adds for convolutions and linear
    layers of vision networks, is left out. Relevance has both signs. Image [h, w, c] in [0, 1].
    Raises InputError for a network without attention or, at the level of tokens, without an
    intermediate of them, and for one that computes in loops or checkpoints.
    """
    config = config or AttnLRP()
    config.check()
    predict = intermediates.with_attention(predict, image.shape)
    problem = begin(predict, image, target, node=node, key=key)
    program = intermediates.trace(predict, image.shape)

    def score(outputs: Any) -> Array:
        return activation(node, outputs, problem.target).sum()

    if config.level == "pixels":
        neutral = fills.neutral_color(predict, image.shape[-1])
        attribution = (image - neutral) * relevance.at_pixels(program, image, score)
    else:
        name = first_tokens(program, image.shape)
        tokens = intermediates.find(program, name)
        found = relevance.at_tokens(program, image, tokens, score).sum(axis=-1)
        patches = feature_maps.as_map(found[:, None], image.shape[:2], name)
        attribution = resize_to_image(patches[..., 0], image)[..., None]
    return make_explanation(predict, problem, attribution, node=node, evaluations=1)


def first_tokens(program: intermediates.TracedNetwork, shape: tuple[int, ...]) -> str:
    """The first intermediate of patches' tokens that the logits depend on.

    Raises InputError for a network without one.
    """
    for name, entry in program.entries.items():
        if feature_maps.is_patch_tokens(entry, shape) and entry in program.upstream:
            return name
    raise InputError(
        "the network returns no tokens [n, t, c] of patches that its logits depend on: return them"
        " in out, or take AttnLRP(level='pixels')"
    )


METHOD = Method("attn_lrp", explain, AttnLRP, "logit")
