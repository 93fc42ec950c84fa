"""What the metrics of faithfulness cost for a batch of images: ours, and as others compute them.

    python experiments/speed/metric_speed.py    # 64 digits, the embedded ResNet, CPU: a few minutes
    python experiments/speed/metric_speed.py --images 8 --others 2
    python experiments/speed/metric_speed.py --boxes    # MaxBoxAcc's boxes instead, a few seconds

Insertion and deletion (28 steps each: 29 evaluations) and ROAD (9 percentages in both orders).
"Ours" is one compiled program over all images; "one by one" the same program for one image, called
in a loop; "others" what public code does: a Python loop over images, in it one compiled forward
pass a step, blurring and changing pixels in NumPy, and for ROAD an assembled sparse system and
`scipy.sparse.linalg.spsolve` an image, percentage and order. `others` images are measured that way
and the time is scaled to all. All three must agree: the largest difference of an image's score is
shown (ROAD adds noise, left out here). `--boxes` shows the seconds of processor time that MaxBoxAcc
takes for one map of 224 pixels, smooth or of independent random pixels, and stores nothing.

Results: `experiments/results/metric_speed.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg
import tyro
from rich.console import Console
from rich.table import Table

from experiments.record_results import Value, write
from mdm_jax import fills, load_model
from mdm_jax.metrics import curves, road, wsol

NEIGHBORS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
Program = Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True)
class Config:
    """What is measured, and how often."""

    network: str = "resnet"
    images: int = 64
    side: int = 64
    others: int = 4
    """images measured in the others' way"""
    repeats: int = 3
    boxes: bool = False
    """only MaxBoxAcc's search of boxes"""
    results: str = "metric_speed"
    """name of the file in experiments/results that is written; none when empty"""


def ours(
    metric: str, predict: Any, image: jax.Array, saliency: jax.Array, target: jax.Array
) -> jax.Array:
    """One image's score by this package."""
    if metric == "insertion":
        return curves.insertion(predict, image, saliency, target)
    if metric == "deletion":
        return curves.deletion(predict, image, saliency, target)
    scores = road.probabilities(
        predict, image, saliency, target, key=jax.random.key(0), noise=0.0
    ).mean(axis=1)
    return (scores[1] - scores[0]) / 2


def all_images(
    metric: str, predict: Any, images: jax.Array, saliency: jax.Array, targets: jax.Array
) -> jax.Array:
    """All images' scores in one program: on CPU one after the other, for its caches, and else
    together."""
    one = partial(ours, metric, predict)
    together = 1 if jax.default_backend() == "cpu" else len(images)
    return jax.lax.map(
        lambda sample: one(*sample), (images, saliency, targets), batch_size=together
    )


def theirs(
    metric: str,
    probability: Callable[[Any, Any], Any],
    neutral: Any,
    image: Any,
    saliency: Any,
    target: int,
) -> float:
    """One image's score as public code computes it, step by step."""
    order = np.argsort(-saliency.ravel(), kind="stable")
    if metric == "road":
        means = []
        for chosen in (order, order[::-1]):
            scores = []
            for percentage in road.PERCENTAGES:
                removed = np.zeros(saliency.size, bool)
                removed[chosen[: percentage * saliency.size // 100]] = True
                scores.append(
                    float(
                        probability(impute(image, removed.reshape(saliency.shape)), target)
                    )
                )
            means.append(np.mean(scores))
        return float(means[1] - means[0]) / 2
    if metric == "insertion":
        delta = np.zeros((11, 11))
        delta[5, 5] = 1
        kernel = scipy.ndimage.gaussian_filter(delta, 5)[..., None]
        now = (
            scipy.ndimage.convolve(image - neutral, kernel, mode="constant") + neutral
        ).astype(np.float32)
        finish = image
    else:
        now, finish = image.copy(), np.broadcast_to(neutral, image.shape)
    step = -(-saliency.size // 28)
    scores = [float(probability(now, target))]
    for start in range(0, saliency.size, step):
        pixels = np.unravel_index(order[start : start + step], saliency.shape)
        now[pixels] = finish[pixels]
        scores.append(float(probability(now, target)))
    return float(np.trapezoid(scores, dx=1 / (len(scores) - 1)))


def impute(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Linear imputation by a sparse factorization, assembled an offset at a time as the authors of
    ROAD do."""
    height, width, channels = image.shape
    rows, columns = np.nonzero(removed)
    number = np.zeros((height, width), int)
    number[rows, columns] = np.arange(len(rows))
    matrix = scipy.sparse.lil_matrix((len(rows), len(rows)))
    right, total = np.zeros((len(rows), channels)), np.zeros(len(rows))
    for dy, dx in NEIGHBORS:
        weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
        y, x = rows + dy, columns + dx
        inside = np.flatnonzero((y >= 0) & (y < height) & (x >= 0) & (x < width))
        total[inside] += weight
        unknown = inside[removed[y[inside], x[inside]]]
        known = inside[~removed[y[inside], x[inside]]]
        matrix[unknown, number[y[unknown], x[unknown]]] = -weight
        right[known] += weight * image[y[known], x[known]]
    matrix[np.arange(len(rows)), np.arange(len(rows))] = total
    filled = image.copy()
    filled[rows, columns] = scipy.sparse.linalg.spsolve(
        scipy.sparse.csc_matrix(matrix), right
    )
    return filled


def seconds(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median time of a call, and what it returns."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = jax.block_until_ready(function())
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)), result


class Batch(NamedTuple):
    """Images with their maps and classes."""

    images: np.ndarray
    saliency: np.ndarray
    targets: np.ndarray


def time_ours(metric: str, predict: Any, batch: Batch, repeats: int) -> tuple[float, Any]:
    """Seconds and scores of all images in one program, compiled before."""
    program = jax.jit(partial(all_images, metric))
    jax.block_until_ready(program(predict, *batch))
    return seconds(lambda: program(predict, *batch), repeats)


def time_one_by_one(metric: str, predict: Any, batch: Batch) -> tuple[float, Any]:
    """Seconds and scores of the program of one image, called in a loop."""
    program = jax.jit(partial(ours, metric))
    jax.block_until_ready(program(predict, *next(zip(*batch))))
    return seconds(lambda: [program(predict, *sample) for sample in zip(*batch)], 1)


def time_others(
    metric: str, probability: Any, neutral: Any, batch: Batch, numbers: range
) -> tuple[float, Any]:
    """Seconds and scores of some images as public code computes them."""

    def score(i: int) -> float:
        image, saliency, target = batch.images[i], batch.saliency[i], int(batch.targets[i])
        return theirs(metric, probability, neutral, image, saliency, target)

    return seconds(lambda: [score(i) for i in numbers], 1)


def time_boxes(repeats: int) -> Table:
    """Median seconds of processor time that the boxes of one map take."""
    noise = np.random.default_rng(0).uniform(size=(wsol.SIDE, wsol.SIDE))
    maps = {"random": noise, "smooth": scipy.ndimage.gaussian_filter(noise, 20)}
    boxes = np.array([[60.0, 50.0, 150.0, 140.0]])
    table = Table(
        "map", "MaxBoxAcc", "MaxBoxAccV2", title="seconds a map, MaxBoxAcc's boxes"
    )
    for name, saliency in maps.items():
        row = []
        for ious, largest in (((0.5,), True), (wsol.IOUS, False)):
            taken = []
            for _ in range(repeats):
                start = time.process_time()
                wsol.box_hits(saliency, boxes, ious=ious, largest=largest)
                taken.append(time.process_time() - start)
            row.append(f"{np.median(taken):.3f}")
        table.add_row(name, *row)
    return table


def main(config: Config) -> None:
    if config.boxes:
        Console(width=120).print(time_boxes(config.repeats))
        return
    predict, rng = load_model(config.network), np.random.default_rng(0)
    neutral = np.asarray(fills.neutral_color(predict, 3))
    noise = rng.normal(size=(2, config.images, config.side, config.side, 3))
    images = np.clip(
        0.5 + scipy.ndimage.gaussian_filter(noise[0], (0, 3, 3, 0)) * 3, 0, 1
    ).astype(np.float32)
    saliency = scipy.ndimage.gaussian_filter(noise[1, ..., 0], (0, 4, 4)).astype(np.float32)
    targets = np.asarray(jax.jit(lambda images: predict(images)[0].argmax(-1))(images))
    probability = jax.jit(
        lambda image, target: jax.nn.softmax(predict(image[None])[0][0])[target]
    )
    probability(images[0], int(targets[0]))  # compiled

    title = (
        f"{config.images} images of {config.side}x{config.side}, {config.network},"
        f" {jax.devices()[0].device_kind}, seconds"
    )
    table = Table(title=title)
    for column in (
        "metric",
        "ours",
        "ours, one by one",
        "others",
        "others / ours",
        "difference",
    ):
        table.add_column(
            column, justify="left" if column == "metric" else "right", no_wrap=True
        )
    total, recorded = np.zeros(3), []
    batch = Batch(images, saliency, targets)
    for metric in ("insertion", "deletion", "road"):
        together, scores = time_ours(metric, predict, batch, config.repeats)
        alone, again = time_one_by_one(metric, predict, batch)
        few = range(min(config.others, config.images))
        other, expected = time_others(metric, probability, neutral, batch, few)
        other *= config.images / len(few)
        difference = max(
            np.abs(scores - jnp.stack(again)).max(),
            np.abs(scores[: len(few)] - np.array(expected)).max(),
        )
        total += (together, alone, other)
        row = [f"{value:.2f}" for value in (together, alone, other)]
        table.add_row(metric, *row, f"{other / together:.1f}", f"{difference:.1e}")
        recorded += seconds_of(metric, (together, alone, other))
        recorded.append(
            {"metric": metric, "quantity": "difference", "value": float(difference)}
        )
    table.add_row(
        "all", *[f"{value:.2f}" for value in total], f"{total[2] / total[0]:.1f}", ""
    )
    recorded += seconds_of("all", tuple(total))
    Console(width=120).print(table)
    if config.results:
        write(config.results, recorded)


def seconds_of(metric: str, seconds: tuple[float, ...]) -> list[Value]:
    """The seconds of a metric by the three ways, for the results."""
    together, alone, other = seconds
    quantities = {
        "ours": together,
        "one by one": alone,
        "others": other,
        "others / ours": other / together,
    }
    return [
        {"metric": metric, "quantity": q, "value": value} for q, value in quantities.items()
    ]


if __name__ == "__main__":
    main(tyro.cli(Config, config=(tyro.conf.FlagCreatePairsOff,)))
