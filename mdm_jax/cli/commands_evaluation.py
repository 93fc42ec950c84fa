"""What `mdm evaluate` and `mdm benchmark` do, without the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mdm_jax import images, methods, metrics
from mdm_jax.cli.explain import Result, finite
from mdm_jax.data import open_source
from mdm_jax.data.class_mapping import class_number, class_numbers
from mdm_jax.data.source import Source
from mdm_jax.errors import InputError, unknown
from mdm_jax.evaluation import benchmark, saved_maps, table_text, tables
from mdm_jax.evaluation.benchmark_config import TARGETS, BenchmarkConfig
from mdm_jax.evaluation.evaluate import evaluate
from mdm_jax.models.architectures import is_known
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.fingerprint import network_fingerprint
from mdm_jax.models.pretrained import load_model
from mdm_jax.progress import Progress, task
from mdm_jax.runs.reader import open_run
from mdm_jax.runs.store import DESCRIPTION
from mdm_jax.storage import arrays
from mdm_jax.storage.atomic import check_writable, write_whole
from mdm_jax.views import benchmark_figures, explanation_figures

MAX_GRID = 100
"""images; a PNG holds no more rows than 2^16 pixels"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `mdm evaluate` was asked."""

    maps: Path
    load: Callable[[], Classifier]
    data: str
    split: str
    limit: int | None
    metrics: tuple[str, ...]
    targets: str
    method: str | None
    seed: int
    micro_batch: int | None
    out: Path


def told(maps: Path) -> dict[str, Any]:
    """What a run says of its network and data; empty where the maps are none, or only a program can
    open it again."""
    if not (maps / DESCRIPTION).exists():
        return {}
    return dict(open_run(maps).description.get("request") or {})


def evaluate_maps(request: Request, progress: Progress) -> Result:
    """Score saved maps; a table, and every image's statistics as an .npz in `request.out`."""
    if request.targets not in TARGETS:
        raise unknown("kind of targets", request.targets, TARGETS)
    if request.limit is not None and request.limit < 1:
        raise InputError(f"limit is {request.limit}: give a whole number from 1")
    found = saved_maps.read(request.maps)
    chosen = (
        None if request.method is None else methods.configure(request.method).with_default_config()
    )
    check_writable(request.out)
    classifier = request.load()
    if (request.maps / DESCRIPTION).exists():
        made = open_run(request.maps).settings["model"]["weights"]
        if made != network_fingerprint(classifier)["weights"]:
            raise InputError(
                f"{images.printable(request.maps)} was made with other weights than"
                f" {classifier.name}'s: give its --model and --weights, or leave both out"
            )
    source = open_source(request.data, request.split)
    framed, skipped = saved_maps.matched(
        found, source, classifier.preprocessing, request.limit, request.maps
    )
    targets = found.targets
    if targets is None and request.targets == "label":
        numbers = class_numbers(source.class_names, classifier.class_names)
        targets = np.asarray([class_number(numbers, each.label) for each in framed])
        if (targets < 0).any():
            lacking = framed[int(np.flatnonzero(targets < 0)[0])]
            raise InputError(
                f"the network has no class for the label of {lacking.id}: leave --targets label out"
                " to use its first choice"
            )
    with task(progress, "measuring", len(framed)) as advance:
        scores = evaluate(
            classifier,
            np.stack([each.image for each in framed]),
            found.saliency,
            targets,
            attribution=found.attribution,
            object_masks=[each.mask for each in framed],
            boxes=[each.boxes for each in framed],
            metrics=request.metrics,
            key=request.seed,
            ids=[each.id for each in framed],
            method=None if chosen is None else chosen.name,
            config=None if chosen is None else chosen.config,
            micro_batch=request.micro_batch,
            on_progress=advance,
        )
    rows = [
        {"metric": name}
        | {
            what: finite(each)
            for what, each in zip(("value", "low", "high"), (each.value, *each.interval))
        }
        | {"better": each.better, "images": each.counted, "without truth": each.without_truth}
        for name, each in scores.summary().items()
    ]
    summary = f"network {classifier.name}, {len(framed)} maps, 95 % bootstrap intervals over images"
    summary += "".join(f"\n  skipped: {reason}" for reason in skipped)
    result = Result(
        rows, summary, [str(request.out / name) for name in ("scores.json", saved_maps.SCORES)]
    )
    request.out.mkdir(parents=True, exist_ok=True)
    write_whole(
        request.out / "scores.json",
        lambda file: file.write(json.dumps(asdict(result), indent=2).encode()),
    )
    arrays: dict[str, Any] = {name: scores.per_image(name) for name in scores.measured}
    write_whole(
        request.out / saved_maps.SCORES,
        lambda file: np.savez_compressed(file, ids=np.asarray(scores.ids), **arrays),
    )
    return result


def model_loaders(
    models: Sequence[str], image_size: int | None
) -> dict[str, Callable[[], Classifier]]:
    """How each of `NAME`, `NAME=WEIGHTS`, `LABEL=WEIGHTS` or the place of weights is loaded, by its
    label.

    Raises InputError for two of one label.
    """
    loaders: dict[str, Callable[[], Classifier]] = {}
    for text in models:
        label, given, place = text.partition("=")
        if (
            not given
            and ("/" in text or Path(text).exists())
            and not is_known(text.partition(".")[0])
        ):
            label, place = "-".join(Path(text).parts[-2:]), text
        if label in loaders:
            raise InputError(
                f"two models are called {label}: write LABEL={place or text} to tell them apart"
            )
        name = label if is_known(label.partition(".")[0]) or not place else None
        loaders[label] = partial(load_model, name, weights=place or None, image_size=image_size)
    if not loaders:
        raise InputError("no models: give one or more, such as resnet vit")
    return loaders


def run_benchmark(
    plan: BenchmarkConfig,
    models: Mapping[str, Callable[[], Classifier]],
    source: Source,
    *,
    data: str,
    grid: int,
    reference: str | None,
    worst: str | None,
    progress: Progress,
) -> Result:
    """Compute what is missing, then write table.md, table.csv, and for each network a table, a
    figure and a grid of maps."""
    if reference is not None and reference not in plan.methods:
        raise unknown("reference", reference, plan.methods)
    if not 0 <= grid <= MAX_GRID:
        raise InputError(f"--grid is {grid}: give 0 to {MAX_GRID} images")
    judge = None if worst is None else metrics.find(worst)
    if judge is not None and (
        judge.id not in {metrics.find(each).id for each in plan.metrics} or judge.better == "none"
    ):
        raise InputError(
            f"--worst is {worst!r}: give one of the metrics that are measured, which has a better"
            " and a worse"
        )
    results = benchmark.run(plan, models, source, data=data, progress=progress)
    table = tables.build(results, reference)
    files = [plan.out / "table.md", plan.out / "table.csv"]
    for path, text in zip(files, (table_text.markdown(table), table_text.to_csv(table))):
        write_whole(path, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    for model in table.models:
        folder = plan.out / arrays.file_name(model)
        drawn = {
            "table": benchmark_figures.picture(table, model),
            "cost": benchmark_figures.quality_against_cost(table, model),
            "maps": benchmark_figures.map_grid(results, model, grid) if grid else None,
            "worst": (
                benchmark_figures.map_grid(results, model, grid, (table.reference, judge.id))
                if grid and judge
                else None
            ),
        }
        for name, figure in drawn.items():
            if figure is not None:
                explanation_figures.save(figure, folder / f"{name}.png")
                files.append(folder / f"{name}.png")
    summary = "\n".join(f"  {note}" for note in (*table.notes, *table_text.missing(table)))
    return Result(table_text.to_records(table), summary, [images.printable(path) for path in files])
