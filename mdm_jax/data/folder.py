"""Images in a folder, in one of three layouts, with boxes, masks and names of classes.

`PATH/train/CLASS/*.jpg`, `PATH/CLASS/*.jpg`, or `PATH/images` with `PATH/labels.csv`; beside them,
where there are, `boxes.csv`, `masks/` and `classes.json`. No image is opened before it is asked
for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from mdm_jax import images
from mdm_jax.data import folder_layout, folder_truth
from mdm_jax.data.annotations import clip_boxes, mask_from_image
from mdm_jax.data.object_values import ObjectValues
from mdm_jax.data.source import ALL, Example, ImageItem, find_split
from mdm_jax.errors import InputError
from mdm_jax.text_files import file_id


@dataclass(frozen=True)
class Folder:
    """Source of the images of one split; `id` is a file's path relative to the folder."""

    name: str
    root: Path
    split: str
    files: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    boxes: Mapping[str, np.ndarray] = field(repr=False)
    """[k, 4] in pixels by file; a file without boxes is not in it"""
    masks: Mapping[str, str] = field(repr=False)
    """mask file by file, both relative to the folder"""
    parts: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    """(x, y) [p, 2] of the object's parts by file, in pixels; NaN for a hidden part"""
    part_names: tuple[str, ...] = ()
    object_values: ObjectValues | None = None
    """values that are the object in masks of several"""

    def __len__(self) -> int:
        return len(self.files)

    def read_image(self, index: int) -> ImageItem:
        """Image and label of an item, without its truth.

        Raises InputError for a file that cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has items 0 to {len(self) - 1}, not {index}")
        file = self.files[index]
        return ImageItem(file_id(file), images.read(self.root / file), self.labels[index])

    def read_boxes(self, index: int) -> tuple[ImageItem, Float32[np.ndarray, "k 4"] | None]:
        """As `read_image`, and the item's boxes. Raises InputError for one that is empty."""
        item, boxes = self.read_image(index), self.boxes.get(self.files[index])
        if boxes is None:
            return item, None
        return item, clip_boxes(boxes, item.image, item.id)

    def __getitem__(self, index: int) -> Example:
        item, boxes = self.read_boxes(index)
        file, mask = self.files[index], None
        if file in self.masks:
            drawn = images.read(self.root / self.masks[file], images.as_stored)
            mask = mask_from_image(drawn, item.image, item.id, self.object_values)
        parts = self.parts.get(file)
        return Example(
            item.id, images.to_array(item.image), item.label, mask, boxes, parts=parts
        )


def open_folder(path: str, split: str) -> Folder:
    """The images of one split.

    Raises InputError for a folder that is missing, holds no such split or is malformed."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(
            f"{path} is not a folder: give the folder that holds the images, as folder:PATH"
        )
    try:
        items, left_out = folder_layout.list_folder(root)
        every_file = [item.file for item in items]
        boxes, boxes_left_out = folder_truth.boxes(root, every_file)
        masks, masks_left_out = folder_truth.masks(root, every_file)
        left_out += boxes_left_out + masks_left_out
        # Over all splits, so that a class has one number in each of them.
        labels = sorted({item.label for item in items})
        used = split
        if split != ALL:
            used = find_split(split, {item.split for item in items}, f"folder:{path}")
            items = [item for item in items if item.split == used]
        files = tuple(item.file for item in items)
        numbers = {label: number for number, label in enumerate(labels)}
        if left_out:
            warnings.warn(
                f"folder:{path} holds what is not read: {'; '.join(left_out)}", stacklevel=3
            )
        kept = set(files)
        return Folder(
            name=f"folder:{path}",
            root=root,
            split=used,
            files=files,
            labels=tuple(numbers[item.label] for item in items),
            class_names=_names(labels, folder_truth.class_names(root)),
            boxes={file: each for file, each in boxes.items() if file in kept},
            masks={file: each for file, each in masks.items() if file in kept},
        )
    except OSError as error:
        raise InputError(
            f"cannot list {path} ({error.strerror}): check the permissions"
        ) from error


def _names(labels: Sequence[str], given: Mapping[str, str]) -> tuple[str, ...]:
    """Names for people; classes of one name are told apart by their labels."""
    names = [given.get(label, label) for label in labels]
    unique = []
    for name, label in zip(names, labels):
        unique.append(name if names.count(name) == 1 else f"{name} ({label})")
    return tuple(map(file_id, unique))
