"""Tiny folders in the layouts of CUB-200-2011 and NIH ChestX-ray14, drawn from a seed, and tiny
trainings on them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import PIL.Image

from mdm_jax import config_files
from mdm_jax.training.config import TrainConfig

CONFIGS = Path(__file__).parents[1] / "experiments" / "configs"
BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "017.Cardinal")
PARTS = ("back", "beak", "left eye")
COLORS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))
X_RAYS = {
    "00000001_000.png": "Cardiomegaly",
    "00000001_001.png": "Cardiomegaly|Emphysema",
    "00000002_000.png": "No Finding",
    "00000003_000.png": "Hernia",
    "00000003_001.png": "Infiltration|Effusion|Mass",
    "00000004_000.png": "Infiltration",
    "00000005_000.png": "Effusion|Infiltration",
    "00000006_000.png": "No Finding",
}
"""findings by image; the last three are the test split"""


def cub(root, images=12):
    """A bird in each image is a rectangle of its class's color; every fourth image is for
    testing."""
    rng = np.random.default_rng(0)
    tables = {
        name: []
        for name in (
            "images",
            "image_class_labels",
            "train_test_split",
            "bounding_boxes",
            "parts/part_locs",
        )
    }
    for number in range(1, images + 1):
        bird, (width, height) = number % len(BIRDS), rng.integers(40, 60, 2).tolist()
        x, y = rng.integers(0, 12, 2).tolist()
        w, h = rng.integers(18, 26, 2).tolist()
        pixels = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
        pixels[y : y + h, x : x + w] = COLORS[bird]
        mask = np.zeros((height, width), np.uint8)
        mask[y : y + h, x : x + w] = 102  # some of the annotators
        mask[y + 2 : y + h - 2, x + 2 : x + w - 2] = 204  # most of them
        name = f"{BIRDS[bird]}/Bird_{number:04d}"
        _save(root / "images" / f"{name}.png", pixels)
        _save(root / "segmentations" / f"{name}.png", mask)
        tables["images"].append(f"{number} {name}.png")
        tables["image_class_labels"].append(f"{number} {bird + 1}")
        tables["train_test_split"].append(f"{number} {int(number % 4 != 0)}")
        tables["bounding_boxes"].append(f"{number} {x:.1f} {y:.1f} {w:.1f} {h:.1f}")
        for part in range(1, len(PARTS) + 1):
            place = (
                f"{x + 2.5 * part} {y + 4.0 * part} 1"
                if (number + part) % 4
                else "0.0 0.0 0"
            )
            tables["parts/part_locs"].append(f"{number} {part} {place}")
    tables["classes"] = [f"{number} {name}" for number, name in enumerate(BIRDS, 1)]
    tables["parts/parts"] = [f"{number} {name}" for number, name in enumerate(PARTS, 1)]
    (root / "parts").mkdir()
    for name, lines in tables.items():
        (root / f"{name}.txt").write_text("".join(f"{line} \n" for line in lines))
    return root


def chestxray14(root, side=64):
    """X-rays of `side` pixels in two of the published folders; boxes are in pixels of 1024, as they
    are published."""
    rng = np.random.default_rng(0)
    rows = []
    for number, (file, findings) in enumerate(X_RAYS.items()):
        pixels = rng.integers(40, 80, (side, side)).astype(np.uint8)
        pixels[: side // 2] += np.uint8(20 * len(findings.split("|")))
        image = PIL.Image.fromarray(pixels).convert(
            "RGBA" if number == 2 else "L"
        )  # some of the published ones are RGBA
        path = root / f"images_{1 + number % 2:03d}" / "images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        rows.append(
            [
                file,
                findings,
                0,
                int(file[:8]),
                "058Y",
                "M",
                "PA",
                2682,
                2749,
                0.143,
                0.143,
                "",
            ]
        )
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View"
        " Position,"
    )
    _table(
        root / "Data_Entry_2017.csv",
        header + "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],",
        rows,
    )
    boxes = [
        ["00000004_000.png", "Infiltrate", 256.0, 128.5, 512.0, 320.0, "", "", ""],
        ["00000005_000.png", "Infiltrate", 100.0, 100.0, 100.0, 100.0, "", "", ""],
        ["00000005_000.png", "Effusion", 512.0, 512.0, 256.0, 128.0, "", "", ""],
        ["00000005_000.png", "Effusion", 0.0, 512.0, 256.0, 128.0, "", "", ""],
    ]
    _table(
        root / "BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h],,,", boxes
    )
    files = list(X_RAYS)
    (root / "train_val_list.txt").write_text("\n".join(files[:-3]))
    (root / "test_list.txt").write_text("\n".join(files[-3:]) + "\n")
    return root


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)


def _table(path, header, rows):
    with path.open("w", newline="") as file:
        file.write(header + "\n")
        csv.writer(file).writerows(rows)


def tiny_training(name, source, out):
    """The training of a config in experiments/configs, on another source and with a network that is
    quick to compile."""
    settings = config_files.read_toml(CONFIGS / name) | {"epochs": 1, "out": str(out)}
    settings["data"] |= {"source": source, "batch": 2, "workers": 0}
    settings["model"] |= {"size": [32, 32], "start_from": ""}
    backbone = {
        "backbone": "resnet",
        "backbone_arguments": {"widths": [4, 8], "depths": [1, 1]},
    }
    settings["model"]["arguments"] |= backbone | {"prototypes_per_class": 1, "width": 4}
    settings["prototypes"] |= {"warm": 0, "push_from": 1, "push_every": 1, "last_layer": 1}
    return config_files.build(TrainConfig, settings)
