"""Points that differ in numbers alone, solved by one compiled program.

The config of a point is a pytree. Points of one structure form a group: numbers in which its points
differ are stacked and swept by `vmap`, numbers that are alike are arguments of the program, and the
rest (functions, sizes, steps) is compiled into it.

A pair of a point and an image is one problem, with the key of the image. So a point's map is that
of `mdm_jax.explain` with the point's config: to the last bit where pairs are solved one at a time,
which is the default on CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from mdm_jax import mdm, methods
from mdm_jax.evaluation.measure import with_array_numbers
from mdm_jax.execution.micro_batches import run_in_micro_batches
from mdm_jax.execution.network import Rest, join, split
from mdm_jax.problem import with_empty_named
from mdm_jax.sweeps.points import Point
from mdm_jax.types import Explanation, Predict

# A block of points is solved together: about so many micro-batches, so that little of the last one
# is padding.
MICRO_BATCHES_PER_BLOCK = 4


class Group(NamedTuple):
    """Points of one structure."""

    members: tuple[int, ...]
    """their numbers among all points"""
    rest: Rest
    """node and config without their numbers"""
    shared: tuple[np.ndarray | None, ...]
    """the numbers that are alike, None in the place of one that is swept"""
    swept: tuple[np.ndarray, ...]
    """the others, [members, ...] each"""


class SweepInputs(NamedTuple):
    """What every point is solved on."""

    network: Predict
    """a callable pytree"""
    images: Any
    """[n, h, w, c]"""
    targets: np.ndarray
    """[n]"""
    numbers: np.ndarray
    """[n] ids as 32-bit numbers"""
    key: Key[Array, ""]


def group_points(points: Sequence[Point]) -> list[Group]:
    """The points by what has to be compiled.

    That is the node, the structure of the config, and the shapes of its numbers.
    """
    members: dict[Any, list[int]] = {}
    numbers: dict[Any, list[list[np.ndarray]]] = {}
    for i, point in enumerate(points):
        leaves, rest = _split_numbers(point)
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        members.setdefault((rest, shapes), []).append(i)
        numbers.setdefault((rest, shapes), []).append(leaves)
    return [
        _make_group(rest, members[rest, shapes], numbers[rest, shapes])
        for rest, shapes in members
    ]


def _split_numbers(point: Point) -> tuple[list[np.ndarray], Rest]:
    node, config = methods.resolve_references(point.node, point.config)
    leaves, rest = split((node, with_array_numbers(config)))
    return [np.asarray(leaf) for leaf in leaves], rest


def _make_group(rest: Rest, members: list[int], numbers: list[list[np.ndarray]]) -> Group:
    shared: list[np.ndarray | None] = []
    swept: list[np.ndarray] = []
    for values in zip(*numbers):  # one number of the config, at every point
        if all(np.array_equal(values[0], value) for value in values):
            shared.append(values[0])
        else:
            shared.append(None)
            swept.append(np.stack(values))
    return Group(tuple(members), rest, tuple(shared), tuple(swept))


def check(group: Group, inputs: SweepInputs, micro_batch: int) -> None:
    """Trace a group without running it; JAX keeps the trace for the first run.

    Raises InputError for a config that does not suit the images or the network.
    """
    pairs = min(micro_batch, len(group.members) * len(inputs.targets))
    first = np.zeros(pairs, int)
    common = _common_arguments(group, inputs)
    _explain_pairs.eval_shape(*common, *_pair_arguments(group, inputs, first, first))


def solve(
    group: Group,
    inputs: SweepInputs,
    places: Sequence[int],
    micro_batch: int,
    on_progress: Callable[[int], None] = lambda pairs: None,
) -> Iterator[tuple[int, Explanation]]:
    """Explain all images with some members of a group, given by their places in `group.members`.

    Yields the number of each among all points with its explanations, as they are finished.
    `on_progress` is called with the number of pairs solved.
    """
    images = len(inputs.targets)
    # as `check` traced it, even where fewer members are left
    size = min(micro_batch, len(group.members) * images)
    points_per_block = _points_per_block(images, micro_batch)
    for start in range(0, len(places), points_per_block):
        block = places[start : start + points_per_block]
        report = partial(_add, on_progress, start * images)
        solved = _solve_block(group, inputs, block, size, report)
        for i, place in enumerate(block):
            rows = slice(i * images, (i + 1) * images)
            yield group.members[place], jax.tree.map(partial(_take, rows), solved)


def _points_per_block(images: int, micro_batch: int) -> int:
    # the fewest points whose pairs fill whole micro-batches
    without_padding = micro_batch // math.gcd(micro_batch, images)
    most = math.ceil(MICRO_BATCHES_PER_BLOCK * micro_batch / images)
    return max(1, min(without_padding, most))


def _solve_block(
    group: Group,
    inputs: SweepInputs,
    places: Sequence[int],
    size: int,
    on_progress: Callable[[int], None],
) -> Explanation:
    """Explanations of pairs, all images of the first point first."""
    images = len(inputs.targets)
    point_of_pair = np.repeat(np.asarray(places), images)
    image_of_pair = np.tile(np.arange(images), len(places))
    pairs = _pair_arguments(group, inputs, point_of_pair, image_of_pair)
    program = partial(_explain_pairs, *_common_arguments(group, inputs))
    return run_in_micro_batches(program, pairs, size, on_progress)


def _add(on_progress: Callable[[int], None], before: int, done: int) -> None:
    on_progress(before + done)


def _take(rows: slice, leaf: np.ndarray) -> np.ndarray:
    return leaf[rows]


def _common_arguments(group: Group, inputs: SweepInputs) -> tuple[Any, ...]:
    """The arguments of `_explain_pairs` that all pairs share."""
    arrays, network_rest = split(inputs.network)
    return arrays, group.shared, inputs.key, network_rest, group.rest


def _pair_arguments(
    group: Group, inputs: SweepInputs, points: np.ndarray, images: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The arguments of `_explain_pairs` with an entry a pair, by the numbers of point and image."""
    of_images = (inputs.images, inputs.targets, inputs.numbers)
    return (
        *(np.asarray(array)[images] for array in of_images),
        *(leaf[points] for leaf in group.swept),
    )


@partial(jax.jit, static_argnums=(3, 4))
def _explain_pairs(
    arrays: list[Any],
    shared: tuple[Any, ...],
    key: Key[Array, ""],
    network_rest: Rest,
    config_rest: Rest,
    images: Array,
    targets: Array,
    numbers: Array,
    *swept: Array,
) -> Explanation:
    network = join(arrays, network_rest)

    def explain_pair(
        image: Array, target: Array, number: Array, *swept: Array
    ) -> Explanation:
        remaining = iter(swept)
        leaves = [next(remaining) if leaf is None else leaf for leaf in shared]
        node, config = join(leaves, config_rest)
        image_key = jax.random.fold_in(key, number)
        explanation = mdm.explain(
            network, image, target, node=node, key=image_key, config=config
        )
        return with_empty_named(explanation)

    if len(images) == 1:
        # as `explain_batch` compiles it, where numbers of the config have no batch axis: only the
        # same program gives the same bits
        own = [leaf[0] for leaf in swept]
        return jax.vmap(lambda *pair: explain_pair(*pair, *own))(images, targets, numbers)
    return jax.vmap(explain_pair)(images, targets, numbers, *swept)
