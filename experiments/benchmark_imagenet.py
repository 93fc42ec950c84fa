"""Every method on ImageNet validation images with boxes, by default with ViT-Ti/16.

    python experiments/benchmark_imagenet.py --annotated imagenet_val300 --models vit_tiny_patch16_224=WEIGHTS
    python experiments/benchmark_imagenet.py --data folder:photos --split val --models resnet50 densenet121

`--annotated` is a folder with images/ and annotations.json: {file: {"label": index of the ImageNet class, "boxes_xyxy":
[[x0, y0, x1, y1], ...] in pixels}}. WEIGHTS is a hub id, a folder with config.json and model.safetensors, or a file. Any
network of timm's ResNets, DenseNets and Transformers will do, and any folder of images that `mdm benchmark` reads; its classes
are matched with the network's by name, or by number where they are called by one.

Measured on every sixth image of imagenet_val300 (50; all 300 would take hours on this machine), with --limit 50. Behind a
value, against MDM, by the 95 % interval of the paired difference: + better, - worse, = tied. F+B: evaluations with a
gradient; F: forwards; s: seconds an image on 2 busy CPU cores (jax 0.10.2).

    vit_tiny_patch16_224          insertion  deletion    energy  pointing maxboxacc      pxap average_d   F+B    F      s
    mdm                               0.800     0.121     0.801     1.000     0.673     0.768     0.852    20    3   1.88
    gradient                          0.647-    0.168-    0.622-    0.760-    0.560-    0.652-    0.999-    1    3   0.14
    input_x_gradient                  0.722-    0.072+    0.681-    0.860-    0.420-    0.640-    1.000-    1    3   0.15
    smoothgrad:samples=20             0.727-    0.079+    0.739-    0.980=    0.713=    0.793=    0.953-   20    3   3.39
    integrated_gradients:steps=20     0.783=    0.055+    0.699-    0.920-    0.593=    0.657-    1.000-   20    3   3.85
    grad_cam                          0.695-    0.270-    0.673-    0.920-    0.620=    0.687-    0.739=    1    3   0.16
    grad_cam_pp                       0.615-    0.335-    0.594-    0.640-    0.440-    0.587-    0.883=    1    3   0.20
    layer_cam                         0.695-    0.220-    0.693-    0.800-    0.307-    0.663-    0.987-    1    3   0.09
    rollout                           0.723-    0.198-    0.681-    0.700-    0.620=    0.718-    0.342+    0    4   0.47
    chefer                            0.783=    0.130=    0.761-    0.940=    0.727=    0.808=    0.554+    1    3   0.49
    random                            0.615-    0.251-    0.603-    0.660-    0.667=    0.603-    0.618+    0    3   0.07
    centre                            0.736-    0.306-    0.721-    0.940=    0.673=    0.764=    0.263+    0    3   0.10
    sobel                             0.676-    0.283-    0.675-    0.840-    0.740+    0.660-    0.943-    0    3   0.07
    n = 50

What it says. MDM is first in insertion (integrated gradients and Chefer tie), first in energy with every interval apart, and
points into the box every time (15 px allowed); PxAP is tied with SmoothGrad and Chefer, and so is MaxBoxAccV2, where Sobel
edges do better than all. It loses deletion to gradients that are fine to the pixel (.055 to .079), and average drop to maps
that keep most of the image: a sparse map multiplied in leaves the picture dark.

Looked at one by one: the 50 maps. The ten of least energy (`--worst energy`), and why: a dung beetle (.20; the map also marks
the rim of its hole, outside a very small box), a tennis ball (.21; two spots on the ball, many faint ones on the fence), a
cash machine taken for a grocery store (.35; the shelves), a boar taken for a beaver (.41; reeds and water), an acorn (.43;
its twig and leaf), a cabbage butterfly (.49; the flowers beside it), ibexes (.52; two of the herd are boxed), rain barrels
(.55; around the lid), a washbasin taken for a bathtub (.60; the tap), a black swan (.62; its reflection). Three explain a
wrong answer, two have boxes that leave out part of what is there, five see the object together with what surrounds it.
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

from benchmark_networks import Config, main, parsed

from mdm_jax.console import Report
from mdm_jax.errors import InputError
from mdm_jax.files import check_writable, write_whole


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
            raise InputError("say where the images are: with --annotated or with --data, not with both")
        config = self
        if self.annotated is not None:
            check_writable(self.out)
            laid_out(self.annotated, self.out / "data", self.split)
            config = dataclasses.replace(self, annotated=None, data=f"folder:{self.out / 'data'}")
        super(ImageNet, config).run(report)


def laid_out(
    annotated: Path, folder: Path, split: str, used: Callable[[Path, list[list[float]]], bool] = lambda file, boxes: True
) -> None:
    """A folder of images as `mdm` reads it: images/ (a link), labels.csv with the number of each class, and boxes.csv.

    Images are left out unless `used(file, boxes)`.

    Raises InputError for annotations that are missing or of another form.
    """
    try:
        annotations = json.loads((annotated / "annotations.json").read_text())
        pictures = [(f, each) for f, each in sorted(annotations.items()) if used(annotated / "images" / f, each["boxes_xyxy"])]
        labels = [[file, each["label"], split] for file, each in pictures]
        boxes = [[file, *box] for file, each in pictures for box in each["boxes_xyxy"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{annotated} holds no annotations.json of the form that --help tells ({error!r})") from error
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "images").exists():
        try:
            (folder / "images").symlink_to((annotated / "images").resolve(), target_is_directory=True)
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
