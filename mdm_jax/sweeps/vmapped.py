"""Points that differ in numbers alone as one compiled program: their leaves are stacked and swept
by `vmap`.

A pair of a point and an image is one problem, solved with the key of the image: so a point's map is
that of `mdm_jax.explain` with the point's config. One pair at a time, the default on CPU, it is so
to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from mdm_jax import mdm, methods
from mdm_jax.execution.micro_batches import run_in_micro_batches
from mdm_jax.execution.network import Rest, join, split
from mdm_jax.sweeps.points import Point
from mdm_jax.types import Explanation, Predict

BLOCK = 4
"""micro-batches in a block of whole points at least, so that little of the last one is padding"""


class Group(NamedTuple):
    """Points of one structure."""

    members: tuple[int, ...]
    """their numbers among all points"""
    rest: Rest
    """node and config without their numbers"""
    shared: tuple[Any, ...]
    """the numbers that are alike, None in the place of one that is swept"""
    swept: tuple[np.ndarray, ...]
    """the others, [members, ...] each"""


class Problems(NamedTuple):
    """What every point is solved on."""

    network: Predict
    """a callable pytree"""
    images: Any
    """[n, h, w, c]"""
    targets: np.ndarray
    """[n]"""
    numbers: np.ndarray
    """[n] ids as 32-bit numbers"""
    key: Any


def groups(points: Sequence[Point]) -> list[Group]:
    """The points by what has to be compiled: node, structure of the config, and shapes of its
    numbers."""
    found: dict[Any, list[tuple[int, list[np.ndarray]]]] = {}
    for i, point in enumerate(points):
        node, config = methods.resolve_references(point.node, point.config)
        numeric = jax.tree.map(
            lambda leaf: np.float32(leaf) if isinstance(leaf, float | int) else leaf, config
        )
        arrays, rest = split((node, numeric))
        leaves = list(map(np.asarray, arrays))
        kind = rest, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        found.setdefault(kind, []).append((i, leaves))
    return [_group(rest, members) for (rest, _), members in found.items()]


def _group(rest: Rest, members: list[tuple[int, list[np.ndarray]]]) -> Group:
    columns = list(zip(*(leaves for _, leaves in members)))
    alike = [all(np.array_equal(column[0], leaf) for leaf in column) for column in columns]
    return Group(
        tuple(i for i, _ in members),
        rest,
        tuple(column[0] if same else None for column, same in zip(columns, alike)),
        tuple(np.stack(column) for column, same in zip(columns, alike) if not same),
    )


def check(group: Group, problems: Problems, micro_batch: int) -> None:
    """Trace a group without running it: raises InputError for a config that does not suit the
    images or the network.

    JAX keeps the trace for the first run.
    """
    pairs = min(micro_batch, len(group.members) * len(problems.targets))
    rows = np.zeros(pairs, int)
    _explain_pairs.eval_shape(*_given(group, problems), *_pairs(group, problems, rows, rows))


def solve(
    group: Group,
    problems: Problems,
    chosen: Sequence[int],
    micro_batch: int,
    on_progress: Callable[[int], None] = lambda pairs: None,
) -> Iterator[tuple[int, Explanation]]:
    """Each chosen member's number among all points with its explanations of all images, as they are
    finished.

    `chosen` are places in `group.members`. `on_progress` is called with the number of pairs that
    are solved."""
    n, program = len(problems.targets), partial(_explain_pairs, *_given(group, problems))
    at_once = max(
        1, min(micro_batch // np.gcd(micro_batch, n), -(-BLOCK * micro_batch // n))
    )  # points
    for start in range(0, len(chosen), at_once):
        block = np.asarray(chosen[start : start + at_once])
        pairs = _pairs(group, problems, np.repeat(block, n), np.tile(np.arange(n), len(block)))
        size, before = min(micro_batch, len(group.members) * n), start * n

        def advance(done: int, before: int = before) -> None:
            on_progress(before + done)

        solved = run_in_micro_batches(program, pairs, size, advance)
        for place, member in enumerate(block):
            yield (
                group.members[member],
                jax.tree.map(lambda leaf, at=place * n: leaf[at : at + n], solved),
            )


def _given(group: Group, problems: Problems) -> tuple[Any, ...]:
    arrays, rest = split(problems.network)
    return arrays, group.shared, problems.key, rest, group.rest


def _pairs(
    group: Group, problems: Problems, members: np.ndarray, images: np.ndarray
) -> tuple[Any, ...]:
    arrays = (problems.images, problems.targets, problems.numbers)
    return (
        *(np.asarray(array)[images] for array in arrays),
        *(leaf[members] for leaf in group.swept),
    )


@partial(jax.jit, static_argnums=(3, 4))
def _explain_pairs(
    arrays: list[Any],
    shared: tuple[Any, ...],
    key: Key[Array, ""],
    of_network: Rest,
    of_config: Rest,
    images: Array,
    targets: Array,
    numbers: Array,
    *swept: Array,
) -> Explanation:
    network = join(arrays, of_network)

    def one(image: Array, target: Array, number: Array, *swept: Array) -> Explanation:
        remaining = iter(swept)
        node, config = join(
            [next(remaining) if leaf is None else leaf for leaf in shared], of_config
        )
        return mdm.explain(
            network, image, target, node=node, key=jax.random.fold_in(key, number), config=config
        )

    if len(images) == 1:  # the program of `batch.explain`, whose numbers have no batch axis
        return jax.vmap(lambda *pair: one(*pair, *(leaf[0] for leaf in swept)))(
            images, targets, numbers
        )
    return jax.vmap(one)(images, targets, numbers, *swept)
