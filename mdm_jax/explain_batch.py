"""Many images: one compiled program over micro-batches, on whatever memory there is.

An image's random key comes from its own id, and every image is its own problem, so a result does
not depend on batch size, order or padding. Beyond that it is a matter of rounding: XLA adds up a
convolution in another order for another batch size or place in the batch, and for a few images in a
hundred a ReLU network turns that last bit into a visibly other mask. On CPU, where batching gains
little, images are therefore solved one at a time unless told otherwise."""

from __future__ import annotations

import dataclasses
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
import psutil
from jaxtyping import Array, Key

from mdm_jax import methods, nodes, plugins
from mdm_jax.config import preset
from mdm_jax.errors import InputError, NothingToExplain
from mdm_jax.execution.network import ImageShape, Rest, as_network, join, residual_bytes, split
from mdm_jax.images import check_batch
from mdm_jax.methods import Method
from mdm_jax.problem import out_of_range
from mdm_jax.types import Explanation, Node, Predict, Status

MAX_MICRO_BATCH = 64
"""images solved at a time on an accelerator when memory allows; larger gains little once the device
is busy"""


Tree = TypeVar("Tree")
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


def explain(
    predict: Predict,
    images: Any,
    targets: Any = None,
    *,
    method: str | Method = "mdm",
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
      method: a name of `methods.METHODS` or a function of the same contract.
      node: what is explained: a name of `nodes.NODES` or a function (outputs, target) ->
        activation; by default what the method's authors explain, for MDM the probability.
      config: the method's config, or the name of a preset of MDM ("fast", "paper").
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
    solve = methods.resolve(method)
    node = methods.default_node(solve) if node is None else node
    config = preset(config) if isinstance(config, str) else config
    if config is not None:
        if not hasattr(config, "check") and (
            isinstance(config, type) or not dataclasses.is_dataclass(config)
        ):
            raise InputError(
                f"config is a {type(config).__name__}: give a preset's name or a config such as"
                " MDMConfig(steps=40)"
            )
        methods.checked_config(solve, config)
    network, outputs = as_network(predict, shape)
    chosen = checked_targets(targets, n, outputs, node)
    numbers = id_numbers(range(n) if ids is None else ids)
    if len(numbers) != n:
        raise InputError(f"{len(numbers)} ids for {n} images: give one each")
    if micro_batch is not None and micro_batch < 1:
        raise InputError(f"micro_batch is {micro_batch}: give a whole number from 1")

    node, config = plugins.fixed((node, config))
    numeric = jax.tree.map(
        lambda leaf: np.float32(leaf) if isinstance(leaf, float | int) else leaf, config
    )
    arrays, rest = split((network, node, numeric))
    program = partial(_explain_chunk, arrays, as_key(key), rest, solve, trace)
    size = min(n, micro_batch or found_micro_batch(network, shape, n))
    result = in_micro_batches(
        program, (images, chosen, numbers), size, on_progress or (lambda done: None)
    )
    if not np.isfinite(result.info.activation).any():
        raise NothingToExplain(
            "the network's outputs are NaN or infinite for every image: check the weights", result
        )
    if (
        np.all(result.info.status == Status.CONSTANT)
        and np.ptp(np.asarray(images), axis=(1, 2)).any()
    ):
        raise NothingToExplain(
            "the network gives the same activation for every image and its fill, so there is"
            " nothing to explain: check that the weights are loaded and that the node, the target"
            " and the fill are the ones meant",
            result,
        )
    return result


@partial(jax.jit, static_argnums=(2, 3, 4))
def _explain_chunk(
    arrays: list[Any],
    key: Key[Array, ""],
    rest: Rest,
    solve: Method,
    trace: bool,
    images: Array,
    targets: Array,
    ids: Array,
) -> Explanation:
    network, node, config = join(arrays, rest)

    def one(image: Array, target: Array, number: Array) -> Explanation:
        found = solve(
            network,
            image,
            target,
            node=node,
            key=jax.random.fold_in(key, number),
            config=config,
            trace=trace,
        )
        if not isinstance(found, Explanation):
            raise InputError(
                f"the method returns a {type(found).__name__}: let it return an Explanation, see"
                " methods.Method"
            )
        return found

    return jax.vmap(one)(images, targets, ids)


def in_micro_batches(
    program: Callable[..., Tree],
    batch: tuple[Any, ...],
    size: int,
    on_progress: Callable[[int], None],
) -> Tree:
    """Run `program` on slices of `size` and join the results on the host; the last slice is padded
    to the same shape.

    When the device is out of memory the size is halved, with a warning, and the work goes on where
    it stopped."""
    n, start, parts = len(batch[0]), 0, []
    while start < n:
        rows = np.minimum(np.arange(start, start + size), n - 1)
        try:
            part = jax.device_get(program(*(array[rows] for array in batch)))
        except jax.errors.JaxRuntimeError as error:
            if OUT_OF_MEMORY not in str(error):
                raise
            if size == 1:
                raise InputError(
                    "the device has not enough memory for a single image: use a smaller network or"
                    " image size, or bfloat16"
                ) from error
            size //= 2
            warnings.warn(
                f"out of memory: going on with {size} images at a time",
                RuntimeWarning,
                stacklevel=3,
            )
            continue
        done = min(size, n - start)
        parts.append(jax.tree.map(lambda leaf: leaf[:done], part))  # noqa: B023 (used at once)
        start += done
        on_progress(start)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def found_micro_batch(network: Predict, shape: ImageShape, n: int) -> int:
    """Images at a time for `n` images: one on CPU, else as many as keep their gradients in a third
    of the free memory."""
    if jax.default_backend() == "cpu":
        return 1
    stats = jax.local_devices()[0].memory_stats() or {}
    free = stats.get("bytes_limit", psutil.virtual_memory().available) - stats.get(
        "bytes_in_use", 0
    )
    return int(np.clip(free / 3 // residual_bytes(network, shape), 1, min(n, MAX_MICRO_BATCH)))


def id_numbers(ids: Iterable[Any]) -> np.ndarray:
    """Ids as 32-bit numbers to fold into the key; a name by its checksum, so that it is the same
    everywhere."""
    return np.asarray([_id_number(each) for each in ids], np.uint32)


def _id_number(each: Any) -> int:
    if isinstance(each, int | np.integer):
        return int(each) & 0xFFFFFFFF
    if isinstance(each, str | os.PathLike):
        return zlib.crc32(os.fsencode(each))
    raise InputError(
        f"the id {each!r} is neither a whole number nor a name: give one of these for each image"
    )


def as_key(key: Any) -> Key[Array, ""]:
    """A key, or the one that a number seeds. Raises InputError for a number out of range."""
    if not isinstance(key, int | np.integer):
        return key
    if not 0 <= key < 2**32:
        raise InputError(f"the seed is {key}: give a whole number from 0 to {2**32 - 1}")
    return jax.random.key(int(key))


def checked_targets(
    targets: Any, n: int, outputs: Any, node: str | Node = "probability"
) -> np.ndarray:
    """Targets [n] as int32, -1 for the first choice. Raises InputError outside the classes or for
    another length."""
    count = nodes.targets_of(node, outputs)
    if targets is None:
        if count is None:
            nodes.logits_of(outputs)
        return np.full(n, -1, np.int32)
    chosen = np.asarray(targets)
    if not np.issubdtype(chosen.dtype, np.integer) or chosen.shape not in {(), (n,)}:
        raise InputError(
            f"targets have shape {chosen.shape} and type {chosen.dtype}: give one class index, or"
            f" {n} of them"
        )
    if count is not None and chosen.max() >= count:
        raise out_of_range(node, int(chosen.max()), count)
    return np.broadcast_to(chosen, (n,)).astype(np.int32)
