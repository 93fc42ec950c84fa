"""A network's twin with random weights of its own initializers, built from the network itself."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from mdm_jax.errors import InputError
from mdm_jax.models.architectures import CLASSIFIERS, PROTOTYPES
from mdm_jax.models.fold_batch_norm import fold_batch_norms


def reinitialize(network: Any, seed: int) -> Any:
    """A network like `network`, with the first weights that `seed` gives.

    Architecture, number formats and shapes are the same; folded networks get random weights with
    fresh norms folded in. Raises InputError for a network of no family of ours."""
    twin = _build_twin(network, nnx.Rngs(seed))
    if weight_shapes(twin) != weight_shapes(network):
        twin = fold_batch_norms(twin)
    return copy_weights(network, twin)


def _build_twin(network: Any, rngs: nnx.Rngs) -> Any:
    is_prototype_network = isinstance(network, tuple(PROTOTYPES.values()))
    if is_prototype_network:
        backbone = _build_twin(network.backbone, rngs)
        return type(network)(backbone, **network.arguments, rngs=rngs)
    family, arguments = constructor_arguments(network)
    return family(**arguments, rngs=rngs)


def constructor_arguments(network: Any) -> tuple[Any, dict[str, Any]]:
    """The class of a classifier and the arguments that it was made with.

    Raises InputError for one of no family of ours."""
    kinds: Any = tuple(family.network for family in CLASSIFIERS.values())
    if isinstance(network, kinds):
        return type(network), network.arguments
    raise InputError(
        f"a {type(network).__name__} cannot be built anew: hand over a fresh one of the same"
        " architecture"
    )


def copy_weights(network: Any, twin: Any) -> Any:
    """The network with the weights of `twin`, in its own number formats.

    Raises InputError where their weights differ in name or shape."""
    wanted, given = weight_shapes(network), weight_shapes(twin)
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise InputError(
                f"the fresh network is of another architecture: {name} differs"
            )
    weights = dict(named_weights(twin))
    # In the order of the network's leaves: its twin may have built them in another one.
    copied = [
        jax.numpy.asarray(weights[name]).astype(leaf.dtype)
        for name, leaf in named_weights(network)
    ]
    return jax.tree.unflatten(jax.tree.structure(network), copied)


def weight_shapes(network: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by name."""
    return {name: leaf.shape for name, leaf in named_weights(network)}


def named_weights(network: Any) -> list[tuple[str, Any]]:
    """Every weight and its name, such as "layer1.0.conv1.kernel", in the order of the leaves."""
    leaves = jax.tree_util.tree_leaves_with_path(network)
    # The last part of a path is the variable's own, which says nothing.
    return [(".".join(map(_part_name, path[:-1])), leaf) for path, leaf in leaves]


def _part_name(part: Any) -> str:
    for attribute in ("name", "idx", "key"):
        if hasattr(part, attribute):
            return str(getattr(part, attribute))
    return str(part)
