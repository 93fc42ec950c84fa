"""Data sets of TensorFlow Datasets, read without TensorFlow: they must lie prepared, in
array_record files.

`tfds:NAME[:SPLIT]`, with NAME as tfds writes it (my_set, my_set/config:1.0.0) and SPLIT likewise
(train, train[:80%]). They are looked for where tfds does: in the folder that the environment
variable TFDS_DATA_DIR names."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float32

from mdm_jax import images
from mdm_jax.data.annotations import clip_boxes, mask_from_image
from mdm_jax.data.source import ALL, UNKNOWN, Example, ImageItem, find_split
from mdm_jax.errors import InputError, unknown

WRITTEN = re.compile(r"(?P<name>[\w/.-]+(:\d+\.\d+\.\d+)?)(:(?P<split>\D.*))?")
"""NAME[:SPLIT]; a version is part of the name"""
MASKS = ("mask", "segmentation_mask")


@dataclass(frozen=True)
class TfdsSource:
    """Source of one split. `id` is the record's feature `file` where it has one, else split and
    number."""

    name: str
    split: str
    records: Any = field(repr=False)
    """sequence of mappings, decoded but for images, which stay bytes"""
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)

    def read_image(self, index: int) -> ImageItem:
        """Image and label of an item, without its truth. Raises InputError for a record that cannot
        be read."""
        return self._picture(index, self._record(index))

    def read_boxes(self, index: int) -> tuple[ImageItem, Float32[np.ndarray, "k 4"] | None]:
        """As `read_image`, and the item's boxes. Raises InputError for one that is empty."""
        return self._boxed(index, self._record(index))

    def __getitem__(self, index: int) -> Example:
        record, mask = self._record(index), None
        (id, image, label, _), boxes = self._boxed(index, record)
        drawn = next((record[key] for key in MASKS if key in record), None)
        if drawn is not None and record.get("has_mask", True):
            mask = mask_from_image(images.decode(io.BytesIO(drawn), f"the mask of {id}"), image, id)
        return Example(id, images.to_array(image), label, mask, boxes)

    def _record(self, index: int) -> Mapping[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has items 0 to {len(self) - 1}, not {index}")
        try:
            return self.records[index]
        except Exception as error:  # a stranger's bytes: whatever the reader stumbles over
            raise InputError(
                f"record {index} of {self.name} ({self.split}) is damaged ({type(error).__name__})"
            ) from error

    def _boxed(
        self, index: int, record: Mapping[str, Any]
    ) -> tuple[ImageItem, Float32[np.ndarray, "k 4"] | None]:
        picture, corners = self._picture(index, record), _corners(record).astype(np.float64)
        size = [picture.image.width, picture.image.height] * 2
        return picture, (
            clip_boxes(corners[:, [1, 0, 3, 2]] * size, picture.image, picture.id)
            if len(corners)
            else None
        )

    def _picture(self, index: int, record: Mapping[str, Any]) -> ImageItem:
        file = record.get("file")
        id = (
            file.decode("utf-8", "replace")
            if isinstance(file, bytes)
            else f"{self.name}/{self.split}/{index:06d}"
        )
        label = int(record["label"])
        if label != UNKNOWN and not 0 <= label < len(
            self.class_names
        ):  # unknown in the test splits of competitions
            raise InputError(
                f"{id} has the label {label}, which is no class of {self.name}: prepare the data"
                " set anew"
            )
        return ImageItem(id, images.decode(io.BytesIO(record["image"]), id), label)


def open_tfds(text: str, split: str) -> TfdsSource:
    """The records of NAME[:SPLIT]; `split` is used where no :SPLIT is written.

    Raises InputError for a data set that is unknown, not prepared, of another file format, without
    image and label, or of which neither the first nor the last record can be read."""
    parts = WRITTEN.fullmatch(text)
    if parts is None:
        raise InputError(
            f"the data source 'tfds:{text}' cannot be: write tfds:NAME or tfds:NAME:SPLIT"
        )
    builder = _prepared(parts["name"])
    if tfds.core.FileFormat.ARRAY_RECORD not in builder.info.available_file_formats():
        found = builder.info.file_format.value if builder.info.file_format else "an unknown format"
        raise InputError(
            f"tfds:{parts['name']} is prepared as {found}, which has no random access: prepare it"
            ' again, in another folder, with file_format="array_record"'
        )
    chosen = parts["split"] or (
        split if split == ALL else find_split(split, builder.info.splits, f"tfds:{parts['name']}")
    )
    for base in re.findall(r"[A-Za-z_]\w*", re.sub(r"\[[^]]*\]", "", chosen)):
        if base not in builder.info.splits and base != ALL:
            raise unknown(f"split of tfds:{parts['name']}", base, builder.info.splits)
    class_names = _class_names(builder.info.features, parts["name"])
    raw = {
        key: tfds.decode.SkipDecoding()
        for key in ("image", *MASKS)
        if _is_image(builder.info.features, key)
    }
    try:
        records = builder.as_data_source(chosen, decoders=raw, file_format="array_record")
        count = len(records)
    except Exception as error:  # malformed sub-splits and missing files give many types
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"cannot read the split {chosen} of tfds:{parts['name']} ({reason})"
        ) from error
    if count == 0:
        raise InputError(f"the split {chosen} of tfds:{parts['name']} has no items: choose another")
    source = TfdsSource(f"tfds:{text}", chosen, records, class_names)
    try:
        source.read_image(0)
    except (
        InputError
    ):  # one record, or all of them: a file that is missing or cut off shows at its last record too
        source.read_image(count - 1)
    return source


def _prepared(name: str) -> Any:
    """The builder of what lies on disk; the code of stock sets, which often needs TensorFlow, is
    never run."""
    data_dir = os.path.expanduser(os.environ.get("TFDS_DATA_DIR", tfds.core.constants.DATA_DIR))
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        bare = re.split("[/:]", name)[0]
        folders = os.scandir(data_dir) if os.path.isdir(data_dir) else ()
        there = sorted(
            entry.name for entry in folders if entry.is_dir() and entry.name != "downloads"
        )
        stock = tfds.list_builders(with_community_datasets=False)
        if bare in there:
            raise InputError(
                f"tfds:{name} does not lie in {data_dir}/{bare}: check the version and the config"
            ) from None
        if bare in stock:
            raise InputError(
                f"tfds:{name} is not prepared in {data_dir}: on a machine with TensorFlow run"
                f' tfds.builder({name!r}).download_and_prepare(file_format="array_record"), copy'
                " the folder and set TFDS_DATA_DIR"
            ) from None
        hint = f"there are {', '.join(there[:8])}" if there else "that folder holds no data sets"
        raise InputError(
            f"unknown tfds data set {name!r} in {data_dir}: {hint}; set TFDS_DATA_DIR to the folder"
            " of your data sets"
        ) from None
    except Exception as error:  # a stranger's folder
        raise InputError(
            f"the files of tfds:{name} in {data_dir} are damaged ({type(error).__name__}: {error})"
        ) from error


def _class_names(features: tfds.features.FeaturesDict, name: str) -> tuple[str, ...]:
    missing = [key for key in ("image", "label") if key not in features]
    if missing:
        raise InputError(
            f"tfds:{name} has no feature {missing[0]!r}, only {', '.join(features)}: it is no"
            " classification set"
        )
    if not _is_image(features, "image") or not isinstance(
        features["label"], tfds.features.ClassLabel
    ):
        raise InputError(
            f"the features image and label of tfds:{name} are not an Image and a ClassLabel"
        )
    label = features["label"]
    return tuple(label.names) if label.names else tuple(map(str, range(label.num_classes)))


def _is_image(features: tfds.features.FeaturesDict, key: str) -> bool:
    return key in features and isinstance(features[key], tfds.features.Image)


def _corners(record: Mapping[str, Any]) -> Float32[np.ndarray, "k 4"]:
    """(ymin, xmin, ymax, xmax) in [0, 1], of one feature `bbox` or of all `objects`."""
    objects = record.get("objects")
    boxes = (
        record["bbox"]
        if "bbox" in record
        else objects.get("bbox", ())
        if isinstance(objects, Mapping)
        else ()
    )
    return np.asarray(boxes, np.float32).reshape(-1, 4)
