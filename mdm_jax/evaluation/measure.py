"""One metric on many images: compiled once for each metric, network and shape."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from mdm_jax import methods, nodes
from mdm_jax.errors import InputError
from mdm_jax.evaluation.scene import Scene
from mdm_jax.evaluation.statistics import Measured
from mdm_jax.execution.keys import as_key
from mdm_jax.execution.micro_batches import run_in_micro_batches
from mdm_jax.execution.network import Rest, join, split
from mdm_jax.methods import MethodLike
from mdm_jax.metrics import Metric, Sample
from mdm_jax.types import ExplainFunction, Node, Predict

# Images measured at a time; a metric shows the network many versions of each.
ON_CPU, ON_ACCELERATOR = 8, 32


class Explainer(NamedTuple):
    """A method with its node and config, for metrics that run it again."""

    solve: ExplainFunction
    node: str | Node
    config: Any


def make_explainer(method: MethodLike, node: str | Node | None, config: Any) -> Explainer:
    """A method with its node and config, as `mdm_jax.explain` would use them."""
    chosen = methods.configure(method, config)
    return Explainer(
        chosen.explain, chosen.default_node if node is None else node, chosen.config
    )


def check_needs(metric: Metric, scene: Scene, explainer: Explainer | None) -> None:
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
    """A metric's statistics of the images that have the truth that it looks at.

    `network` is a callable pytree. `micro_batch` images are measured at a time.
    """
    rows = _rows_with_truth(metric, scene)
    if not len(rows):
        return Measured(np.zeros(0), rows)
    if len(rows) < len(scene.targets):
        scene = scene.rows(rows)
    if metric.needs == "boxes":
        statistics = np.stack(
            [_measure_on_host(metric, scene, i) for i in range(len(rows))]
        )
        return Measured(statistics, rows)
    if metric.needs == "explain":
        check_needs(metric, scene, explainer)
    else:
        explainer = None  # not used, and so no part of the program
    program = _make_program(metric, network, key, explainer)
    if metric.prepare is not None:
        program = partial(_prepare_and_run, metric, metric.prepare, program)
    # without masks, empty ones: the program has one signature
    masks = (
        np.stack(scene.masks) if metric.needs == "mask" else np.zeros((len(rows), 0), bool)
    )
    batch = (
        scene.images,
        scene.saliency,
        scene.attribution,
        scene.ranking,
        scene.targets,
        masks,
        scene.numbers,
    )
    size = min(micro_batch or _default_size(metric), len(rows))
    statistics = run_in_micro_batches(
        program, batch, size, on_progress or (lambda done: None)
    )
    return Measured(np.asarray(statistics), rows)


def _prepare_and_run(
    metric: Metric,
    prepare: Callable[[Sample], Any],
    program: Callable[..., Any],
    *batch: Any,
) -> Any:
    """Run the program on some images, after what the metric does with each on the host.

    Not for all images at once: what is prepared may be much larger than an image.
    """
    rows = [np.asarray(array) for array in batch]
    prepared = []
    for image, saliency, attribution, ranking, target, mask, _ in zip(*rows):
        mask_or_none = mask if metric.needs == "mask" else None
        sample = Sample(image, saliency, attribution, ranking, target, mask_or_none)
        prepared.append(prepare(sample))
    return program(*batch, np.stack(prepared))


def _rows_with_truth(metric: Metric, scene: Scene) -> np.ndarray:
    if metric.needs == "mask":
        truth = scene.masks
    elif metric.needs == "boxes":
        truth = scene.boxes
    else:
        return np.arange(len(scene.targets))
    return np.flatnonzero([each is not None for each in truth])


def _measure_on_host(metric: Metric, scene: Scene, i: int) -> np.ndarray:
    sample = Sample(
        np.asarray(scene.images[i]),
        np.asarray(scene.saliency[i]),
        np.asarray(scene.attribution[i]),
        np.asarray(scene.ranking[i]),
        int(scene.targets[i]),
        scene.masks[i],
        scene.boxes[i],
    )
    return np.asarray(metric.measure(None, sample, key=None))


def _make_program(
    metric: Metric, network: Predict, key: Key[Array, ""] | int, explainer: Explainer | None
) -> Callable[..., Any]:
    """The compiled program with everything but the images."""
    # a metric without the network is not compiled anew for another one
    used = network if metric.needs in ("network", "explain") else None
    node, config, solve = None, None, None
    if explainer is not None:
        node, config = methods.resolve_references(explainer.node, explainer.config)
        solve = explainer.solve
    arrays, rest = split((used, node, with_array_numbers(config)))
    # every metric draws anew, whatever others are measured
    metric_number = zlib.crc32(metric.id.encode()) & 0x7FFFFFFF
    metric_key = jax.random.fold_in(as_key(key), metric_number)
    return partial(_measure_chunk, arrays, metric_key, rest, metric, solve)


def with_array_numbers(config: Any) -> Any:
    """A config whose numbers are arrays, so that another number compiles nothing."""
    return jax.tree.map(
        lambda leaf: np.float32(leaf) if isinstance(leaf, float | int) else leaf, config
    )


@partial(jax.jit, static_argnums=(2, 3, 4))
def _measure_chunk(
    arrays: list[Any],
    key: Key[Array, ""],
    rest: Rest,
    metric: Metric,
    solve: ExplainFunction | None,
    *batch: Array,
) -> Any:
    network, node, config = join(arrays, rest)

    more = {}
    if solve is not None:

        def explain(image: Array, target: Array, key: Key[Array, ""]) -> Array:
            explanation = solve(network, image, target, node=node, key=key, config=config)
            return explanation.saliency

        more["explain"] = explain

    def one(
        image: Array,
        saliency: Array,
        attribution: Array,
        ranking: Array,
        target: Array,
        mask: Array,
        number: Array,
        prepared: Array | None = None,
    ) -> Any:
        # boxes differ in number from image to image, so `vmap` has none
        mask_or_none = mask if metric.needs == "mask" else None
        sample = Sample(
            image, saliency, attribution, ranking, target, mask_or_none, prepared=prepared
        )
        return metric.measure(network, sample, key=jax.random.fold_in(key, number), **more)

    return jax.vmap(one)(*batch)


def first_choices(
    network: Predict, images: Any, micro_batch: int | None = None
) -> np.ndarray:
    """The class that the network gives each image first."""
    arrays, rest = split(network)
    program = partial(_choices, arrays, rest)
    size = min(micro_batch or _default_size(), len(images))
    return run_in_micro_batches(program, (images,), size, lambda done: None)


@partial(jax.jit, static_argnums=1)
def _choices(arrays: list[Any], rest: Rest, images: Array) -> Array:
    outputs = join(arrays, rest)(images)
    return jax.vmap(lambda one: jnp.argmax(nodes.logits_of(one)).astype(jnp.int32))(outputs)


def _default_size(metric: Metric | None = None) -> int:
    """Images at a time where `micro_batch` is not given."""
    if jax.default_backend() != "cpu":
        return ON_ACCELERATOR
    # many versions of one image already fill a CPU; more images would leave its caches
    if metric is not None and metric.needs in ("network", "explain"):
        return 1
    return ON_CPU
