"""`evaluate`: maps of a batch of images scored by metrics, compiled once for each metric and
shape."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence, Sized
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from mdm_jax import methods, metrics, nodes, plugins
from mdm_jax.config import preset
from mdm_jax.errors import InputError
from mdm_jax.evaluation.statistics import Measured, Scores
from mdm_jax.execution.keys import as_key, id_numbers
from mdm_jax.execution.micro_batches import run_in_micro_batches
from mdm_jax.execution.network import Rest, as_network, join, split
from mdm_jax.images import check_batch
from mdm_jax.methods import Method
from mdm_jax.metrics import Metric, Sample
from mdm_jax.problem import check_targets
from mdm_jax.types import Node, Predict

ON_CPU, ON_ACCELERATOR = 8, 32
"""images measured at a time; a metric shows the network many versions of each"""


class Explainer(NamedTuple):
    """A method as a metric that runs it again needs it."""

    solve: Method
    node: str | Node
    config: Any


class Scene(NamedTuple):
    """Images, their maps and their truth: what metrics look at."""

    images: Any
    """[n, h, w, c] in [0, 1]"""
    saliency: np.ndarray
    """[n, h, w] in [0, 1]"""
    attribution: np.ndarray
    """[n, h, w]"""
    targets: np.ndarray
    """[n]"""
    masks: Sequence[Any]
    """[h, w] bool, or None, for each image"""
    boxes: Sequence[Any]
    """[k, 4], or None, for each image"""
    numbers: np.ndarray
    """[n] ids as 32-bit numbers"""

    def rows(self, chosen: np.ndarray) -> Scene:
        """Some of them."""
        return Scene(
            np.asarray(self.images)[chosen],
            self.saliency[chosen],
            self.attribution[chosen],
            self.targets[chosen],
            [self.masks[i] for i in chosen],
            [self.boxes[i] for i in chosen],
            self.numbers[chosen],
        )


def evaluate(
    predict: Predict,
    images: Any,
    saliency: Any,
    targets: Any = None,
    *,
    attribution: Any = None,
    masks: Any = None,
    boxes: Any = None,
    metrics: str | Metric | Sequence[str | Metric] = ("insertion", "deletion"),
    key: Key[Array, ""] | int = 0,
    ids: Sequence[Any] | None = None,
    method: str | Method | None = None,
    node: str | Node | None = None,
    config: Any = None,
    micro_batch: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Scores:
    """Score saliency maps: how well does each say what the network's decision rests on?

    Args:
      predict: the network, images [n, h, w, c] in [0, 1] to logits or a tuple that begins with
        them; a function or module.
      images: float32 [n, h, w, c] in [0, 1].
      saliency: maps [n, h, w] in [0, 1].
      targets: classes [n] that were explained, or one for all; None, or a negative number, means
        the first choice.
      attribution: signed maps [n, h, w], for metrics of signed attributions; the saliency itself
        where not given.
      masks: the object's pixels, bool [n, h, w], or a list with None for an image without.
      boxes: a list of [k, 4] (x0, y0, x1, y1) in pixels, ends exclusive, or None for an image
        without. Without `masks` the pixels of the boxes are the object's.
      metrics: one or several ids such as "insertion:rise-28", or names, which mean their default
        protocol; see `mdm_jax.metrics.METRICS`.
      key: a key, or a number to seed one, of metrics that draw; image i uses it folded with
        `ids[i]` (by default i).
      ids: numbers, names or paths of the images.
      method: what made the maps (a name or a function of the contract), with its `node` and
        `config`: for metrics that run it again, such as spread over seeds.
      micro_batch: images measured at a time; halved, with a warning, when the device runs out of
        memory.
      on_progress: called with the number of images finished, for one metric after the other.

    Returns:
      `Scores`: statistics of every image, and `summary()` with values and 95 % intervals.

    Raises:
      InputError: input that cannot be used.
    """
    named = (metrics,) if isinstance(metrics, str | Metric) else metrics
    asked = {metric.id: metric for metric in map(_metric, named)}
    if not asked:
        raise InputError("no metrics: give one or more, such as insertion deletion")
    images = check_batch(images)
    n, shape = len(images), images.shape[1:]
    network, outputs = as_network(predict, shape)
    saliency = check_maps(saliency, (n, *shape[:2]), "saliency")
    if saliency.min() < -1e-3 or saliency.max() > 1 + 1e-3:
        worst = int(np.abs(saliency - 0.5).max(axis=(1, 2)).argmax())
        low, high = saliency[worst].min(), saliency[worst].max()
        raise InputError(
            f"the saliency map {worst} has values from {low:.3g} to {high:.3g}: maps lie in [0, 1];"
            " stretch it, and give signed values as attribution"
        )
    signed = (
        saliency if attribution is None else check_maps(attribution, saliency.shape, "attribution")
    )
    chosen = check_targets(targets, n, outputs)
    numbers = id_numbers(range(n) if ids is None else ids)
    if len(numbers) != n:
        raise InputError(f"{len(numbers)} ids for {n} images: give one each")
    if micro_batch is not None and micro_batch < 1:
        raise InputError(f"micro_batch is {micro_batch}: give a whole number from 1")
    drawn, framed = checked_truth(masks, boxes, n, shape[:2])
    if (chosen < 0).any():
        chosen = np.where(chosen < 0, first_choices(network, images, micro_batch), chosen)
    scene = Scene(images, saliency, signed, chosen, drawn, framed, numbers)
    explainer = None if method is None else explainer_of(method, node, config)
    for metric in asked.values():
        check_possible(metric, scene, explainer)
    measured = {
        name: measure(
            metric,
            network,
            scene,
            key=key,
            explainer=explainer,
            micro_batch=micro_batch,
            on_progress=on_progress,
        )
        for name, metric in asked.items()
    }
    return Scores(tuple(map(str, range(n) if ids is None else ids)), asked, measured)


def measure(
    metric: Metric,
    network: Predict,
    scene: Scene,
    *,
    key: Key[Array, ""] | int = 0,
    explainer: Explainer | None = None,
    micro_batch: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Measured:
    """One metric's statistics of the images that have the truth that it looks at; `network` is a
    callable pytree."""
    truth = {"mask": scene.masks, "boxes": scene.boxes}.get(metric.needs)
    rows = (
        np.arange(len(scene.targets))
        if truth is None
        else np.flatnonzero([each is not None for each in truth])
    )
    if not len(rows):
        return Measured(np.zeros(0), rows)
    scene = scene if len(rows) == len(scene.targets) else scene.rows(rows)
    if metric.needs == "boxes":
        return Measured(np.stack([_on_host(metric, scene, i) for i in range(len(rows))]), rows)
    rerun = metric.needs == "explain"
    if rerun and explainer is None:
        raise InputError(
            f"{metric.id} runs the method again: say with method= which one made the maps"
        )
    node, config = (
        plugins.fixed((explainer.node, explainer.config)) if rerun and explainer else (None, None)
    )
    arrays, rest = split(
        (network if metric.needs in ("network", "explain") else None, node, _numeric(config))
    )
    drawn = jax.random.fold_in(as_key(key), zlib.crc32(metric.id.encode()) & 0x7FFFFFFF)
    program = partial(
        _measure_chunk,
        arrays,
        drawn,
        rest,
        metric,
        explainer.solve if rerun and explainer else None,
    )
    masks = np.stack(scene.masks) if metric.needs == "mask" else np.zeros((len(rows), 0), bool)
    inputs = (scene.images, scene.saliency, scene.attribution, scene.targets, masks, scene.numbers)
    runs = metric.needs in (
        "network",
        "explain",
    )  # many copies of one image already fill a CPU; more would leave its caches
    at_a_time = 1 if runs and jax.default_backend() == "cpu" else _at_a_time()
    statistics = run_in_micro_batches(
        program,
        inputs,
        min(micro_batch or at_a_time, len(rows)),
        on_progress or (lambda done: None),
    )
    return Measured(np.asarray(statistics), rows)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _measure_chunk(
    arrays: list[Any],
    key: Key[Array, ""],
    rest: Rest,
    metric: Metric,
    solve: Method | None,
    images: Array,
    saliency: Array,
    attribution: Array,
    targets: Array,
    masks: Array,
    numbers: Array,
) -> Any:
    network, node, config = join(arrays, rest)

    def explain(image: Array, target: Array, key: Key[Array, ""]) -> Array:
        return solve(network, image, target, node=node, key=key, config=config).saliency  # type: ignore[misc]

    more = {} if solve is None else {"explain": explain}

    def one(
        image: Array, saliency: Array, attribution: Array, target: Array, mask: Array, number: Array
    ) -> Any:
        sample = Sample(
            image, saliency, attribution, target, mask if metric.needs == "mask" else None
        )
        return metric.measure(network, sample, key=jax.random.fold_in(key, number), **more)

    return jax.vmap(one)(images, saliency, attribution, targets, masks, numbers)


def first_choices(network: Predict, images: Any, micro_batch: int | None = None) -> np.ndarray:
    """The class that the network gives each image first."""
    arrays, rest = split(network)
    size = min(micro_batch or _at_a_time(), len(images))
    return run_in_micro_batches(partial(_choices, arrays, rest), (images,), size, lambda done: None)


@partial(jax.jit, static_argnums=1)
def _choices(arrays: list[Any], rest: Rest, images: Array) -> Array:
    outputs = join(arrays, rest)(images)
    return jax.vmap(lambda one: jnp.argmax(nodes.logits_of(one)).astype(jnp.int32))(outputs)


def explainer_of(method: str | Method, node: str | Node | None, config: Any) -> Explainer:
    """A method with its node and config, as `mdm_jax.explain` would use them."""
    solve = methods.resolve(method)
    config = methods.checked_config(solve, preset(config) if isinstance(config, str) else config)
    return Explainer(solve, methods.default_node(solve) if node is None else node, config)


def check_maps(maps: Any, shape: tuple[int, int, int], name: str) -> np.ndarray:
    """Maps as float32 [n, h, w]. Raises InputError for another shape, and for one that is not
    finite."""
    try:
        maps = np.asarray(maps)
    except ValueError:
        raise InputError(
            f"the {name} maps differ in shape: bring them to the size of the images"
        ) from None
    if maps.shape != shape:
        raise InputError(
            f"{name} has shape {maps.shape}: give one map for each image, {shape} (a map without"
            " channels, of the size of the network's input)"
        )
    if not (jnp.issubdtype(maps.dtype, jnp.floating) or jnp.issubdtype(maps.dtype, jnp.integer)):
        raise InputError(f"{name} is {maps.dtype}: give floats")
    finite = np.isfinite(maps).all(axis=(1, 2))
    if not finite.all():
        raise InputError(
            f"the {name} map {int(np.flatnonzero(~finite)[0])} holds NaN or infinite values: leave"
            " it out"
        )
    return maps.astype(np.float32)


def checked_truth(
    masks: Any, boxes: Any, n: int, shape: tuple[int, int]
) -> tuple[list[Any], list[Any]]:
    """Masks and boxes of n images, None for an image without; the pixels of the boxes where no
    masks are given."""
    drawn, framed = check_masks(masks, n, shape), check_boxes(boxes, n, shape)
    if masks is None:
        from mdm_jax.data.network_input import boxes_to_mask

        drawn = [None if each is None else boxes_to_mask(each, shape) for each in framed]
    return drawn, framed


def check_masks(masks: Any, n: int, shape: tuple[int, int]) -> list[Any]:
    """Masks, bool [h, w] or None, for n images. Raises InputError for another number, another
    shape, or an empty one."""
    if masks is None:
        return [None] * n
    if (count := _count(masks)) != n:
        raise InputError(f"{count} masks for {n} images: give one each, None for an image without")
    try:
        checked = [None if each is None else np.asarray(each) for each in masks]
    except ValueError:
        raise InputError(f"a mask has rows of different lengths: give bool {shape}") from None
    for i, each in enumerate(checked):
        if each is not None and (each.shape != shape or each.dtype != bool):
            raise InputError(
                f"mask {i} has shape {each.shape} and type {each.dtype}: give bool {shape}"
            )
        if each is not None and not each.any():
            raise InputError(f"mask {i} is empty: give None for an image whose object is not known")
    return checked


def check_boxes(boxes: Any, n: int, shape: tuple[int, int]) -> list[Any]:
    """Boxes, float32 [k, 4] or None, for n images. Raises InputError for another number, and boxes
    outside the image."""
    if boxes is None:
        return [None] * n
    if (count := _count(boxes)) != n:
        raise InputError(
            f"boxes of {count} images for {n} images: give [k, 4] for each, None for an image"
            " without"
        )
    try:
        checked = [None if each is None else np.asarray(each, np.float32) for each in boxes]
    except (TypeError, ValueError):
        raise InputError(
            "boxes are not numbers: give [k, 4] for each image, x0, y0, x1, y1 in pixels"
        ) from None
    for i, each in enumerate(checked):
        if each is None:
            continue
        if each.ndim != 2 or each.shape[1] != 4 or not len(each):
            raise InputError(
                f"the boxes of image {i} have shape {each.shape}: give [k, 4], x0, y0, x1, y1 in"
                " pixels"
            )
        height, width = shape
        inside = (
            (each >= 0)
            & (each <= [width, height, width, height])
            & np.tile(each[:, 2:] > each[:, :2], 2)
        )
        if not inside.all():
            worst = ", ".join(
                f"{value:g}" for value in each[int(np.flatnonzero(~inside.all(axis=1))[0])]
            )
            raise InputError(
                f"a box of image {i} is empty or outside its {width}x{height} pixels: x0, y0, x1,"
                f" y1 = {worst}"
            )
    return checked


def _count(given: Any) -> int:
    """How many there are; one thing that is no list counts as none."""
    return len(given) if isinstance(given, Sized) else 0


def check_possible(metric: Metric, scene: Scene, explainer: Explainer | None) -> None:
    """Raises InputError for a metric that looks at what was not given."""
    if metric.needs == "mask" and all(each is None for each in scene.masks):
        raise InputError(
            f"{metric.id} compares a map with the object's pixels: give masks or boxes"
        )
    if metric.needs == "boxes" and all(each is None for each in scene.boxes):
        raise InputError(f"{metric.id} compares a map with the object's boxes: give boxes")
    if metric.needs == "explain" and explainer is None:
        raise InputError(
            f"{metric.id} runs the method again: say with method= which one made the maps"
        )


def _metric(asked: str | Metric) -> Metric:
    return metrics.find(asked) if isinstance(asked, str) else asked


def _on_host(metric: Metric, scene: Scene, i: int) -> np.ndarray:
    image, saliency, attribution = (
        np.asarray(each[i]) for each in (scene.images, scene.saliency, scene.attribution)
    )
    sample = Sample(
        image, saliency, attribution, int(scene.targets[i]), scene.masks[i], scene.boxes[i]
    )
    return np.asarray(metric.measure(None, sample, key=None))


def _numeric(config: Any) -> Any:
    """A config whose numbers are arrays, so that another number compiles nothing."""
    return jax.tree.map(
        lambda leaf: np.float32(leaf) if isinstance(leaf, float | int) else leaf, config
    )


def _at_a_time() -> int:
    return ON_CPU if jax.default_backend() == "cpu" else ON_ACCELERATOR
