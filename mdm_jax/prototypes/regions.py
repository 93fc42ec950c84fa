"""Regions of a prototype in an image: a network's own maps, and maps measured at its node.

Every entry of `REGIONS` is a method of the usual contract (`mdm_jax.methods.Method`) whose target
is the number of a prototype, so thousands of (image, prototype) problems go through
`mdm_jax.explain` like any others:

    activation_map    ProtoPNet's similarity at every position, upsampled to the image (cubic)
    cell              the one cell of that grid where the prototype is most similar
    receptive_field   all pixels that can reach that position
    occurrence_map    XProtoNet's map of where the prototype occurs, upsampled (bilinear)
    grad_cam          Grad-CAM of the node at the backbone's last map
    mdm               Multiple Dynamic Masks at the node, after the maximum over positions: the mask
                      may move the position that wins
    mdm_frozen        the same at the position where the clean image has its maximum
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from mdm_jax import mdm, methods
from mdm_jax.baselines import grad_cam
from mdm_jax.baselines.attribution import NoSettings
from mdm_jax.baselines.grad_cam import GradCAM
from mdm_jax.config import PRESETS, MDMConfig
from mdm_jax.errors import InputError, unknown
from mdm_jax.execution import intermediates
from mdm_jax.execution.network import as_network
from mdm_jax.objectives import area, consistency
from mdm_jax.prototypes import maps, receptive_field
from mdm_jax.prototypes.maps import MapConfig, read_map
from mdm_jax.prototypes.receptive_field import FieldConfig, best_position
from mdm_jax.types import Explanation, Image, Method, Node, Predict

# What a region explains by default: the prototype's similarity, after the maximum over positions.
NODE = "similarity"

# What MDM keeps by default. The log similarity hides most of the way: from the fill's distance to
# 0.1 it moves by 2.4, and on the last 0.1 by 6.8, so that masks which keep the similarity are
# large, and flat where nothing changes it.
MDM_NODE = "distance"

# The node of one position that goes with a node after the maximum.
FROZEN = {"similarity": "similarity_at", "distance": "distance_at"}

# MDM at a prototype's node: the share of the way between image and fill, since every prototype has
# its own range; chosen on training digits (30001 to 30096) of both networks.
NODE_MDM = replace(
    PRESETS["fast-2026-11"],
    objective=(consistency("share"), area(10.0)),
    coarse_to_fine=None,
    steps=40,
    learning_rate=0.3,
)


def node_mdm(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = MDM_NODE,
    key: Key[Array, ""],
    config: MDMConfig | None = None,
    trace: bool = False,
) -> Explanation:
    """MDM at the node of prototype j = `target`, by default as `NODE_MDM` at `MDM_NODE`."""
    return mdm.explain(
        predict,
        image,
        target,
        node=node,
        key=key,
        config=config or NODE_MDM,
        trace=trace,
    )


def node_mdm_frozen(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = MDM_NODE,
    key: Key[Array, ""],
    config: MDMConfig | None = None,
    trace: bool = False,
) -> Explanation:
    """MDM at one position, s_j(z*) with z* = argmax_z s_j(z) on the clean image.

    The position cannot move. Image [h, w, c] in [0, 1]; one forward evaluation more than
    `node_mdm`. Raises InputError for a network without out["similarity_maps"], and for a node that
    has no counterpart at a position."""
    if not isinstance(node, str) or node not in FROZEN:
        raise InputError(
            f"the node {node!r} has no value at a position of the map: choose from"
            f" {', '.join(FROZEN)}"
        )
    similarities = read_map(predict, image, receptive_field.MAPS)
    if target is None:
        target = jnp.argmax(similarities.max(axis=(0, 1)))
    # the node of a position takes row, column and prototype as one number
    prototype = jnp.asarray(target, jnp.int32)
    row, column = best_position(similarities, prototype)
    index = (row, column, prototype)
    place = jnp.ravel_multi_index(index, similarities.shape, mode="clip").astype(jnp.int32)
    found = mdm.explain(
        predict,
        image,
        place,
        node=FROZEN[node],
        key=key,
        config=config or NODE_MDM,
        trace=trace,
    )
    # the caller's target is the prototype, and finding its position took a forward evaluation
    info = found.info._replace(target=prototype, forwards=found.info.forwards + 1)
    return found._replace(info=info)


def node_grad_cam(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = NODE,
    key: Key[Array, ""],
    config: GradCAM | None = None,
    trace: bool = False,
) -> Explanation:
    """Grad-CAM of the node of prototype j = `target` at `config.layer`.

    `search.find_regions` names the backbone's last map. Of a distance Grad-CAM shows what makes it
    larger: explain the similarity."""
    return grad_cam.explain(
        predict, image, target, node=node, key=key, config=config, trace=trace
    )


REGIONS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("activation_map", maps.activation_map, MapConfig, NODE),
        Method("cell", receptive_field.cell, NoSettings, NODE),
        Method("receptive_field", receptive_field.receptive_field, FieldConfig, NODE),
        Method("occurrence_map", maps.occurrence_map, MapConfig, NODE),
        Method("grad_cam", node_grad_cam, GradCAM, NODE),
        Method("mdm", node_mdm, MDMConfig, "distance"),
        Method("mdm_frozen", node_mdm_frozen, MDMConfig, "distance"),
    )
}

# What the network must return in `out` for a region, beside its similarities.
NEEDS = {
    "activation_map": "similarity_maps",
    "cell": "similarity_maps",
    "receptive_field": "similarity_maps",
    "mdm_frozen": "similarity_maps",
    "occurrence_map": "occurrence_maps",
}


def resolve(region: str) -> Method:
    """A region's method by its name, or another method for comparison.

    Raises InputError for neither."""
    if region in REGIONS:
        return REGIONS[region]
    if region not in methods.METHODS:
        raise unknown("region", region, REGIONS | methods.METHODS)
    return methods.METHODS[region]


def default_node(region: str) -> str | Node:
    """The node that a region explains by default; `NODE` for a method that is no region."""
    return REGIONS[region].default_node if region in REGIONS else NODE


def applicable_regions(predict: Any, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """The names of the regions that a network has for images of `shape` (h, w, c).

    Nothing is computed. Grad-CAM is one of them where there is a map that it can look at. Raises
    InputError for a network without prototypes."""
    out = prototype_outputs(predict, shape)
    # the others need nothing that a prototype network lacks
    names = [name for name in REGIONS if name not in NEEDS or NEEDS[name] in out]
    try:
        cam_layer(predict, shape)
    except InputError:
        names.remove("grad_cam")
    return tuple(names)


def cam_layer(predict: Any, shape: tuple[int, int, int]) -> str:
    """The layer of `grad_cam` by default: `feature_layer`, or the last map before the logits.

    Raises InputError for a network that has neither.
    """
    named_by_network = getattr(getattr(predict, "network", predict), "feature_layer", None)
    if named_by_network in prototype_outputs(predict, shape):
        return str(named_by_network)
    network, _ = as_network(predict, shape)
    return intermediates.default_layer(intermediates.trace(network, shape), shape)


def prototype_outputs(predict: Any, shape: tuple[int, int, int]) -> Mapping[str, Any]:
    """The shapes of a prototype network's `out` for one image (no batch axis).

    Raises InputError for another network."""
    _, outputs = as_network(predict, shape)
    out = outputs[1] if isinstance(outputs, tuple | list) and len(outputs) > 1 else None
    if not isinstance(out, Mapping) or not {"similarities", "distances"} <= out.keys():
        raise InputError(
            f"{getattr(predict, 'name', 'the network')} has no prototypes: give a network that"
            " returns (logits, out) with out['similarities'] and out['distances'], such as a"
            " trained protopnet or xprotonet"
        )
    return out


def config_for(region: str, predict: Any, shape: tuple[int, int, int]) -> Any:
    """What a region needs to know of a network, found once for all images.

    Its receptive fields, or the name of its last map. None for a region that needs nothing; then
    its own default applies. Raises InputError where it cannot be found."""
    if region == "receptive_field":
        found = jax.device_get(_fields(as_network(predict, shape)[0], shape))
        return FieldConfig(*receptive_field.check_fields(found))
    if region == "grad_cam":
        return GradCAM(layer=cam_layer(predict, shape))
    return None


_fields = jax.jit(receptive_field.find_fields, static_argnums=1)
