"""XProtoNet (Kim, Kim, Seo, Yoon, CVPR 2021, arXiv 2103.10663), Flax NNX, NHWC.

`XProtoNet(backbone, ...)(images) -> (logits, out)`, on any backbone of ours. For the features F(u)
and the occurrence map M_p(u) of prototype p over the positions u of an image

    f_p = mean_u M_p(u) F(u),    s_p = cosine(f_p, p),    logits = s W

The authors published no code, and those who built it anew disagree:

  setting       ProtoASNet                          MProtoNet
  occurrence    abs: 3 convolutions, their |.|      sigmoid, with batch norms
  pool          sum                                 mean
  shifted       True: (s + 1) / 2 in [0, 1]
  other_weight  0                                   -0.5, of other classes in W at the start

The sum has the same cosine as the mean, with f_p larger by the number of positions. Defaults are
ProtoASNet's but for the mean, which keeps f_p in the range of the features, and the shift, which
adds a constant to the logits. The features carry no final sigmoid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mdm_jax.errors import unknown
from mdm_jax.models.layers import Outputs, pointwise
from mdm_jax.models.prototype_layers import (
    add_on_layers,
    apply_layers,
    assign_classes,
    feature_map,
    last_layer,
)

OCCURRENCES = {"abs": jnp.abs, "sigmoid": jax.nn.sigmoid}
POOLS = {"sum": jnp.sum, "mean": jnp.mean}

# Shortest feature whose direction counts; a prototype that occurs nowhere has similarity 0.
EPSILON = 1e-6


class XProtoNet(nnx.Module):
    """Classifier by similarity of features, pooled where a prototype occurs, to learned prototypes.

    The backbone and the numbers of prototypes are as in `ProtoPNet`. Input [n, h, w, channels],
    already normalized; `out` has what the backbone names and

      patches [n, gh, gw, d]; occurrence_maps [n, gh, gw, m] >= 0; pooled [n, m, d]; similarities,
      normalized_similarities [n, m]: the cosine, or (cosine + 1) / 2 when shifted, at most 1;
      distances [n, m]: 1 - cosine, in [0, 2].

    Raises InputError for unknown options and impossible numbers of prototypes.
    """

    def __init__(
        self,
        backbone: Any,
        *,
        num_classes: int = 10,
        prototypes_per_class: int | Sequence[int] = 10,
        prototype_classes: Sequence[int] | None = None,
        width: int = 128,
        add_on: str = "regular",
        occurrence: str = "abs",
        pool: str = "mean",
        shifted: bool = False,
        other_weight: float = 0.0,
        rngs: nnx.Rngs,
    ):
        if occurrence not in OCCURRENCES:
            raise unknown("occurrence", occurrence, OCCURRENCES)
        if pool not in POOLS:
            raise unknown("pool", pool, POOLS)
        self.prototype_classes = assign_classes(
            num_classes, prototypes_per_class, prototype_classes
        )
        self.options = (
            ("occurrence", occurrence),
            ("pool", pool),
            ("shifted", shifted),
            ("other_weight", other_weight),
        )
        self.num_classes, self.add_on_kind = num_classes, add_on
        self.backbone = backbone
        self.add_on = add_on_layers(add_on, backbone.width, width, rngs=rngs)
        count, inputs, half = (
            len(self.prototype_classes),
            backbone.width,
            max(1, width // 2),
        )
        first, second = (
            pointwise(inputs, width, rngs=rngs),
            pointwise(width, half, rngs=rngs),
        )
        third = pointwise(half, count, bias=False, rngs=rngs)
        self.occurrence = nnx.List([first, second, third])
        # In random directions: the uniform values that others begin with all point the same way
        # (their mean cosine is 3/4), and a network trained from there finds every prototype in an
        # empty image and tells classes by what excludes them.
        self.prototypes = nnx.Param(jax.random.normal(rngs.params(), (count, width)))
        self.last_layer = last_layer(
            self.prototype_classes, num_classes, other_weight, rngs=rngs
        )

    @property
    def feature_layer(self) -> str:
        """The name in `out` of the backbone's last map."""
        return self.backbone.feature_layer

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was made with, beside its backbone."""
        given = {
            "num_classes": self.num_classes,
            "prototype_classes": self.prototype_classes,
            "add_on": self.add_on_kind,
        }
        return given | {"width": self.prototypes.shape[-1]} | dict(self.options)

    def __call__(self, images: Float[Array, "n h w c"]) -> Outputs:
        options: dict[str, Any] = dict(self.options)
        features, out = feature_map(self.backbone, images)
        patches = out["patches"] = apply_layers(self.add_on, features)
        maps = out["occurrence_maps"] = OCCURRENCES[options["occurrence"]](
            apply_layers(self.occurrence, features)
        )
        pooled = out["pooled"] = pooled_features(patches, maps, options["pool"])
        cosines = cosine_similarity(pooled, self.prototypes[...])
        out["distances"] = 1.0 - cosines
        similarities = out["similarities"] = (
            (cosines + 1.0) / 2.0 if options["shifted"] else cosines
        )
        out["normalized_similarities"] = similarities
        return self.last_layer(similarities.astype(patches.dtype)), out


def pooled_features(
    patches: Float[Array, "n gh gw d"], maps: Float[Array, "n gh gw m"], pool: str = "mean"
) -> Float[Array, "n m d"]:
    """f_p = mean_u M_p(u) F(u), or the sum over the positions, in float32."""
    weighed = jnp.einsum(
        "nhwm,nhwd->nmd", maps, patches, preferred_element_type=jnp.float32
    )
    return weighed if pool == "sum" else weighed / (patches.shape[1] * patches.shape[2])


def cosine_similarity(
    pooled: Float[Array, "n m d"], prototypes: Float[Array, "m d"]
) -> Float[Array, "n m"]:
    """f.p / (|f| |p|) of each prototype with its own pooled feature.

    0, with a gradient of 0, where f or p vanishes."""
    return jnp.sum(
        _direction(pooled) * _direction(prototypes.astype(pooled.dtype)), axis=-1
    )


def _direction(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """x / |x|; below `EPSILON` the norm counts as that, so that its gradient stays finite."""
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, EPSILON**2))
