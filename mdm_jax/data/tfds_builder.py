"""Turns a folder of images into a tfds data set in array_record files, without TensorFlow.

Image files are copied as they are."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from mdm_jax.data import folder_layout
from mdm_jax.data.folder import Folder, open_folder
from mdm_jax.errors import InputError

VERSION = "1.0.0"


class BuildResult(NamedTuple):
    """What was written."""

    items: dict[str, int]
    """number of items by split"""
    left_out: tuple[str, ...]
    """a sentence for each image that could not be read"""


def build(folder: str, name: str, data_dir: str | None = None) -> BuildResult:
    """Write every split of an image folder, with its boxes and masks, as `tfds:NAME`.

    `data_dir` None is tfds's own place (the environment variable TFDS_DATA_DIR). Images that cannot
    be read are left out. Raises InputError for a folder that cannot be listed and a name that is
    malformed or taken."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InputError(
            f"the name {name!r} cannot be: use small letters, digits and _, and begin with a letter"
        )
    items = folder_layout.list_folder(_root(folder)).items
    splits = sorted({item.split for item in items})
    sources = {split: open_folder(folder, split) for split in splits}
    builder = _FolderBuilder(name, sources, data_dir or os.environ.get("TFDS_DATA_DIR"))
    if builder.is_prepared():
        raise InputError(
            f"tfds:{name} exists already in {builder.data_dir}: choose another name, or remove that"
            " folder"
        )
    # Folders that tfds makes and would leave behind where it fails, the innermost first.
    above = Path(builder.data_dir).parent
    downloads = above.parent / "downloads"
    places = (downloads / "extracted", downloads, above, *above.parents)
    made = [place for place in places if not place.exists()]
    try:
        builder.download_and_prepare(file_format="array_record")
    except BaseException as error:
        with contextlib.suppress(OSError):  # those that are not empty stay
            for place in made:
                place.rmdir()
        if isinstance(error, OSError):
            raise InputError(
                f"cannot write {builder.data_dir} ({error.strerror}): choose another data_dir"
            ) from error
        # An assertion is what tfds says of a split without items.
        if isinstance(error, AssertionError) and builder.left_out:
            raise InputError(
                f"a split of {folder} has no image that can be read ({builder.left_out[0]})"
            ) from error
        raise
    counts = {split: builder.info.splits[split].num_examples for split in splits}
    return BuildResult(counts, tuple(builder.left_out))


def _root(folder: str) -> Path:
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(f"{folder} is not a folder: give the folder that holds the images")
    return root


class _FolderBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """One data set, described by its sources rather than by a class of its own."""

    VERSION = tfds.core.Version(VERSION)

    def __init__(self, name: str, sources: dict[str, Folder], data_dir: str | None):
        self.name, self.sources = name, sources
        self.left_out: list[str] = []
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        sources = self.sources.values()
        features: dict[str, Any] = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=next(iter(sources)).class_names),
            "file": tfds.features.Text(),
        }
        if any(source.boxes for source in sources):
            features["objects"] = tfds.features.Sequence(
                {"bbox": tfds.features.BBoxFeature()}
            )
        if any(source.masks for source in sources):
            features["mask"] = tfds.features.Image(shape=(None, None, 1))
            features["has_mask"] = np.bool_
        return tfds.core.DatasetInfo(
            builder=self,
            description="A folder of images with what is known of their objects.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: Any
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {split: self._generate_examples(split) for split in self.sources}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        source = self.sources[split]
        for index, file in enumerate(source.files):
            try:
                id, image, label, _ = source.read_image(index)
            except InputError as error:
                self.left_out.append(str(error))
                continue
            record: dict[str, Any] = {
                "image": (source.root / file).read_bytes(),
                "label": label,
                "file": id,
            }
            if "objects" in self.info.features:
                boxes = _shares(source.boxes.get(file, NO_BOXES), image)
                record["objects"] = [{"bbox": box} for box in boxes]
            if "mask" in self.info.features:
                mask = source.masks.get(file)
                record["mask"] = (
                    NO_MASK if mask is None else (source.root / mask).read_bytes()
                )
                record["has_mask"] = mask is not None
            yield index, record


def _shares(boxes: np.ndarray, image: PIL.Image.Image) -> np.ndarray:
    """Boxes as (ymin, xmin, ymax, xmax) in [0, 1].

    One that is empty stays empty, to be refused when it is read."""
    size = [image.width, image.height] * 2
    shares = np.clip(np.round(boxes, 2) / size, 0, 1)[:, [1, 0, 3, 2]]
    # tfds refuses a box whose end lies before its start.
    return np.concatenate([shares[:, :2], np.maximum(shares[:, :2], shares[:, 2:])], axis=1)


def _black_pixel() -> bytes:
    file = io.BytesIO()
    PIL.Image.new("L", (1, 1)).save(file, "PNG")
    return file.getvalue()


NO_BOXES, NO_MASK = np.zeros((0, 4)), _black_pixel()
