r"""Every method on ImageNet validation images with boxes, by default with ViT-Ti/16.

    python experiments/quality/benchmark_imagenet.py --annotated imagenet_val300 \
        --models vit_tiny_patch16_224=WEIGHTS
    python experiments/quality/benchmark_imagenet.py --data folder:photos --split val \
        --models resnet50 densenet121

`--annotated` is a folder with images/ and annotations.json: {file: {"label": index of the ImageNet
class, "boxes_xyxy": [[x0, y0, x1, y1], ...] in pixels}}. WEIGHTS is a hub id, a folder with
config.json and model.safetensors, or a file. Any network of timm's ResNets, DenseNets and
Transformers will do, and any folder of images that `mdm benchmark` reads; its classes are matched
with the network's by name, or by number where they are called by one.

Results: `experiments/results/benchmark_imagenet.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments.quality.benchmark_networks import Config, main, parse
from mdm_jax.cli.console import Result, Terminal
from mdm_jax.errors import InputError
from mdm_jax.storage.atomic import check_writable, write_whole


@dataclass(frozen=True, kw_only=True)
class ImageNet(Config):
    models: tuple[str, ...] = ("vit_tiny_patch16_224",)
    annotated: Path | None = None
    """folder with images/ and annotations.json, in place of --data"""
    data: str = ""
    """folder:PATH or tfds:NAME"""
    split: str = "val"
    out: Path = Path("benchmark-imagenet")
    results: str = "benchmark_imagenet"

    def run(self, terminal: Terminal) -> Result:
        if (self.annotated is None) == (not self.data):
            raise InputError(
                "say where the images are: with --annotated or with --data, not with both"
            )
        config = self
        if self.annotated is not None:
            check_writable(self.out)
            write_image_folder(self.annotated, self.out / "data", self.split)
            config = dataclasses.replace(
                self, annotated=None, data=f"folder:{self.out / 'data'}"
            )
        return super(ImageNet, config).run(terminal)


def write_image_folder(
    annotated: Path,
    folder: Path,
    split: str,
    used: Callable[[Path, list[list[float]]], bool] = lambda file, boxes: True,
) -> None:
    """A folder of images as `mdm` reads it: images/ (a link), labels.csv with the number of each
    class, and boxes.csv.

    Images are left out unless `used(file, boxes)`.

    Raises InputError for annotations that are missing or of another form.
    """
    try:
        annotations = json.loads((annotated / "annotations.json").read_text())
        pictures = [
            (f, each)
            for f, each in sorted(annotations.items())
            if used(annotated / "images" / f, each["boxes_xyxy"])
        ]
        labels = [[file, each["label"], split] for file, each in pictures]
        boxes = [[file, *box] for file, each in pictures for box in each["boxes_xyxy"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{annotated} holds no annotations.json of the form that --help tells ({error!r})"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "images").exists():
        try:
            (folder / "images").symlink_to(
                (annotated / "images").resolve(), target_is_directory=True
            )
        except OSError:  # a system without links
            shutil.copytree(annotated / "images", folder / "images")
    _write(folder / "labels.csv", [["file", "label", "split"], *labels])
    _write(folder / "boxes.csv", [["file", "x_min", "y_min", "x_max", "y_max"], *boxes])


def _write(path: Path, rows: list[list[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


if __name__ == "__main__":
    sys.exit(main(parse(ImageNet, __doc__)))
