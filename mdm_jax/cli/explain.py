"""What the commands do, without the command line: each returns a `Result` of plain values."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from mdm_jax import explain_batch, images, methods, nodes
from mdm_jax.config import MDMConfig
from mdm_jax.data.digits import Digits
from mdm_jax.errors import InputError, unknown
from mdm_jax.execution.timing import Timing, stopwatch
from mdm_jax.metrics import energy_pointing
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.pretrained import EMBEDDED, load_model
from mdm_jax.storage.atomic import check_writable, write_whole
from mdm_jax.types import Explanation, Status
from mdm_jax.views import explanation_figures

if TYPE_CHECKING:
    from mdm_jax.training.config import TrainConfig

SHEET = 16
"""digits shown in the demo's figure, whatever their number in the table"""
OVERLAY_SIDE = 768
"""pixels; the short side of an overlay is the photograph's own, up to this"""

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Result:
    """Rows of plain values, a sentence, and the files written."""

    rows: list[dict[str, Any]]
    summary: str
    files: list[str]


def demo(
    config: MDMConfig,
    count: int,
    seed: int,
    micro_batch: int | None,
    out: Path,
    progress: Progress,
    *,
    model: str = "resnet",
) -> Result:
    """Explain the first `count` test digits with an embedded network; a figure, an animation and
    results in `out`."""
    if model not in EMBEDDED:
        raise unknown("embedded network", model, EMBEDDED)
    source = Digits("test")
    if not 1 <= count <= len(source):
        raise InputError(f"--count is {count}: give 1 to {len(source)}")
    classifier = load_model(model)
    check_writable(out)
    examples = [source[i] for i in range(count)]
    scenes = np.stack([example.image for example in examples])
    with stopwatch() as timing:
        explanation = explain_batch.explain(
            classifier,
            scenes,
            config=config,
            key=seed,
            ids=[example.id for example in examples],
            micro_batch=micro_batch,
            trace=True,
            on_progress=progress,
        )
    energies = np.asarray(
        jax.vmap(energy_pointing)(
            explanation.saliency, jnp.stack([np.asarray(e.mask) for e in examples])
        )
    )
    predictions = [int(target) for target in explanation.info.target]
    rows = [
        {"id": e.id, "label": e.label, "prediction": p}
        | _measured(explanation, i, timing, energy=float(energies[i]))
        for i, (e, p) in enumerate(zip(examples, predictions))
    ]
    chance = float(np.mean([np.mean(np.asarray(example.mask)) for example in examples]))
    result = Result(
        rows,
        f"mean energy inside the digit {energies.mean():.3f} (chance {chance:.3f}),"
        f" {sum(p == e.label for p, e in zip(predictions, examples))} of {count} predictions right,"
        f" {_seconds(timing, count)}",
        [str(out / name) for name in ("demo.png", "learning.gif", "results.json")],
    )
    out.mkdir(parents=True, exist_ok=True)
    sheet = explanation_figures.demo_sheet(
        examples[:SHEET], explanation, predictions, energies.tolist()
    )
    explanation_figures.save(sheet, out / "demo.png")
    first = jax.tree.map(lambda leaf: leaf[0], explanation.trace)
    explanation_figures.save_animation(
        explanation_figures.learning_frames(examples[0], first, config.stack_weights),
        out / "learning.gif",
    )
    write_whole(
        out / "results.json", lambda file: file.write(json.dumps(asdict(result), indent=2).encode())
    )
    return result


@dataclass(frozen=True)
class Request:
    """What `mdm explain` was asked: which files, how to load the network, which classes, and where
    the results go."""

    files: tuple[Path, ...]
    load: Callable[[], Classifier]
    target: int | None
    top: int
    node: str | None
    out: Path
    method: str = "mdm"


def explain_files(
    request: Request, config: Any, seed: int, micro_batch: int | None, progress: Progress
) -> Result:
    """Explain image files; for each file and class an overlay, its masks and an .npz in the folder
    `request.out`."""
    node = methods.configure(request.method).default_node if request.node is None else request.node
    nodes.resolve(node)
    photographs = [images.read(file) for file in request.files]
    classifier = request.load()
    inputs = np.stack([classifier.preprocess(photograph) for photograph in photographs])
    elements = isinstance(nodes.resolve(node), nodes.Entry)
    who, targets = (
        _elements(request, inputs) if elements else _problems(request, classifier, inputs)
    )
    check_writable(request.out)
    with stopwatch() as timing:
        explanation = explain_batch.explain(
            classifier,
            inputs[who],
            targets,
            method=request.method,
            node=node,
            config=config,
            key=seed,
            ids=[request.files[i].name for i in who],
            micro_batch=micro_batch,
            on_progress=progress,
        )
    request.out.mkdir(parents=True, exist_ok=True)
    rows, files = [], []
    stems = _stems(request.files)
    for row, i in enumerate(who):
        one = jax.tree.map(lambda leaf, row=row: leaf[row], explanation)
        target = int(one.info.target)
        kind, name = (
            ("target", f"{node} {target}")
            if elements
            else ("class", classifier.class_names[target])
        )
        measured = _measured(explanation, row, timing)
        rows.append(
            {"file": images.printable(request.files[i]), kind: target, "name": name} | measured
        )
        prefix = request.out / f"{stems[i]}-{kind}{target}"
        change = (
            f"{_shown(measured['before'])} before and {_shown(measured['after'])} after masking"
        )
        title = (
            f"{images.printable(request.files[i].name)}:"
            f" {name if elements else f'{node} of class “{name}”'}, {change}"
        )
        files += _write(
            prefix, request.files[i].name, photographs[i], inputs[i], one, classifier, title
        )
    summary = f"network {classifier.name}, {_seconds(timing, len(who))}"
    return Result(rows, summary, files)


def _elements(request: Request, inputs: np.ndarray) -> tuple[list[int], np.ndarray | None]:
    """As `_problems`, for a node whose targets are no classes, such as the number of a
    prototype."""
    if request.top != 1:
        raise InputError(
            f"--top is for nodes of classes: with --node {request.node} give --target, or neither"
        )
    if request.target is not None and request.target < 0:
        raise InputError(f"--target {request.target} is out of range: give a whole number from 0")
    return list(range(len(inputs))), (
        None if request.target is None else np.full(len(inputs), request.target)
    )


def _problems(
    request: Request, classifier: Classifier, inputs: np.ndarray
) -> tuple[list[int], np.ndarray | None]:
    """Which image and which class each explanation is of; None where it is the first choice.

    Raises InputError for classes that do not exist.
    """
    classes, each = len(classifier.class_names), list(range(len(inputs)))
    if request.target is not None:
        if request.top != 1:
            raise InputError("--target and --top exclude each other: give one of them")
        if not 0 <= request.target < classes:
            raise InputError(
                f"--target {request.target} is out of range: the network has {classes} classes, 0"
                f" to {classes - 1}"
            )
        return each, np.full(len(inputs), request.target)
    if not 1 <= request.top <= classes:
        raise InputError(f"--top {request.top} is out of range: give 1 to {classes}")
    if request.top == 1:
        return each, None
    logits = jax.jit(lambda network, image: network(image[None])[0][0])
    best = [np.argsort(-np.asarray(logits(classifier, image)))[: request.top] for image in inputs]
    return [i for i in each for _ in range(request.top)], np.concatenate(best)


def _write(
    prefix: Path,
    name: str,
    photograph: PIL.Image.Image,
    seen: np.ndarray,
    one: Explanation,
    classifier: Classifier,
    title: str,
) -> list[str]:
    """The overlay, the masks and the arrays of one explanation, each written whole."""
    preprocessing, (height, width) = classifier.preprocessing, seen.shape[:2]
    scale = max(
        1.0, min(min(photograph.size), OVERLAY_SIDE) / min(height, width), 256 / min(height, width)
    )
    side = round(height * scale), round(width * scale)
    crop, mode = preprocessing.crop, preprocessing.crop_mode
    large = images.fit(photograph, side, crop=crop, interpolation="bicubic", mode=mode)
    paths = [prefix.with_name(prefix.name + end) for end in ("-overlay.png", "-masks.png", ".npz")]
    explanation_figures.save_png(
        explanation_figures.overlay(images.to_array(large), one.saliency), paths[0]
    )
    explanation_figures.save(explanation_figures.masks_sheet(seen, one, title), paths[1])
    info = {
        name: np.asarray(value) for name, value in one.info._asdict().items() if name != "terms"
    }
    terms = {f"term_{name}": np.asarray(value) for name, value in one.info.terms.items()}
    vectors = {f"mask_vector_{k}": vector for k, vector in enumerate(one.mask_vectors)}
    signed = {} if one.attribution is None else {"attribution": one.attribution}
    arrays: dict[str, Any] = {
        "image_file": images.printable(name),
        "image": seen,
        "saliency": one.saliency,
    }
    arrays |= signed | vectors | info | terms
    write_whole(paths[2], lambda file: np.savez_compressed(file, **arrays))
    return [images.printable(path) for path in paths]


def _shown(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.3f}"


def finite(value: float) -> float | None:
    """The number, or None where it is NaN or infinite, which JSON does not have."""
    return value if math.isfinite(value) else None


def _measured(explanation: Explanation, i: int, timing: Timing, **more: float) -> dict[str, Any]:
    """The columns that every table of explanations shares; activations of a vector node are shown
    at the target."""
    info = explanation.info

    def activation(values: np.ndarray) -> float | None:
        return finite(float(values[i] if values.ndim == 1 else values[i][info.target[i]]))

    return (
        {"before": activation(info.activation), "after": activation(info.activation_masked)}
        | {"area": finite(float(info.kept_area[i]))}
        | more
        | {
            "status": Status(int(info.status[i])).name.lower().replace("_", " "),
            "evaluations": int(info.evaluations[i]),
            "seconds": timing.running / len(explanation.saliency),
        }
    )


def _seconds(timing: Timing, count: int) -> str:
    return (
        f"{timing.running:.1f} s for {count} explanations after {timing.compiling:.1f} s of"
        " compilation"
    )


def _stems(files: tuple[Path, ...]) -> list[str]:
    """Names for the results: the file's own without its suffix, shortened, numbered where two would
    be the same."""
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        short = file.stem[:60]
        candidates = itertools.chain(
            [short], (f"{short}-{number}" for number in itertools.count(2))
        )
        name = next(each for each in candidates if each.casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def train(config: TrainConfig) -> Result:
    """Train the network that a config describes, watched on standard error; one row an epoch."""
    # Imported here: Orbax and grain take seconds that the other commands need not wait for.
    from mdm_jax.cli.progress_bar import TrainingBar, stoppable
    from mdm_jax.progress import Stopped
    from mdm_jax.training.loop import train as run_training

    with stoppable(TrainingBar()) as progress:
        try:
            trained = run_training(config, progress)
        except Stopped as stopped:
            raise KeyboardInterrupt(str(stopped)) from None
    run = trained.run
    reached = f"{trained.metrics[-1]['eval_accuracy']:.3f}" if trained.metrics else "not known"
    summary = f"{config.data.evaluate} accuracy {reached} after {config.epochs} epochs"
    if trained.was_done:
        summary = f"this training had ended already, nothing was done: {summary}"
    if trained.skipped:
        summary += "".join(f"\n  skipped: {sentence}" for sentence in trained.skipped)
    return Result(
        trained.metrics,
        summary,
        [images.printable(path) for path in (run.weights, run.network, run.metrics)],
    )
