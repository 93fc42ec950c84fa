"""Many images: one compiled program over micro-batches, on whatever memory there is.

An image's random key comes from its own id, and every image is its own problem, so a result does
not depend on batch size, order or padding. Beyond that it is a matter of rounding: XLA adds up a
convolution in another order for another batch size or place in the batch, and for a few images in a
hundred a ReLU network turns that last bit into a visibly other mask. On CPU, where batching gains
little, images are therefore solved one at a time unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from mdm_jax import methods
from mdm_jax.errors import InputError, NothingToExplain
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.execution.keys import as_key, id_numbers
from mdm_jax.execution.micro_batches import (
    check_micro_batch,
    choose_micro_batch,
    run_in_micro_batches,
)
from mdm_jax.execution.network import Rest, as_network, join, split
from mdm_jax.images import check_batch
from mdm_jax.methods import MethodLike
from mdm_jax.network_checks import check_network
from mdm_jax.problem import check_targets, with_empty_named
from mdm_jax.types import ExplainFunction, Explanation, Node, Predict, Status


@own_settings()
def explain(
    predict: Predict,
    images: Any,
    targets: Any = None,
    *,
    method: MethodLike = "mdm",
    node: str | Node | None = None,
    config: Any = None,
    key: Key[Array, ""] | int = 0,
    ids: Sequence[Any] | None = None,
    micro_batch: int | None = None,
    trace: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Explanation:
    """Explain a batch of images: which pixels does each decision rest on?

    Args:
      predict: the network, images [n, h, w, c] in [0, 1] to logits [n, classes] or a tuple that
        begins with them; a function or a module. Pass the module itself, or the same function
        again, and nothing is compiled twice.
      images: float32 [n, h, w, c] in [0, 1].
      targets: classes [n] to explain, or one for all; None, or a negative number, explains the
        first choice. For a node of a prototype network the number of the prototype.
      method: a name such as "rise", a name with settings such as "rise:num_samples=1000", the
        settings themselves such as RISE(num_samples=1000), or a function of your own; see
        `methods`.
      node: what is explained: a name of `nodes.NODES` or a function (outputs, target) ->
        activation; by default what the method's authors explain, for MDM the probability.
      config: the settings, where `method` has none; for MDM also a preset ("fast", "best",
        "paper").
      key: a key, or a number to seed one; image i uses it folded with `ids[i]` (by default i).
      ids: numbers, names or paths of the images.
      micro_batch: images solved at a time; by default one on CPU (see above), and found from the
        memory on an accelerator. Halved, with a warning, when the device runs out of memory.
      trace: return the trajectory of every image too.
      on_progress: called with the number of images finished.

    Returns:
      An `Explanation` of NumPy arrays, saliency [n, h, w] in [0, 1].

    Raises:
      InputError: input that cannot be used, or a network whose output is the same for every image
        and its fill.
    """
    images = check_batch(images)
    n, height, width, channels = images.shape
    shape = (height, width, channels)
    configured = methods.configure(method, config)
    node = configured.default_node if node is None else node
    network, outputs = as_network(predict, shape)
    classes = check_targets(targets, n, outputs, node)
    numbers = id_numbers(range(n) if ids is None else ids)
    if len(numbers) != n:
        raise InputError(f"{len(numbers)} ids for {n} images: give one each")
    check_micro_batch(micro_batch)
    node, config = methods.resolve_references(node, configured.config)
    network = check_network(network, node, shape)
    # Numbers go in as arrays: another learning rate compiles nothing anew.
    config = jax.tree.map(
        lambda leaf: np.float32(leaf) if isinstance(leaf, float | int) else leaf, config
    )
    arrays, rest = split((network, node, config))
    program = partial(_explain_chunk, arrays, as_key(key), rest, configured.explain, trace)
    size = min(n, micro_batch or choose_micro_batch(network, shape, n))
    result = run_in_micro_batches(
        program, (images, classes, numbers), size, on_progress or (lambda done: None)
    )
    _check_result(result, images)
    return result


def _check_result(result: Explanation, images: Any) -> None:
    """Raises NothingToExplain where no image could be explained, which is a mistake and no
    outcome."""
    if not np.isfinite(result.info.activation).any():
        raise NothingToExplain(
            "the network's outputs are NaN or infinite for every image: check the weights",
            result,
        )
    all_constant = np.all(result.info.status == Status.CONSTANT)
    # Images of one color each are like their fill, whatever the network.
    if all_constant and np.ptp(np.asarray(images), axis=(1, 2)).any():
        raise NothingToExplain(
            "the network gives the same activation for every image and its fill, so there is"
            " nothing to explain: check that the weights are loaded and that the node, the target"
            " and the fill are the ones meant",
            result,
        )


@partial(jax.jit, static_argnums=(2, 3, 4))
def _explain_chunk(
    arrays: list[Any],
    key: Key[Array, ""],
    rest: Rest,
    solve: ExplainFunction,
    trace: bool,
    images: Array,
    targets: Array,
    ids: Array,
) -> Explanation:
    network, node, config = join(arrays, rest)

    def one(image: Array, target: Array, number: Array) -> Explanation:
        explanation = solve(
            network,
            image,
            target,
            node=node,
            key=jax.random.fold_in(key, number),
            config=config,
            trace=trace,
        )
        if not isinstance(explanation, Explanation):
            raise InputError(
                f"the method returns a {type(explanation).__name__}: let it return an"
                " Explanation, see types.ExplainFunction"
            )
        return with_empty_named(explanation)

    return jax.vmap(one)(images, targets, ids)
