"""Every method on ImageNet validation images with boxes, by default with ViT-Ti/16.

    python experiments/quality/benchmark_imagenet.py --annotated imagenet_val300 --models
      vit_tiny_patch16_224=WEIGHTS
    python experiments/quality/benchmark_imagenet.py --data folder:photos --split val --models
      resnet50 densenet121

`--annotated` is a folder with images/ and annotations.json: {file: {"label": index of the ImageNet
class, "boxes_xyxy": [[x0, y0, x1, y1], ...] in pixels}}. WEIGHTS is a hub id, a folder with
config.json and model.safetensors, or a file. Any network of timm's ResNets, DenseNets and
Transformers will do, and any folder of images that `mdm benchmark` reads; its classes are matched
with the network's by name, or by number where they are called by one.

Measured on every tenth image of imagenet_val300 (30; all 300 would take hours on this machine),
with --limit 30 and the metrics and methods shown. Behind a value, against MDM, by the 95 % interval
of the paired difference: + better, - worse, = tied. F+B: evaluations with a gradient; F: forwards;
s: seconds an image on 2 busy CPU cores (jax 0.10.2).

    vit_tiny_patch16_224            insertion  deletion    energy  pointing maxboxacc      pxap
    average_d   F+B     F      s
    mdm                                0.718     0.091     0.708     0.900     0.533     0.632
      0.822     15     3   1.98 gradient                           0.594-    0.130-    0.578-
      0.700=    0.489=    0.621=    0.999-     1     3   0.29 input_x_gradient
      0.681=    0.050+    0.619-    0.767=    0.411-    0.572=    0.999-     1     3   0.24
      smoothgrad:samples=20              0.642-    0.069=    0.663-    0.933=    0.644=    0.723+
      0.959-    20     3   2.53 integrated_gradients:steps=20      0.712=    0.033+    0.639-
      0.833=    0.511=    0.598=    1.000-    20     3   2.55 grad_cam
      0.596-    0.231-    0.605-    0.867=    0.522=    0.585=    0.811=     1     3   0.16
      grad_cam_pp                        0.562-    0.256-    0.543-    0.667-    0.500=    0.542=
      0.755=     1     3   0.17 layer_cam                          0.622-    0.178-    0.669=
      0.867=    0.278-    0.587=    0.985-     1     3   0.15 rollout
      0.619-    0.156-    0.616-    0.667-    0.544=    0.651=    0.431+     0     4   0.49 chefer
      0.694=    0.102=    0.695=    0.900=    0.600=    0.748+    0.560+     1     3   0.88 random
      0.515-    0.189-    0.534-    0.633-    0.600=    0.534-    0.704=     0     3   0.10 center
      0.662=    0.248-    0.663=    0.900=    0.578=    0.715+    0.257+     0     3   0.10 sobel
      0.598-    0.262-    0.570-    0.600-    0.611=    0.533-    0.896=     0     3   0.11 n = 30

What it says. MDM is first in insertion (integrated gradients, Chefer, input x gradient and the
center tie) and in energy (Chefer, LayerCAM and the center tie). Pointing (15 px allowed) and
MaxBoxAccV2 are tied with most; in PxAP SmoothGrad, Chefer and a Gaussian in the center are better:
a sparse map does not fill a box. It loses deletion to gradients that are fine to the pixel (.033,
.050), and average drop to maps that keep most of the image: a sparse map multiplied in leaves the
picture dark.

Looked at one by one, with an earlier default on 50 images: the maps. The ten of least energy
(`--worst energy`), and why: a dung beetle (.20; the map also marks the rim of its hole, outside a
very small box), a tennis ball (.21; two spots on the ball, many faint ones on the fence), a cash
machine taken for a grocery store (.35; the shelves), a boar taken for a beaver (.41; reeds and
water), an acorn (.43; its twig and leaf), a cabbage butterfly (.49; the flowers beside it), ibexes
(.52; two of the herd are boxed), rain barrels (.55; around the lid), a washbasin taken for a
bathtub (.60; the tap), a black swan (.62; its reflection). Three explain a wrong answer, two have
boxes that leave out part of what is there, five see the object together with what surrounds it."""

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

from experiments.quality.benchmark_networks import Config, main, parsed
from mdm_jax.cli.console import Report
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

    def run(self, report: Report) -> None:
        if (self.annotated is None) == (not self.data):
            raise InputError(
                "say where the images are: with --annotated or with --data, not with both"
            )
        config = self
        if self.annotated is not None:
            check_writable(self.out)
            laid_out(self.annotated, self.out / "data", self.split)
            config = dataclasses.replace(self, annotated=None, data=f"folder:{self.out / 'data'}")
        super(ImageNet, config).run(report)


def laid_out(
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
    sys.exit(main(parsed(ImageNet, __doc__)))
