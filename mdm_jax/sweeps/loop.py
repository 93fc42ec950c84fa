"""`sweep`: every point solved on every image and scored; from top to bottom what happens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from mdm_jax.execution.keys import as_key, id_numbers
from mdm_jax.execution.micro_batches import choose_micro_batch
from mdm_jax.execution.network import as_network
from mdm_jax.images import check_batch
from mdm_jax.metrics import Metric, find_all
from mdm_jax.models.fingerprint import network_fingerprint
from mdm_jax.problem import check_targets
from mdm_jax.storage import part_names
from mdm_jax.sweeps import vmapped
from mdm_jax.sweeps.point_result import PointResult, score_point
from mdm_jax.sweeps.points import Point, point
from mdm_jax.sweeps.result import Sweep
from mdm_jax.sweeps.store import describe_point, open_points
from mdm_jax.sweeps.vmapped import Group, Problems
from mdm_jax.types import Node, Predict


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
    asked = find_all(metrics)
    object_masks = rename_masks(object_masks, masks)
    images = np.asarray(check_batch(images))
    n, shape = len(images), images.shape[1:]
    numbers = id_numbers(range(n) if ids is None else ids)
    if len(numbers) != n:
        raise InputError(f"{len(numbers)} ids for {n} images: give one each")
    if micro_batch is not None and micro_batch < 1:
        raise InputError(f"micro_batch is {micro_batch}: give a whole number from 1")
    node = methods.METHODS["mdm"].default_node if node is None else node
    common = point({}, _base(base), node)
    settings = _points(points, common)
    network, outputs = as_network(predict, shape)
    chosen = check_targets(targets, n, outputs)
    drawn, framed = check_truth(object_masks, boxes, n, shape[:2])
    blank = np.zeros((n, *shape[:2]), np.float32)
    scene = Scene(images, blank, blank, chosen, drawn, framed, numbers)
    for metric in asked.values():
        check_needs(metric, scene, Explainer(mdm.explain, node, common.config))
    problems = Problems(network, images, chosen, numbers, as_key(key))
    names = tuple(map(str, range(n) if ids is None else ids))
    done = on_progress or (lambda points: None)
    with open_points(
        None if out is None else Path(out),
        _record(problems, [*drawn, *framed], names, asked, common),
        part_names.defaults_of(common.config, "base.config."),
    ) as folder:
        identities = [each.identity for each in settings]
        outcomes = {
            name: kept
            for name, each in zip(identities, settings)
            if (kept := folder.read(each)) is not None
        }
        if outcomes:
            done(sum(name in outcomes for name in identities))
        for i, outcome in _missing(
            settings, identities, outcomes, problems, scene, asked, micro_batch
        ):
            folder.write(settings[i], outcome)
            outcomes[identities[i]] = outcome
            done(sum(name in outcomes for name in identities))
    return Sweep(tuple(settings), asked, tuple(outcomes[name] for name in identities), names)


def _base(base: str | MDMConfig) -> MDMConfig:
    base = preset(base) if isinstance(base, str) else base
    if not isinstance(base, MDMConfig):
        raise InputError(f"base is a {type(base).__name__}: give a preset's name or an MDMConfig")
    return base


def _points(points: Sequence[Mapping[str, Any]], base: Point) -> list[Point]:
    if isinstance(points, Mapping | str) or not isinstance(points, Sequence) or not len(points):
        raise InputError(
            "points are no list: give the settings of one point or more, such as"
            " mdm_jax.sweeps.grid(...)"
        )
    settings = [point(each, base.config, base.node) for each in points]
    for each in settings:
        if getattr(nodes.resolve(each.node), "count", None) is not None:
            raise InputError(
                f"the node {each.node!r} is of prototypes, and metrics score classes: give one such"
                " as probability"
            )
    return settings


def _missing(
    settings: Sequence[Point],
    identities: Sequence[str],
    known: Mapping[str, PointResult],
    problems: Problems,
    scene: Scene,
    asked: Mapping[str, Metric],
    micro_batch: int | None,
) -> Iterator[tuple[int, PointResult]]:
    """Solve and score the points that are not known; those that are alike, once. All are traced
    before the first runs."""
    first = sorted({name: i for i, name in reversed(list(enumerate(identities)))}.values())
    left: list[tuple[Group, list[int]]] = []
    size = micro_batch or choose_micro_batch(
        problems.network, problems.images.shape[1:], len(first) * len(scene.targets)
    )
    for group in vmapped.groups([settings[i] for i in first]):
        places = [
            place for place, i in enumerate(group.members) if identities[first[i]] not in known
        ]
        if places:
            _check(group, problems, size, settings[first[group.members[places[0]]]])
            left.append((group, places))
    if not left:
        return
    if (problems.targets < 0).any():
        said = first_choices(problems.network, problems.images, micro_batch)
        problems = problems._replace(targets=np.where(problems.targets < 0, said, problems.targets))
    scene = scene._replace(targets=problems.targets)
    for group, places in left:
        for i, explanation in vmapped.solve(group, problems, places, size):
            one = settings[first[i]]
            explainer = Explainer(mdm.explain, one.node, one.config)
            yield (
                first[i],
                score_point(explanation, scene, asked, problems.network, explainer, problems.key),
            )


def _check(group: Group, problems: Problems, size: int, one: Point) -> None:
    try:
        vmapped.check(group, problems, size)
    except InputError as error:
        raise InputError(f"the point ({one.label}) cannot be: {error}") from None


def _record(
    problems: Problems,
    truth: Sequence[Any],
    names: Sequence[str],
    asked: Mapping[str, Metric],
    base: Point,
) -> dict[str, Any]:
    """What all points of a folder have in common."""
    return {
        "network": network_fingerprint(problems.network),
        "images": {
            "count": len(names),
            "pixels": _checksum(problems.images),
            "ids": _checksum("\n".join(names).encode()),
        },
        "truth": _checksum(*(b"-" if each is None else each for each in truth)),
        "targets": _checksum(problems.targets),
        "key": np.asarray(jax.random.key_data(problems.key)).tolist(),
        "metrics": sorted(asked),
        "base": describe_point(base),
    }


def _checksum(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]
