"""`evaluate`: maps of a batch of images scored by metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Key

from mdm_jax import methods
from mdm_jax.errors import InputError
from mdm_jax.evaluation.measure import check_needs, first_choices, make_explainer, measure
from mdm_jax.evaluation.scene import (
    Scene,
    check_maps,
    check_saliency,
    check_truth,
    rename_masks,
)
from mdm_jax.evaluation.statistics import Scores
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.execution.keys import id_numbers
from mdm_jax.execution.micro_batches import check_micro_batch
from mdm_jax.execution.network import as_network
from mdm_jax.images import check_batch
from mdm_jax.methods import MethodLike
from mdm_jax.metrics import Metric, find_all
from mdm_jax.network_checks import check_network
from mdm_jax.problem import check_targets
from mdm_jax.types import Node, Predict


@own_settings()
def evaluate(
    predict: Predict,
    images: Any,
    saliency: Any,
    targets: Any = None,
    *,
    attribution: Any = None,
    ranking: Any = None,
    object_masks: Any = None,
    boxes: Any = None,
    metrics: str | Metric | Sequence[str | Metric] = ("insertion", "deletion"),
    key: Key[Array, ""] | int = 0,
    ids: Sequence[Any] | None = None,
    method: MethodLike | None = None,
    node: str | Node | None = None,
    config: Any = None,
    micro_batch: int | None = None,
    on_progress: Callable[[int], None] | None = None,
    masks: Any = None,
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
      ranking: maps [n, h, w] whose order of pixels metrics read that show or hide pixels in an
        order (insertion, deletion, ROAD, minimal areas), as `Explanation.ranking`; the saliency
        itself where not given.
      object_masks: the object's pixels, bool [n, h, w], or a list with None for an image without.
      boxes: a list of [k, 4] (x0, y0, x1, y1) in pixels, ends exclusive, or None for an image
        without. Without `object_masks` the pixels of the boxes are the object's.
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
      masks: deprecated name of `object_masks`.

    Returns:
      `Scores`: statistics of every image, and `summary()` with values and 95 % intervals.

    Raises:
      InputError: input that cannot be used.
    """
    metrics_by_id = find_all(metrics)
    object_masks = rename_masks(object_masks, masks)
    images = check_batch(images)
    n, shape = len(images), images.shape[1:]
    network, outputs = as_network(predict, shape)
    saliency = check_saliency(saliency, (n, *shape[:2]))
    attribution = _check_or_saliency(attribution, saliency, "attribution")
    ranking = _check_or_saliency(ranking, saliency, "ranking")
    targets = check_targets(targets, n, outputs)
    ids = range(n) if ids is None else ids
    numbers = id_numbers(ids)
    if len(numbers) != n:
        raise InputError(f"{len(numbers)} ids for {n} images: give one each")
    check_micro_batch(micro_batch)
    true_masks, true_boxes = check_truth(object_masks, boxes, n, shape[:2])
    # only where asked for: the network runs once more for it
    if (targets < 0).any():
        targets = np.where(
            targets < 0, first_choices(network, images, micro_batch), targets
        )
    scene = Scene(
        images, saliency, attribution, ranking, targets, true_masks, true_boxes, numbers
    )
    explainer = None if method is None else make_explainer(method, node, config)
    if explainer is not None:
        node, _ = methods.resolve_references(explainer.node, None)
        network = check_network(network, node, shape)
    # all are checked before the first one runs, which may take long
    for metric in metrics_by_id.values():
        check_needs(metric, scene, explainer)
    measured = {}
    for name, metric in metrics_by_id.items():
        measured[name] = measure(
            metric,
            network,
            scene,
            key=key,
            explainer=explainer,
            micro_batch=micro_batch,
            on_progress=on_progress,
        )
    return Scores(tuple(map(str, ids)), metrics_by_id, measured)


def _check_or_saliency(maps: Any, saliency: np.ndarray, name: str) -> np.ndarray:
    return saliency if maps is None else check_maps(maps, saliency.shape, name)
