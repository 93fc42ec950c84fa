"""`sweep`: every point solved on every image and scored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from mdm_jax import mdm, methods, nodes
from mdm_jax.config import MDMConfig, preset
from mdm_jax.errors import InputError
from mdm_jax.evaluation.measure import Explainer, check_needs, first_choices
from mdm_jax.evaluation.scene import Scene, check_truth, rename_masks
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.execution.keys import as_key, id_numbers
from mdm_jax.execution.micro_batches import check_micro_batch, choose_micro_batch
from mdm_jax.execution.network import as_network
from mdm_jax.images import check_batch
from mdm_jax.metrics import Metric, find_all
from mdm_jax.models.fingerprint import argument_defaults, network_fingerprint
from mdm_jax.network_checks import require_differentiable
from mdm_jax.problem import check_targets
from mdm_jax.storage import part_names
from mdm_jax.sweeps import vmapped
from mdm_jax.sweeps.point_result import PointResult, score_point
from mdm_jax.sweeps.points import Point, point
from mdm_jax.sweeps.result import Sweep
from mdm_jax.sweeps.store import describe_point, open_points
from mdm_jax.sweeps.vmapped import Group, SweepInputs
from mdm_jax.types import Node, Predict


@dataclass(frozen=True)
class _Work:
    """What a sweep has to do, checked."""

    points: Sequence[Point]
    identities: Sequence[str]
    """of the points; points with the same settings have the same one"""
    inputs: SweepInputs
    scene: Scene
    """the images and their truth, without maps"""
    metrics: Mapping[str, Metric]
    """by id"""
    micro_batch: int | None

    def count(self, results: Mapping[str, PointResult]) -> int:
        """How many points are finished."""
        return sum(identity in results for identity in self.identities)


@own_settings()
def sweep(
    predict: Predict,
    images: Any,
    points: Sequence[Mapping[str, Any]],
    targets: Any = None,
    *,
    base: str | MDMConfig = "fast",
    node: str | Node | None = None,
    metrics: str | Metric | Sequence[str | Metric] = ("insertion", "deletion", "energy"),
    object_masks: Any = None,
    boxes: Any = None,
    key: Key[Array, ""] | int = 0,
    ids: Sequence[Any] | None = None,
    out: Path | str | None = None,
    micro_batch: int | None = None,
    on_progress: Callable[[int], None] | None = None,
    masks: Any = None,
) -> Sweep:
    """Explain the same images with many settings of MDM, and score them all.

    Points that differ in numbers alone (weights, learning rate, tolerance, a fill's color ...) are
    one compiled program; those that differ in structure (sizes, schedule, terms, steps ...) are
    compiled one after the other. A metric is compiled once.

    Args:
      predict: the network, images [n, h, w, c] in [0, 1] to logits or a tuple that begins with
        them; a function or module.
      images: float32 [n, h, w, c] in [0, 1].
      points: settings of each point, written as in a config file, such as {"learning_rate": 0.3,
        "objective.area": 5.0, "sizes": [8, 16]}; "objective.NAME" changes or adds one weight,
        "preset" takes another base, "node" another node. See `mdm_jax.sweeps.grid` and `sample`.
      targets: classes [n] to explain, or one for all; None, or a negative number, explains the
        first choice.
      base: what the settings change: a preset's name or a config.
      node: what is explained; by default the probability.
      metrics: names or ids of metrics, or metrics of your own.
      object_masks: the object's pixels, as in `evaluate`, for metrics of localization.
      boxes: the object's boxes, as in `evaluate`.
      key: a key, or a number to seed one; image i uses it folded with `ids[i]` (by default i), at
        every point.
      ids: numbers, names or paths of the images.
      out: a folder that keeps every finished point: the same call goes on where it stopped, and
        more points only add. Functions are known by their names there, those written as FILE:NAME
        by their text too: take another folder when others change.
      micro_batch: pairs of a point and an image solved at a time; by default one on CPU, where a
        point's maps are then those of `explain` to the last bit, and found from the memory on an
        accelerator.
      on_progress: called with the number of points finished.
      masks: deprecated name of `object_masks`.

    Returns:
      A `Sweep`, in the order of the points. A point whose maps say nothing is there, with a note.

    Raises:
      InputError: input that cannot be used, or a point that cannot be, before anything is computed;
        a folder of another sweep.
    """
    metrics_by_id = find_all(metrics)
    object_masks = rename_masks(object_masks, masks)
    images = np.asarray(check_batch(images))
    n, shape = len(images), images.shape[1:]
    ids = range(n) if ids is None else ids
    numbers = id_numbers(ids)
    if len(numbers) != n:
        raise InputError(f"{len(numbers)} ids for {n} images: give one each")
    check_micro_batch(micro_batch)
    node = methods.METHODS["mdm"].default_node if node is None else node
    base_point = point({}, _check_base(base), node)
    entries = _make_points(points, base_point)
    network, outputs = as_network(predict, shape)
    for entry in entries:
        entry_node, _ = methods.resolve_references(entry.node, None)
        require_differentiable(network, entry_node, shape)
    targets = check_targets(targets, n, outputs)
    true_masks, true_boxes = check_truth(object_masks, boxes, n, shape[:2])
    # the checks need a scene before there are maps
    no_maps = np.zeros((n, *shape[:2]), np.float32)
    maps = (no_maps, no_maps, no_maps)
    scene = Scene(images, *maps, targets, true_masks, true_boxes, numbers)
    for metric in metrics_by_id.values():
        check_needs(metric, scene, Explainer(mdm.explain, node, base_point.config))
    inputs = SweepInputs(network, images, targets, numbers, as_key(key))
    names = tuple(map(str, ids))
    # computed once: each is a checksum
    identities = [entry.identity for entry in entries]
    work = _Work(entries, identities, inputs, scene, metrics_by_id, micro_batch)
    report = on_progress or (lambda points: None)
    place = None if out is None else Path(out)
    record = _make_record(work, names, base_point)
    defaults = part_names.defaults_of(base_point.config, "base.config.")
    defaults |= argument_defaults(record["network"], "network.")
    with open_points(place, record, defaults) as folder:
        results: dict[str, PointResult] = {}
        for identity, entry in zip(identities, entries):
            stored = folder.read(entry)
            if stored is not None:
                results[identity] = stored
        if results:
            report(work.count(results))
        for i, result in _solve_missing(work, results):
            # on disk before it is reported, so that what was reported is not lost
            folder.write(entries[i], result)
            results[identities[i]] = result
            report(work.count(results))
    in_order = tuple(results[identity] for identity in identities)
    return Sweep(tuple(entries), metrics_by_id, in_order, names)


def _check_base(base: str | MDMConfig) -> MDMConfig:
    base = preset(base) if isinstance(base, str) else base
    if not isinstance(base, MDMConfig):
        raise InputError(
            f"base is a {type(base).__name__}: give a preset's name or an MDMConfig"
        )
    return base


def _make_points(points: Sequence[Mapping[str, Any]], base: Point) -> list[Point]:
    if (
        isinstance(points, Mapping | str)
        or not isinstance(points, Sequence)
        or not len(points)
    ):
        raise InputError(
            "points are no list: give the settings of one point or more,"
            " such as mdm_jax.sweeps.grid(...)"
        )
    entries = [point(settings, base.config, base.node) for settings in points]
    for entry in entries:
        if getattr(nodes.resolve(entry.node), "count", None) is not None:
            raise InputError(
                f"the node {entry.node!r} is of prototypes, and metrics score classes:"
                " give one such as probability"
            )
    return entries


def _solve_missing(
    work: _Work, results: Mapping[str, PointResult]
) -> Iterator[tuple[int, PointResult]]:
    """Solve and score the points without a result, each of equal ones once.

    All groups are traced before the first one runs, so that a config that cannot be is found at
    once. Yields the number of a point with its result.
    """
    first = _first_of_equals(work.identities)
    distinct = [work.points[i] for i in first]
    inputs = work.inputs
    images = len(inputs.targets)
    size = work.micro_batch or choose_micro_batch(
        inputs.network, inputs.images.shape[1:], len(distinct) * images
    )
    todo: list[tuple[Group, list[int]]] = []
    # finished points stay in their group: without them it would be another program
    for group in vmapped.group_points(distinct):
        places = [
            place
            for place, member in enumerate(group.members)
            if distinct[member].identity not in results
        ]
        if places:
            _trace(group, inputs, size, distinct[group.members[places[0]]])
            todo.append((group, places))
    if not todo:
        return
    if (inputs.targets < 0).any():
        choices = first_choices(inputs.network, inputs.images, work.micro_batch)
        inputs = inputs._replace(
            targets=np.where(inputs.targets < 0, choices, inputs.targets)
        )
    scene = work.scene._replace(targets=inputs.targets)
    for group, places in todo:
        for member, explanation in vmapped.solve(group, inputs, places, size):
            explainer = Explainer(
                mdm.explain, distinct[member].node, distinct[member].config
            )
            result = score_point(
                explanation, scene, work.metrics, inputs.network, explainer, inputs.key
            )
            yield first[member], result


def _first_of_equals(identities: Sequence[str]) -> list[int]:
    """The numbers of points whose settings no earlier point has."""
    first: dict[str, int] = {}
    for i, identity in enumerate(identities):
        first.setdefault(identity, i)
    return list(first.values())


def _trace(group: Group, inputs: SweepInputs, micro_batch: int, example: Point) -> None:
    try:
        vmapped.check(group, inputs, micro_batch)
    except InputError as error:
        raise InputError(f"the point ({example.label}) cannot be: {error}") from None


def _make_record(work: _Work, names: Sequence[str], base: Point) -> dict[str, Any]:
    """What all points of a folder have in common; names and order are those of stored folders."""
    inputs, scene = work.inputs, work.scene
    # a placeholder keeps the order of images in the checksum
    truth = [b"-" if each is None else each for each in (*scene.masks, *scene.boxes)]
    return {
        "network": network_fingerprint(inputs.network),
        "images": {
            "count": len(names),
            "pixels": _checksum(inputs.images),
            "ids": _checksum("\n".join(names).encode()),
        },
        "truth": _checksum(*truth),
        "targets": _checksum(inputs.targets),
        "key": np.asarray(jax.random.key_data(inputs.key)).tolist(),
        "metrics": sorted(work.metrics),
        "base": describe_point(base),
    }


def _checksum(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(
            part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes()
        )
    return digest.hexdigest()[:16]
