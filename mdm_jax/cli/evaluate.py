"""The commands that score and compare: `mdm evaluate` and `mdm benchmark`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from mdm_jax.cli.console import Report
from mdm_jax.models.pretrained import load_model

EVALUATE_HELP = """Score saved saliency maps with a network and labeled images.

MAPS is a folder of mdm run, of mdm explain or of a benchmark's method, an .npy, or an .npz with saliency [n, h, w] in [0, 1]
(and, where there are, ids, targets, attribution). Without ids the maps are of the data's images in order.

Examples:
  mdm evaluate maps.npz --data digits --metrics insertion deletion energy
  mdm evaluate runs/photos --metrics insertion energy --out runs/photos
  mdm evaluate mdm-explain --model resnet50 --data folder:photos --metrics insertion road
  mdm evaluate mdm-benchmark/vit/mdm --model vit --data digits --metrics insertion:rise-224
"""
BENCHMARK_HELP = """Compare methods on networks and images: a table with intervals, figures, and every map kept.

The same command again goes on where it was stopped; a method, a metric or more images cost only themselves. What may be
chosen: --methods and --metrics of any unknown name lists them.

Examples:
  mdm benchmark --models resnet vit --data digits --limit 100 --methods mdm gradient --metrics insertion deletion energy
  mdm benchmark --models resnet50=timm/resnet50.tv_in1k --data folder:photos --split val --methods mdm rise:samples=1000
  mdm benchmark --models vit=runs/vit --data tfds:mnist --limit 500 --only-correct --out runs/compared
"""
METHODS = ("mdm", "gradient")
METRICS = ("insertion", "deletion", "average_drop", "increase", "energy", "pointing")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    maps: tyro.conf.Positional[Path]
    """the maps: a folder of mdm run, of mdm explain or of a benchmark's method, an .npz or an
    .npy"""
    model: str | None = None
    """network by name; by its weights alone when not given; without either that of the run, else
    the embedded digits network"""
    weights: str | None = None
    """hub id, folder with config.json and model.safetensors, safetensors file, or folder of a
    training"""
    image_size: int | None = None
    """side of the network's input in pixels, in place of its config's"""
    dtype: str = "float32"
    """what the network computes in: float32 or bfloat16"""
    data: str | None = None
    """source of the images and their truth: digits, folder:PATH, tfds:NAME, cub:PATH,
    chestxray14:PATH, or cropped: and one with boxes; the run's own when not given, else digits"""
    split: str | None = None
    """split of the data; the run's own when not given, else test"""
    limit: int | None = None
    """use only so many images, spread evenly over the data"""
    metrics: tuple[str, ...] = METRICS
    """names, ids such as insertion:rise-224, or functions of yours, such as
    my_metrics.py:compactness"""
    targets: str = "prediction"
    """which classes were explained, where the maps do not say: prediction (the network's first
    choice) or label"""
    method: str | None = None
    """what made the maps, such as rise:samples=1000: for metrics that run it again"""
    seed: int = 0
    """seed of metrics that draw"""
    micro_batch: int | None = None
    """images measured at a time"""
    out: Path = Path("mdm-evaluate")
    """folder for the results"""
    json: bool = False
    """print JSON to standard output instead of a table"""

    def run(self, report: Report) -> None:
        from mdm_jax.cli import commands_evaluation as commands

        told = commands.told(self.maps)
        network = (self.model, self.weights, self.image_size, self.dtype)
        if told and network == (None, None, None, "float32"):
            network = tuple(told[name] for name in ("model", "weights", "image_size", "dtype"))
        model, weights, image_size, dtype = network
        of_run = told if self.data is None else {}
        request = commands.Request(
            maps=self.maps,
            load=partial(load_model, model, weights=weights, image_size=image_size, dtype=dtype),
            data=self.data or of_run.get("data", "digits"),
            split=self.split or of_run.get("split", "test"),
            limit=of_run.get("limit") if self.limit is None else self.limit,
            metrics=self.metrics,
            targets=self.targets,
            method=self.method,
            seed=self.seed,
            micro_batch=self.micro_batch,
            out=self.out,
        )
        report.show(commands.evaluate_maps(request, report.progress))


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    models: tuple[str, ...] = ("resnet",)
    """networks: NAME, NAME=WEIGHTS, or LABEL=WEIGHTS where a config.json beside the weights tells
    the network"""
    data: str = "digits"
    """source of the images: digits, folder:PATH, tfds:NAME, cub:PATH, chestxray14:PATH, or cropped:
    and one with boxes"""
    split: str = "test"
    """split of the data"""
    limit: int | None = None
    """use only so many images, spread evenly over the data"""
    methods: tuple[str, ...] = METHODS
    """what is compared, with settings where they differ from the defaults, such as mdm
    mdm:preset=paper rise:samples=1000; a function of yours as my_methods.py:inverse"""
    metrics: tuple[str, ...] = METRICS
    """names, ids such as insertion:rise-224, or functions of yours, such as
    my_metrics.py:compactness"""
    reference: str | None = None
    """the method that others are compared with, as written in --methods; the first mdm when not
    given"""
    targets: str = "prediction"
    """which class is explained: prediction (what the network says) or label (the true class)"""
    only_correct: bool = False
    """use only images that the network classifies correctly"""
    image_size: int | None = None
    """side of the networks' input in pixels, in place of their configs'"""
    seed: int = 0
    """seed of everything random"""
    micro_batch: int | None = None
    """images explained at a time; found from the memory when not given"""
    metric_micro_batch: int | None = None
    """images measured at a time"""
    chunk: int = 50
    """images in a file: what is lost at most when the command is killed"""
    grid: int = 8
    """images in the grid of maps"""
    worst: str | None = None
    """a metric, such as energy: a second grid (worst.png) of the images on which the reference
    method scores worst"""
    out: Path = Path("mdm-benchmark")
    """folder of the maps, the scores, the tables and the figures"""
    json: bool = False
    """print JSON to standard output instead of a table"""

    def run(self, report: Report) -> None:
        from mdm_jax.cli import commands_evaluation as commands
        from mdm_jax.data import open_source
        from mdm_jax.evaluation.benchmark_config import BenchmarkConfig

        plan = BenchmarkConfig(
            methods=self.methods,
            metrics=self.metrics,
            out=self.out,
            limit=self.limit,
            targets=self.targets,  # type: ignore[arg-type]
            only_correct=self.only_correct,
            seed=self.seed,
            micro_batch=self.micro_batch,
            metric_micro_batch=self.metric_micro_batch,
            chunk=self.chunk,
        )
        plan.resolve()
        models = commands.model_loaders(self.models, self.image_size)
        source = open_source(self.data, self.split)
        result = commands.run_benchmark(
            plan,
            models,
            source,
            data=f"{self.data}:{self.split}",
            grid=self.grid,
            worst=self.worst,
            reference=self.reference,
            progress=report.progress,
        )
        report.show(result)
