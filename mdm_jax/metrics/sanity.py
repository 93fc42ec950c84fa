"""Sanity checks: a map must depend on what the network has learned.

Parameter randomization (Adebayo et al., arXiv 1810.03292): the network's parts get fresh weights,
from the logits down and one after the other (cascading) or one at a time (independent); a map that
stays as it was does not explain the network. The random key of the method stays the same, so that
only the weights differ. How much a map changes with that key alone is its spread over seeds,
without which the similarities have no scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from mdm_jax import explain_batch
from mdm_jax.errors import InputError, unknown
from mdm_jax.metrics.metric import Metric, Sample
from mdm_jax.metrics.similarity import hog_spearman, spearman, ssim
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.reinitialize import copy_weights, named_weights, reinitialize
from mdm_jax.types import AnyArray

MODES = ("cascading", "independent")
ORIGINAL = "original"

# Maps of an image that `spread` compares.
SEEDS = 3


class Stage(NamedTuple):
    """The maps of a network after one more part was randomized."""

    part: str
    """the part, such as "layer4.0"; "original" for the network as it was"""
    saliency: Float[AnyArray, "n h w"]
    similarity: dict[str, Float[AnyArray, " n"]]
    """to the original maps, by name of `SIMILARITIES`"""


def _pairs(
    compare: Callable[[Array, Array], Array], field: int
) -> Callable[[Any, Any], Array]:
    return lambda a, b: compare(a[field], b[field])


# Of two pairs (saliency, attribution): ranks of the saliency, ranks of the absolute attribution,
# structure and edge directions of the saliency.
SIMILARITIES: dict[str, Callable[[Any, Any], Array]] = {
    "spearman": _pairs(spearman, 0),
    "spearman_absolute": lambda a, b: spearman(jnp.abs(a[1]), jnp.abs(b[1])),
    "ssim": _pairs(ssim, 0),
    "hog": _pairs(hog_spearman, 0),
}


def parts(
    network: Any, shape: tuple[int, int, int], depth: int = 2
) -> dict[str, list[str]]:
    """The parts of a network and the names of their weights, from the logits down to the image.

    A part is all weights whose names share their first `depth` words, such as "layer4.0" or "fc".
    The order is that in which the network's own program uses them, for an image of `shape` (h, w,
    c).
    """
    names = [name for name, _ in named_weights(network)]
    leaves, tree = jax.tree.flatten(network)
    images = jnp.zeros((1, *shape))
    program = jax.make_jaxpr(lambda leaves: jax.tree.unflatten(tree, leaves)(images))(
        leaves
    ).jaxpr
    first_use: dict[Any, int] = {}
    for number, equation in enumerate(program.eqns):
        for variable in equation.invars:
            if not hasattr(variable, "val"):  # a literal is no variable
                first_use.setdefault(variable, number)
    unused = len(program.eqns)
    order: dict[str, int] = {}
    members: dict[str, list[str]] = {}
    for name, variable in zip(names, program.invars):
        words = name.split(".")
        # the last word is the weight itself, never a part of its own
        part = ".".join(words[: min(depth, max(len(words) - 1, 1))])
        order[part] = min(order.get(part, unused), first_use.get(variable, unused))
        members.setdefault(part, []).append(name)
    from_logits_down = sorted(members, key=lambda part: -order[part])
    return {part: members[part] for part in from_logits_down}


def randomize(
    classifier: Any,
    *,
    seed: int = 1,
    mode: str = "cascading",
    depth: int = 2,
    twin: Any = None,
    shape: Any = None,
) -> Iterator[tuple[str, Any]]:
    """Pairs (part, classifier), with more and more parts randomized, from the logits down.

    Args:
      classifier: a `Classifier`, folded or not, or a Flax NNX module.
      seed: draws the fresh weights, by the network's own initializers.
      mode: "cascading", where parts stay randomized, or "independent", one part at a time.
      depth: words of a weight's name that make a part, see `parts`.
      twin: a fresh network of the same architecture, for modules that are none of our families.
      shape: (h, w, c) of an image; a Classifier's own by default.

    Raises InputError for another mode, for what is no module, and for a module that needs a `twin`.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    network = classifier.network if isinstance(classifier, Classifier) else classifier
    if not isinstance(network, nnx.Module):
        raise InputError(
            f"a {type(classifier).__name__} cannot be randomized: give a Classifier or a Flax NNX"
            " module"
        )
    if shape is None:
        if not isinstance(classifier, Classifier):
            raise InputError(
                "a module does not tell its images: give their shape (h, w, c)"
            )
        shape = (*classifier.preprocessing.size, classifier.preprocessing.channels)
    drawn = dict(
        named_weights(
            reinitialize(network, seed) if twin is None else copy_weights(network, twin)
        )
    )
    weights = dict(named_weights(network))
    for part, names in parts(network, shape, depth).items():
        changed = weights | {name: drawn[name] for name in names}
        if mode == "cascading":
            weights = changed
        module = jax.tree.unflatten(jax.tree.structure(network), list(changed.values()))
        if isinstance(classifier, Classifier):
            yield part, replace(classifier, network=module)
        else:
            yield part, module


def cascade(
    classifier: Any,
    images: Any,
    targets: Any = None,
    *,
    seed: int = 1,
    mode: str = "cascading",
    depth: int = 2,
    twin: Any = None,
    **options: Any,
) -> list[Stage]:
    """Explain the same images [n, h, w, c] at every stage of `randomize`, and compare the maps.

    The class explained and the method's random key stay those of the original network. The first
    stage is the original itself, its similarities to itself all 1 (0 for a constant map, which
    ranks nothing). `seed`, `mode`, `depth` and `twin` are those of `randomize`; `options` are those
    of `mdm_jax.explain`, such as `method` and `key`. Raises InputError as these do.
    """
    original = explain_batch.explain(classifier, images, targets, **options)
    stages = [_stage(ORIGINAL, original, original)]
    shape = tuple(np.shape(images)[1:])
    networks = randomize(
        classifier, seed=seed, mode=mode, depth=depth, twin=twin, shape=shape
    )
    for part, changed in networks:
        explanation = explain_batch.explain(
            changed, images, original.info.target, **options
        )
        stages.append(_stage(part, original, explanation))
    return stages


def _stage(part: str, original: Any, changed: Any) -> Stage:
    maps = []
    for each in (original, changed):
        attribution = each.saliency if each.attribution is None else each.attribution
        maps.append((each.saliency, attribution))
    return Stage(part, changed.saliency, jax.device_get(_similarities(*maps)))


@jax.jit
@jax.vmap
def _similarities(a: Any, b: Any) -> dict[str, Array]:
    return {name: compare(a, b) for name, compare in SIMILARITIES.items()}


def spread(
    explain: Callable[..., Array],
    image: Array,
    target: Any,
    *,
    key: Key[Array, ""],
    seeds: int = SEEDS,
) -> Array:
    """Mean Spearman correlation of the maps of one image under `seeds` random keys, in [-1, 1].

    The mean is over all pairs; `explain(image, target, key) -> saliency [h, w]`. 1 for a method
    without randomness, unless its map is constant: that ranks nothing, which counts as 0.
    """
    maps = jax.vmap(lambda each: explain(image, target, each))(jax.random.split(key, seeds))
    first, second = np.array(list(combinations(range(seeds), 2))).T
    return jax.vmap(spearman)(maps[first], maps[second]).mean()


def _spread(
    predict: Any, sample: Sample, *, key: Any, explain: Callable[..., Array]
) -> Array:
    return spread(explain, jnp.asarray(sample.image), sample.target, key=key)


METRICS = (
    Metric(
        "spread",
        "seeds",
        _spread,
        "higher",
        "explain",
        description=(
            "Spearman correlation of an image's maps under 3 random keys, mean over pairs; 1"
            " without randomness."
        ),
    ),
)
