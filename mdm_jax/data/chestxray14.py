"""NIH ChestX-ray14 (Wang et al., 2017): chest X-rays with any number of 14 findings.

In the folder as it is published: PNG files in `images/` or in `images_001/` to `images_012/` and
below, with Data_Entry_2017.csv (or its version of 2020), train_val_list.txt and test_list.txt;
BBox_List_2017.csv where it is. Images that were not downloaded are left out."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from mdm_jax import images
from mdm_jax.data import image_files, tables
from mdm_jax.data.annotations import clip_boxes
from mdm_jax.data.source import ALL, UNKNOWN, Example, ImageItem, find_split
from mdm_jax.errors import InputError, unknown
from mdm_jax.text_files import file_id, read_text

# In the order of the publication; the first eight are those that have boxes.
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
NOTHING = "No Finding"

# How BBox_List_2017.csv writes findings that the other table writes otherwise.
ALIASES = {"Infiltrate": "Infiltration"}

# The header of BBox_List_2017.csv is `Image Index,Finding Label,Bbox [x,y,w,h],,,`, so its brackets
# fall into four columns.
CORNERS = ("Bbox [x", "y", "w", "h]")
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}

# The split of images with boxes: one item for each image and finding that has some.
BOXED = "boxes"

# Pixels of a published image, in which boxes are measured; those of a smaller copy shrink.
SIDE = 1024


@dataclass(frozen=True)
class ChestXray14:
    """Source of the X-rays of one split.

    `id` is the file's name, in the split `boxes` with `#` and the finding."""

    name: str
    root: Path
    split: str
    files: tuple[str, ...]
    """what the items are called"""
    paths: tuple[str, ...] = field(repr=False)
    """where they lie in the folder"""
    labels: tuple[int, ...] = field(repr=False)
    """the only finding of an image, of a box in the split `boxes`; else `UNKNOWN`"""
    multi_hot: Float32[np.ndarray, "n classes"] = field(repr=False, compare=False)
    boxes: Mapping[str, np.ndarray] = field(repr=False)
    """[k, 4] in pixels of the published image by item; an item without boxes is not in it"""
    class_names: tuple[str, ...] = FINDINGS

    def __len__(self) -> int:
        return len(self.files)

    def read_image(self, index: int) -> ImageItem:
        """Image and labels of an item, without its boxes.

        Raises InputError for a file that cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has items 0 to {len(self) - 1}, not {index}")
        image = images.read(self.root / self.paths[index])
        id = file_id(self.files[index])
        return ImageItem(id, image, self.labels[index], self.multi_hot[index])

    def read_boxes(self, index: int) -> tuple[ImageItem, Float32[np.ndarray, "k 4"] | None]:
        """As `read_image`, and the item's boxes. Raises InputError for one that is empty."""
        item, boxes = self.read_image(index), self.boxes.get(self.files[index])
        if boxes is None:
            return item, None
        scale = [item.image.width / SIDE, item.image.height / SIDE] * 2
        return item, clip_boxes(boxes * scale, item.image, item.id)

    def __getitem__(self, index: int) -> Example:
        item, boxes = self.read_boxes(index)
        image = images.to_array(item.image)
        return Example(item.id, image, item.label, None, boxes, item.labels)


def open_chestxray14(path: str, split: str) -> ChestXray14:
    """The images of a split: "train" (the published train_val list), "test", "boxes" or "all".

    In the split "boxes" each item is an image with the boxes of one finding, which is its label; in
    the others an image has all of its boxes. Warns of images that are listed and not there. Raises
    InputError for a folder that is missing, holds none of them, or whose tables are missing or
    malformed."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(
            f"{path} is not a folder: give the folder that holds Data_Entry_2017.csv, as"
            " chestxray14:PATH"
        )
    used = (
        split if split == ALL else find_split(split, (*LISTS, BOXED), f"chestxray14:{path}")
    )
    try:
        places, findings, boxes = _places(root), _findings(root), _boxes(root)
        listed = _read_list(root / LISTS[used]) if used in LISTS else sorted(findings)
    except OSError as error:
        raise InputError(
            f"cannot read {images.printable(error.filename or root)} ({error.strerror}): check"
            f" {path}"
        ) from error
    lacking = [file for file in (*listed, *boxes) if file not in findings]
    if lacking:
        raise InputError(
            f"{images.printable(lacking[0])} is listed in {path} but not in its"
            " Data_Entry_2017.csv: mend the lists"
        )
    items: list[tuple[str, int]] = []
    for file in listed:
        if used == BOXED:
            items += [(file, number) for number in sorted(boxes.get(file, ()))]
        else:
            items.append((file, _only_finding(findings[file])))
    existing = [(file, number) for file, number in items if file in places]
    _check_complete(path, used, len(items), len(existing))
    names, item_boxes = [], {}
    for file, number in existing:
        name = f"{file}#{FINDINGS[number]}" if used == BOXED else file
        names.append(name)
        if used == BOXED:
            item_boxes[name] = boxes[file][number]
        elif file in boxes:
            item_boxes[name] = np.concatenate([*boxes[file].values()])
    return ChestXray14(
        name=f"chestxray14:{path}",
        root=root,
        split=used,
        files=tuple(names),
        paths=tuple(places[file] for file, _ in existing),
        labels=tuple(number for _, number in existing),
        multi_hot=np.stack([findings[file] for file, _ in existing]),
        boxes=item_boxes,
    )


def _check_complete(path: str, split: str, count: int, existing: int) -> None:
    """Raises InputError where no image of the split is there; warns where some are missing."""
    if not existing:
        raise InputError(
            f"{path} holds none of the {count} images of {split}: give the folder with images/"
            " or images_001/"
        )
    if existing < count:
        warnings.warn(
            f"{count - existing} of the {count} items of {split} are not in {path}: they are left"
            " out, and the results are of the rest",
            stacklevel=3,  # whoever opens the source
        )


def _places(root: Path) -> dict[str, str]:
    """Where each image lies, by its name."""
    folders = sorted(
        folder.name
        for folder in root.iterdir()
        if re.fullmatch(r"images(_\d+)?", folder.name) and folder.is_dir()
    )
    places: dict[str, str] = {}
    for folder in folders:
        for file, is_image in sorted(image_files.walk(root, folder)):
            if is_image:
                places.setdefault(file.rpartition("/")[2], file)  # of two copies, the first
    return places


def _findings(root: Path) -> dict[str, Float32[np.ndarray, " classes"]]:
    """1 for each finding of each image, by its name."""
    published = sorted(root.glob("Data_Entry_2017*.csv"))
    if not published:
        raise InputError(
            f"{images.printable(root)} lacks Data_Entry_2017.csv: give the folder as it is"
            " published"
        )
    table = published[-1]  # the version of 2020 where both are there
    found = {}
    for row, entry in tables.rows(table, ("Image Index", "Finding Labels")):
        hot = np.zeros(len(FINDINGS), np.float32)
        for name in entry["Finding Labels"].split("|"):
            if name.strip() != NOTHING:
                hot[_number(name.strip(), table, row)] = 1
        found[entry["Image Index"].strip()] = hot
    return found


def _boxes(root: Path) -> dict[str, dict[int, np.ndarray]]:
    """Boxes [k, 4] of each finding of each image, as corners; none where the table is not there."""
    path = root / "BBox_List_2017.csv"
    found: dict[str, dict[int, np.ndarray]] = {}
    if not path.is_file():
        return found
    for row, entry in tables.rows(path, ("Image Index", "Finding Label", *CORNERS)):
        try:
            x, y, width, height = (float(entry[name]) for name in CORNERS)
        except ValueError:
            x = y = width = height = np.nan
        if not np.isfinite([x, y, width, height]).all():
            raise InputError(
                f"row {row} of {images.printable(path)} has no four numbers for x, y, w, h"
            )
        number = _number(entry["Finding Label"].strip(), path, row)
        of_image = found.setdefault(entry["Image Index"].strip(), {})
        before = of_image.get(number, np.zeros((0, 4)))
        of_image[number] = np.concatenate([before, [[x, y, x + width, y + height]]])
    return found


def _number(finding: str, path: Path, row: int) -> int:
    name = ALIASES.get(finding, finding)
    if name not in FINDINGS:
        raise unknown(
            f"finding in row {row} of {images.printable(path)}", finding, FINDINGS
        )
    return FINDINGS.index(name)


def _only_finding(hot: Float32[np.ndarray, " classes"]) -> int:
    return int(hot.argmax()) if hot.sum() == 1 else UNKNOWN


def _read_list(path: Path) -> list[str]:
    """The names in a list, one a line, in its order."""
    if not path.is_file():
        raise InputError(
            f"{images.printable(path)} is missing: it is published beside the images"
        )
    try:
        lines = read_text(path).splitlines()
    except ValueError as error:
        raise InputError(
            f"{images.printable(path)} is not UTF-8 text: give it as it is published"
        ) from error
    return [line.strip() for line in lines if line.strip()]
