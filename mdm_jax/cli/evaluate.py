"""`mdm evaluate`: score saved saliency maps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from mdm_jax import images, methods
from mdm_jax.cli.console import RESULT_PARTS, Result, Terminal, finite
from mdm_jax.cli.label_targets import label_targets
from mdm_jax.cli.options import (
    ComputeOptions,
    Options,
    RecordedImages,
    positional,
    recorded_data,
)
from mdm_jax.data.reading import DataReading
from mdm_jax.data.spec import DataSpec
from mdm_jax.errors import InputError
from mdm_jax.evaluation import saved_maps
from mdm_jax.evaluation.benchmark_config import DEFAULT_METRICS, Targets
from mdm_jax.evaluation.evaluate import Scores, evaluate
from mdm_jax.evaluation.formatting import order_metrics
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.fingerprint import argument_defaults, network_fingerprint
from mdm_jax.models.spec import ModelSpec
from mdm_jax.progress import task
from mdm_jax.runs.reader import open_run
from mdm_jax.runs.store import DESCRIPTION
from mdm_jax.storage import claims
from mdm_jax.storage.atomic import write_whole

FILES = ("scores.json", saved_maps.SCORES)
SCORED = claims.Kind(
    "scoring",
    (*FILES, claims.options_file("evaluate")),
    lambda folder: claims.has_settings(folder / FILES[0], RESULT_PARTS),
)


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(ModelSpec, RecordedImages, DataReading, ComputeOptions, Options):
    """Score saved saliency maps with a network and labeled images.

    MAPS is a folder of mdm run, of mdm explain or of a benchmark's method, an .npy, or an .npz with
    saliency [n, h, w] in [0, 1] (and, where there are, ids, targets, attribution, ranking). Without
    ids the maps are of the data's images in order. A run says its network and data itself.

    Examples:
      mdm evaluate maps.npz --data digits --metrics insertion deletion energy
      mdm evaluate runs/photos --metrics insertion energy --out runs/photos
      mdm evaluate mdm-explain --model resnet50 --data folder:photos --metrics insertion road
      mdm evaluate mdm-benchmark/vit/mdm --model vit --data digits --metrics insertion:rise-224
    """

    maps: Annotated[tyro.conf.Positional[Path | None], positional("MAPS")] = None
    """a folder of mdm run, of mdm explain or of a benchmark's method, an .npz or an .npy"""
    data: Annotated[
        str | None, recorded_data("that of the run when not given, else digits")
    ] = None
    split: str | None = None
    """split of the data; that of the run when neither it nor data is given, else test"""
    metrics: tuple[str, ...] = DEFAULT_METRICS
    """names, ids such as insertion:rise-224, or functions of yours, such as
    my_metrics.py:compactness"""
    targets: Targets = "prediction"
    """which classes were explained, where the maps do not say: prediction (the network's first
    choice) or label"""
    method: str | None = None
    """what made the maps, such as rise:num_samples=1000: for metrics that run it again"""
    micro_batch: int | None = None
    """images measured at a time"""
    out: Path = Path("mdm-evaluate")
    """folder for the results"""

    def run(self, terminal: Terminal) -> Result:
        """Score the maps; a table, and every image's statistics as an .npz."""
        if self.maps is None:
            raise InputError(
                "no maps: give a folder or a file, for example mdm evaluate maps.npz"
            )
        self.check_limit()
        request = _run_request(self.maps)
        maps = saved_maps.read(self.maps)
        method = None
        if self.method is not None:
            method = methods.configure(self.method).with_default_config()
        # Before the network is loaded and the images are measured, which may take minutes.
        claims.check(self.out, SCORED)
        classifier = self._model_spec(request).load()
        _check_network(self.maps, classifier)
        data = self._data_spec(request)
        source = data.open()
        framed, skipped = saved_maps.match_images(
            maps, source, classifier.preprocessing, data.limit, self.maps
        )
        targets = maps.targets
        if targets is None and self.targets == "label":
            targets = label_targets(source, classifier, framed)
        with task(terminal.progress, "measuring", len(framed)) as advance:
            scores = evaluate(
                classifier,
                np.stack([each.image for each in framed]),
                maps.saliency,
                targets,
                attribution=maps.attribution,
                ranking=maps.ranking,
                object_masks=[each.mask for each in framed],
                boxes=[each.boxes for each in framed],
                metrics=self.metrics,
                key=self.seed,
                ids=[each.id for each in framed],
                method=None if method is None else method.name,
                config=None if method is None else method.config,
                micro_batch=self.micro_batch,
                on_progress=advance,
            )
        summary = f"network {classifier.name}, {len(framed)} maps,"
        summary += " 95 % bootstrap intervals over images"
        ordered = order_metrics(scores.metrics)
        notes = []
        if maps.ranking is not None and ordered:
            notes.append(f"order metrics ({ordered}) read the ranking saved with the maps")
        if maps.lost_ranking and ordered:
            notes.append(
                f"order metrics ({ordered}) read the saliency, as the run kept no evidence:"
                " with --evidence it keeps what the method's ranking is made of"
            )
        if maps.incomplete:
            notes.append(maps.incomplete)
        notes += [f"skipped: {reason}" for reason in skipped]
        files = [str(self.out / name) for name in FILES]
        result = Result(_rows(scores), summary, files, out=self.out, notes=notes)
        claims.claim(self.out, SCORED)
        result.save(self.out / "scores.json", self)
        _save_scores(scores, self.out / saved_maps.SCORES)
        return result

    def _model_spec(self, request: dict[str, Any]) -> ModelSpec:
        """The network that is given, else that of the run."""
        spec = ModelSpec(
            model=self.model,
            weights=self.weights,
            image_size=self.image_size,
            dtype=self.dtype,
        )
        # One option of the network is enough: the run's others may be of another network.
        if not request or spec != ModelSpec():
            return spec
        names = ("model", "weights", "image_size", "dtype")
        # What a version did not record, or a stranger left out, is as it is by default;
        # `_check_network` compares the network with the run's.
        known = {name: request[name] for name in names if request.get(name) is not None}
        return ModelSpec(**known)

    def _data_spec(self, request: dict[str, Any]) -> DataSpec:
        """The images that are given, else those of the run; a limit holds for both."""
        spec = DataSpec()
        # Other data need not have the split of the run.
        if self.data is None:
            names = ("data", "split", "limit", "classes", "object_values")
            spec = replace(
                spec, **{name: request[name] for name in names if name in request}
            )
        given: dict[str, Any] = {
            "data": self.data,
            "split": self.split,
            "limit": self.limit,
            "classes": self.classes,
            "object_values": self.object_values,
        }
        return replace(
            spec, **{name: value for name, value in given.items() if value is not None}
        )


def _run_request(maps: Path) -> dict[str, Any]:
    """What a run says of its network and data.

    Empty for maps that are no run, and for a run of a program, which no command can open again."""
    if not (maps / DESCRIPTION).exists():
        return {}
    return dict(open_run(maps).description.get("request") or {})


def _check_network(maps: Path, classifier: Classifier) -> None:
    """Raises InputError where a run's maps are of another network."""
    if not (maps / DESCRIPTION).exists():
        return
    model = open_run(maps).settings["model"]
    identity = network_fingerprint(classifier)
    # Older runs did not write down what the network was made with.
    known = {"weights": model["weights"], **argument_defaults(model)}
    own = {"weights": identity["weights"], **argument_defaults(identity)}
    if any(own.get(name, value) != value for name, value in known.items()):
        raise InputError(
            f"{images.printable(maps)} was made with another network than {classifier.name}'s: give"
            " its --model and --weights, or leave both out"
        )


def _rows(scores: Scores) -> list[dict[str, Any]]:
    """A row for each metric, and one for each of its parts."""
    rows = []
    summaries = scores.summary()
    has_parts = any(each.parts for each in summaries.values())
    for name, each in summaries.items():
        low, high = each.interval
        row = {
            "metric": name,
            "value": finite(each.value),
            "low": finite(low),
            "high": finite(high),
            "better": each.better,
            "images": each.counted,
            "without truth": each.without_truth,
        }
        if has_parts:
            row["spread"] = finite(each.spread)
        rows.append(row)
        for part, value in each.parts.items():
            alone = {"metric": f"{name} {part}", "value": finite(value)}
            rows.append(row | alone | dict.fromkeys(("low", "high", "spread")))
    return rows


def _save_scores(scores: Scores, path: Path) -> None:
    arrays: dict[str, Any] = {name: scores.per_image(name) for name in scores.measured}
    ids = np.asarray(scores.ids)
    write_whole(path, lambda file: np.savez_compressed(file, ids=ids, **arrays))
