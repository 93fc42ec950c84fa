"""Prototype search: the regions of prototypes in images, for thousands of pairs at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax import explain_batch, nodes
from mdm_jax.errors import InputError, NothingToExplain, unknown
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.execution.micro_batches import run_in_micro_batches
from mdm_jax.execution.network import as_network, join, split
from mdm_jax.images import check_batch
from mdm_jax.prototypes import regions as named
from mdm_jax.types import Explanation, Node

# Images that `activations` shows the network at a time.
TOGETHER = 32


class PairOptions(TypedDict, total=False):
    """How many pairs are computed; a result depends on the pair and its id alone."""

    key: Key[Array, ""] | int
    ids: Sequence[Any] | None
    micro_batch: int | None


class SearchOptions(PairOptions, total=False):
    """How regions are searched, as in `find_regions`."""

    node: str | Node | None
    configs: Mapping[str, Any] | None


class Activations(NamedTuple):
    """Outputs of a prototype network for images."""

    logits: Float[np.ndarray, "n classes"]
    similarities: Float[np.ndarray, "n m"]
    distances: Float[np.ndarray, "n m"]


@own_settings()
def find_regions(
    classifier: Any,
    images: Any,
    prototypes: Any,
    *,
    regions: Sequence[str] | str | None = None,
    node: str | Node | None = None,
    configs: Mapping[str, Any] | None = None,
    on_progress: Callable[[str, int], None] | None = None,
    **options: Unpack[PairOptions],
) -> dict[str, Explanation]:
    """The regions of prototype `prototypes[i]` in image i, for every pair i and every region.

    Args:
      classifier: a prototype network over images in [0, 1]: a `Classifier`, or any network whose
        `out` has similarities and distances.
      images: [n, h, w, c] in [0, 1]; give an image once for each of its prototypes.
      prototypes: [n] numbers of prototypes, or one for all.
      regions: names of `regions.REGIONS` (or of other methods, for comparison), or one; by default
        all that the network has.
      node: what is explained, a node whose targets are prototypes; by default the distance by MDM
        and the similarity by all others, see `regions.MDM_NODE`.
      configs: configs by name of a region, in place of the default ones.
      on_progress: called with a region's name and the number of pairs that are finished.
      options: key, ids and micro_batch as in `mdm_jax.explain`.

    Returns an `Explanation` of all pairs by name of the region: saliency [n, h, w] in [0, 1]. A
    prototype whose node is the same whatever the image has the status CONSTANT. Raises InputError
    for input that cannot be used."""
    images = check_batch(images)
    shape = (images.shape[1], images.shape[2], images.shape[3])
    prototypes = resolve_prototypes(prototypes, classifier, images)
    names = resolve_regions(regions, classifier, shape)
    configs = resolve_configs(configs, names)
    check_node(node, classifier, shape)
    found: dict[str, Explanation] = {}
    for name in names:
        config = (
            configs[name] if name in configs else named.config_for(name, classifier, shape)
        )
        found[name] = explain_pairs(
            classifier,
            images,
            prototypes,
            method=named.resolve(name),
            node=named.default_node(name) if node is None else node,
            config=config,
            on_progress=None if on_progress is None else partial(on_progress, name),
            **options,
        )
    return found


def resolve_regions(
    regions: Sequence[str] | str | None,
    classifier: Any,
    shape: tuple[int, int, int],
) -> tuple[str, ...]:
    """The names of the given regions, by default all that the network has.

    Raises InputError for none, and for unknown ones."""
    if regions is None:
        names = named.applicable_regions(classifier, shape)
    else:
        names = (regions,) if isinstance(regions, str) else tuple(regions)
    if not names:
        known = ", ".join(named.applicable_regions(classifier, shape))
        raise InputError(f"no regions: name at least one of {known}")
    for name in names:
        named.resolve(name)
    return names


def resolve_configs(
    configs: Mapping[str, Any] | None, names: Sequence[str]
) -> dict[str, Any]:
    """The configs by region.

    Raises InputError for a region that is not among `names`, and for a config of another one."""
    for name, config in (configs or {}).items():
        if name not in names:
            raise unknown("region", name, names)
        kind = named.resolve(name).config_type
        if kind is not None and config is not None and not isinstance(config, kind):
            raise InputError(
                f"the config of {name} is a {type(config).__name__}: give a {kind.__name__}"
            )
    return dict(configs or {})


def check_node(
    node: str | Node | None, classifier: Any, shape: tuple[int, int, int]
) -> None:
    """Raises InputError for a node whose targets are not prototypes.

    The number of a prototype would be taken for a class or a place of a map. A function that does
    not count its targets is not checked."""
    if node is None:
        return
    # shapes are enough to count the targets of a node
    _, outputs = as_network(classifier, shape)
    count = getattr(nodes.resolve(node), "count", None)
    m = named.prototype_outputs(classifier, shape)["similarities"].shape[-1]
    if (count is None and isinstance(node, str)) or (
        count is not None and count(outputs) != m
    ):
        raise InputError(
            f"the targets of the node {node!r} are not the {m} prototypes: take similarity,"
            " distance, normalized_similarity, or a function (outputs, prototype) -> activation"
        )


def explain_pairs(
    classifier: Any, images: Any, prototypes: Any, **options: Any
) -> Explanation:
    """`mdm_jax.explain` of pairs, where constant nodes are a status and not an error."""
    try:
        return explain_batch.explain(classifier, images, prototypes, **options)
    except NothingToExplain as error:
        # constant for every image is a result, NaN for every image is not
        if not np.isfinite(error.explanation.info.activation).any():
            raise
        return error.explanation


@own_settings()
def activations(classifier: Any, images: Any, *, together: int = TOGETHER) -> Activations:
    """Logits, similarities and distances of images [n, h, w, c], `together` at a time."""
    images = check_batch(images)
    shape = (images.shape[1], images.shape[2], images.shape[3])
    named.prototype_outputs(classifier, shape)
    arrays, rest = split(as_network(classifier, shape)[0])
    # a batch larger than the images would be filled up
    size = min(together, len(images))
    return run_in_micro_batches(
        partial(_activations_chunk, arrays, rest),
        (images,),
        size,
        lambda done: None,
    )


def strongest(
    found: Activations,
    classes: Sequence[int] | None = None,
    targets: Any = None,
    k: int = 1,
) -> Int[np.ndarray, "n k"]:
    """The k most similar prototypes of each image, most similar first.

    Of equals the lower number comes first. With `classes`, the class of each prototype, only
    prototypes of the class `targets[i]` count, by default of the network's first choice. Raises
    InputError where a class has fewer than k prototypes."""
    similarities = np.array(found.similarities, np.float64)
    if classes is not None:
        targets = found.logits.argmax(axis=1) if targets is None else np.asarray(targets)
        own = np.asarray(classes)[None, :] == targets[:, None]
        counts = own.sum(axis=1)
        if counts.min() < k:
            poorest = int(targets[counts.argmin()])
            raise InputError(
                f"class {poorest} has {int(counts.min())} prototypes: ask for fewer than {k}"
            )
        similarities = np.where(own, similarities, -np.inf)
    # stable, so that of equals the lower number comes first
    return np.argsort(-similarities, axis=1, kind="stable")[:, :k]


def prototype_classes(classifier: Any) -> tuple[int, ...] | None:
    """The class of each prototype, None for a network that does not tell."""
    classes = getattr(getattr(classifier, "network", classifier), "prototype_classes", None)
    return None if classes is None else tuple(int(each) for each in classes)


def resolve_prototypes(
    prototypes: Any, classifier: Any, images: Any
) -> Int[np.ndarray, " n"]:
    """Numbers of prototypes [n], one for each image.

    Raises InputError for another length, and for a number that does not exist."""
    count = named.prototype_outputs(classifier, images.shape[1:])["similarities"].shape[-1]
    chosen, n = np.asarray(prototypes), len(images)
    if not np.issubdtype(chosen.dtype, np.integer) or chosen.shape not in {
        (),
        (n,),
    }:
        raise InputError(
            f"prototypes have shape {chosen.shape} and type {chosen.dtype}: give one number for"
            f" each of the {n} images"
        )
    if chosen.min() < 0 or chosen.max() >= count:
        wrong = int(chosen.min() if chosen.min() < 0 else chosen.max())
        raise InputError(
            f"prototype {wrong} does not exist: the network has {count}, 0 to {count - 1}"
        )
    return np.broadcast_to(chosen, (n,)).astype(np.int32)


@partial(jax.jit, static_argnums=1)
def _activations_chunk(arrays: list[Any], rest: Any, images: Array) -> Activations:
    logits, out = join(arrays, rest)(images)
    return Activations(logits, out["similarities"], out["distances"])
