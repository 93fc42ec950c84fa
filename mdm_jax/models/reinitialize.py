"""A network's twin with fresh weights: the same architecture, read off the network itself, from its
own initializers."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from mdm_jax.errors import InputError
from mdm_jax.models.densenet import DenseNet
from mdm_jax.models.fold_batch_norm import fold_batch_norms
from mdm_jax.models.protopnet import ProtoPNet
from mdm_jax.models.resnet import Bottleneck, ResNet
from mdm_jax.models.stem import STEMS
from mdm_jax.models.vit import ViT
from mdm_jax.models.xprotonet import XProtoNet


def reinitialize(network: Any, seed: int) -> Any:
    """A network of the same architecture, number formats and shapes as `network` with the first
    weights that `seed` gives.

    Folded networks get fresh weights with fresh norms folded in. Raises InputError for a network of
    no family of ours."""
    twin = _twin(network, nnx.Rngs(seed))
    if weight_shapes(twin) != weight_shapes(network):
        twin = fold_batch_norms(twin)
    return copy_weights(network, twin)


def _twin(network: Any, rngs: nnx.Rngs) -> Any:
    if isinstance(network, ProtoPNet | XProtoNet):
        return type(network)(_twin(network.backbone, rngs), **network.arguments, rngs=rngs)
    family, arguments = constructor_arguments(network)
    return family(**arguments, rngs=rngs)


def constructor_arguments(network: Any) -> tuple[Any, dict[str, Any]]:
    """The family of a network and the arguments that it was made with. Raises InputError for one of
    no family of ours."""
    if isinstance(network, ResNet):
        return ResNet, _resnet(network)
    if isinstance(network, DenseNet):
        return DenseNet, _densenet(network)
    if isinstance(network, ViT):
        return ViT, _vit(network)
    raise InputError(
        f"a {type(network).__name__} cannot be built anew: hand over a fresh one of the same"
        " architecture"
    )


def copy_weights(network: Any, twin: Any) -> Any:
    """The weights of `twin`, in the number formats of `network`, in a network that is otherwise
    `network` itself.

    Raises InputError where their weights differ in name or shape.
    """
    wanted, given = weight_shapes(network), weight_shapes(twin)
    if wanted != given:
        differs = sorted(
            name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name)
        )
        raise InputError(f"the fresh network is of another architecture: {differs[0]} differs")
    leaves = dict(named_weights(twin))
    found = [
        jax.numpy.asarray(leaves[name]).astype(leaf.dtype) for name, leaf in named_weights(network)
    ]
    return jax.tree.unflatten(jax.tree.structure(network), found)


def weight_shapes(network: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by name."""
    return {name: leaf.shape for name, leaf in named_weights(network)}


def named_weights(network: Any) -> list[tuple[str, Any]]:
    """Every weight with its name, such as "layer1.0.conv1.kernel", in the order of
    `jax.tree.leaves`."""
    return [
        (
            ".".join(
                str(getattr(part, "name", getattr(part, "idx", getattr(part, "key", part))))
                for part in path[:-1]
            ),
            leaf,
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(network)
    ]


def _resnet(network: ResNet) -> dict[str, Any]:
    stages = [getattr(network, f"layer{stage}") for stage in range(1, network.stages + 1)]
    return {
        "num_classes": _classes(network.fc),
        "widths": [blocks[0].conv1.out_features for blocks in stages],
        "depths": [len(blocks) for blocks in stages],
        "block": "bottleneck" if isinstance(stages[0][0], Bottleneck) else "basic",
        "stem": _stem(network.conv1, network.pools),
        "channels": network.conv1.in_features,
    }


def _densenet(network: DenseNet) -> dict[str, Any]:
    features = network.features
    blocks = [getattr(features, f"denseblock{number}") for number in range(1, features.count + 1)]
    return {
        "num_classes": _classes(network.classifier),
        "growth": blocks[0]["denselayer1"].conv2.out_features,
        "initial": features.conv0.out_features,
        "blocks": [len(block) for block in blocks],
        "stem": _stem(features.conv0, features.pools),
        "channels": features.conv0.in_features,
    }


def _vit(network: ViT) -> dict[str, Any]:
    embed = network.patch_embed
    first = embed.stem[0] if len(embed.stem) else embed.proj
    return {
        "num_classes": _classes(network.head),
        "size": (network.grid[0] * network.patch, network.grid[1] * network.patch),
        "patch": network.patch,
        "width": embed.proj.out_features,
        "depth": network.depth,
        "heads": network.blocks[0].attn.heads,
        "stem": "conv" if len(embed.stem) else "patch",
        "distilled": network.distilled,
        "channels": first.in_features,
    }


def _classes(head: Any) -> int:
    return getattr(head, "out_features", 0)  # a backbone has no head


def _stem(convolution: Any, pools: bool) -> str:
    given = convolution.kernel_size[0], _side(convolution.strides), pools
    return next(name for name, stem in STEMS.items() if stem == given)


def _side(strides: Any) -> int:
    return strides if isinstance(strides, int) else strides[0]
