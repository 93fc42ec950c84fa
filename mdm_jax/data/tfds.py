"""Data sets of TensorFlow Datasets, prepared in array_record files, read without TensorFlow.

`tfds:NAME[:SPLIT]`, with NAME as tfds writes it (my_set, my_set/config:1.0.0) and SPLIT likewise
(train, train[:80%]). They are looked for where tfds does: in the folder that the environment
variable TFDS_DATA_DIR names."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float32

from mdm_jax import images
from mdm_jax.data.annotations import clip_boxes, mask_from_image
from mdm_jax.data.object_values import MOST_ANNOTATORS, ObjectValues
from mdm_jax.data.source import ALL, UNKNOWN, Example, ImageItem, find_split
from mdm_jax.errors import InputError, first_line, reason_of, unknown
from mdm_jax.text_files import file_id

# NAME[:SPLIT]; a version is part of the name.
SOURCE = re.compile(r"(?P<name>[\w/.-]+(:\d+\.\d+\.\d+)?)(:(?P<split>\D.*))?")
MASKS = ("mask", "segmentation_mask")
FeatureConnector = tfds.features.FeatureConnector


@dataclass(frozen=True)
class TfdsSource:
    """Source of one split.

    `id` is the record's feature `file` where it has one, else split and number."""

    name: str
    split: str
    records: Any = field(repr=False)
    """sequence of mappings, decoded but for images, which stay bytes"""
    class_names: tuple[str, ...]
    object_values: ObjectValues | None = None
    """values that are the object in masks of several"""

    def __len__(self) -> int:
        return len(self.records)

    def read_image(self, index: int) -> ImageItem:
        """Image and label of an item, without its truth.

        Raises InputError for a record that cannot be read."""
        return self._image_item(index, self._record(index))

    def read_boxes(self, index: int) -> tuple[ImageItem, Float32[np.ndarray, "k 4"] | None]:
        """As `read_image`, and the item's boxes. Raises InputError for one that is empty."""
        record = self._record(index)
        item = self._image_item(index, record)
        return item, _boxes(record, item)

    def __getitem__(self, index: int) -> Example:
        record, mask = self._record(index), None
        item = self._image_item(index, record)
        boxes = _boxes(record, item)
        encoded = next((record[key] for key in MASKS if key in record), None)
        if encoded is not None and record.get("has_mask", True):
            place = f"the mask of {item.id}"
            drawn = images.decode(io.BytesIO(encoded), place, images.as_stored)
            values = self.object_values
            if values is None and "caltech_birds" in self.name:
                values = MOST_ANNOTATORS
            mask = mask_from_image(drawn, item.image, item.id, values)
        return Example(item.id, images.to_array(item.image), item.label, mask, boxes)

    def _record(self, index: int) -> Mapping[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has items 0 to {len(self) - 1}, not {index}")
        try:
            return self.records[index]
        except Exception as error:  # damaged bytes: whatever the reader stumbles over
            raise InputError(
                f"record {index} of {self.name} ({self.split}) is damaged ({type(error).__name__})"
            ) from error

    def _image_item(self, index: int, record: Mapping[str, Any]) -> ImageItem:
        file = record.get("file")
        if isinstance(file, bytes):
            id = file_id(file.decode("utf-8", "surrogateescape"))
        else:
            id = f"{self.name}/{self.split}/{index:06d}"
        label = int(record["label"])
        # Test splits of competitions have unknown labels, -1.
        if label != UNKNOWN and not 0 <= label < len(self.class_names):
            raise InputError(
                f"{id} has the label {label}, which is no class of {self.name}: prepare the data"
                " set anew"
            )
        return ImageItem(id, images.decode(io.BytesIO(record["image"]), id), label)


def open_tfds(text: str, split: str) -> TfdsSource:
    """The records of NAME[:SPLIT]; `split` is used where no :SPLIT is written.

    Raises InputError for a data set that is unknown, not prepared, of another file format, without
    image and label, or of which neither the first nor the last record can be read."""
    parts = SOURCE.fullmatch(text)
    if parts is None:
        raise InputError(
            f"the data source 'tfds:{text}' cannot be: write tfds:NAME or tfds:NAME:SPLIT"
        )
    name = parts["name"]
    builder = _find_builder(name)
    info = builder.info
    if tfds.core.FileFormat.ARRAY_RECORD not in info.available_file_formats():
        written = info.file_format.value if info.file_format else "an unknown format"
        raise InputError(
            f"tfds:{name} is prepared as {written}, which has no random access: prepare it again,"
            ' in another folder, with file_format="array_record"'
        )
    chosen = parts["split"] or split
    if not parts["split"] and split != ALL:
        chosen = find_split(split, info.splits, f"tfds:{name}")
    _check_splits(chosen, info.splits, name)
    class_names = _class_names(info.features, name)
    # Decoding is ours: PIL's, as of all other sources, and where it fails an error of one item.
    raw = {
        key: tfds.decode.SkipDecoding()
        for key in ("image", *MASKS)
        if _is_image(info.features, key)
    }
    try:
        records = builder.as_data_source(chosen, decoders=raw, file_format="array_record")
        count = len(records)
    except Exception as error:  # malformed sub-splits and missing files give many types
        raise InputError(
            f"cannot read the split {chosen} of tfds:{name} ({first_line(error)})"
        ) from error
    if count == 0:
        raise InputError(f"the split {chosen} of tfds:{name} has no items: choose another")
    source = TfdsSource(f"tfds:{text}", chosen, records, class_names)
    try:
        source.read_image(0)
    except InputError:
        # One damaged record, or all: a file that is missing or cut off shows at its last one too.
        source.read_image(count - 1)
    return source


def _check_splits(chosen: str, available: Iterable[str], name: str) -> None:
    """Raises InputError for a split in `chosen`, such as "train[:80%]+val", that is not there."""
    without_slices = re.sub(r"\[[^]]*\]", "", chosen)
    for base in re.findall(r"[A-Za-z_]\w*", without_slices):
        if base not in available and base != ALL:
            raise unknown(f"split of tfds:{name}", base, available)


def _find_builder(name: str) -> Any:
    """The builder of what lies on disk.

    The code of stock data sets, which often needs TensorFlow, is never run."""
    data_dir = os.path.expanduser(
        os.environ.get("TFDS_DATA_DIR", tfds.core.constants.DATA_DIR)
    )
    try:
        with mock.patch.object(FeatureConnector, "cls_from_name", _known_feature):
            return tfds.core.read_only_builder.builder_from_files(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        raise _not_found(name, data_dir) from None
    except InputError as error:
        raise InputError(f"tfds:{name} in {data_dir} {error}") from None
    except Exception as error:  # another author's folder
        raise InputError(
            f"the files of tfds:{name} in {data_dir} are damaged ({reason_of(error)})"
        ) from error


_import_feature = FeatureConnector.cls_from_name


def _known_feature(python_class_name: str) -> Any:
    """The class of a feature that is tfds's own, or that the program has imported itself.

    tfds would import any module that features.json names."""
    known = FeatureConnector._registered_features
    is_own = re.fullmatch(r"tensorflow_datasets\.core\.features(\.\w+)+", python_class_name)
    if python_class_name not in known and not is_own:
        raise InputError(
            f"has a feature of the class {python_class_name!r}, and no code is run because a file"
            " names it: prepare it with features of tfds alone, or import that class first"
        )
    return _import_feature(python_class_name)


def _not_found(name: str, data_dir: str) -> InputError:
    """What to do about a data set that is not where it is looked for."""
    base = re.split("[/:]", name)[0]
    folders = os.scandir(data_dir) if os.path.isdir(data_dir) else ()
    existing = sorted(folder.name for folder in folders if folder.is_dir())
    existing = [folder for folder in existing if folder != "downloads"]
    if base in existing:
        return InputError(
            f"tfds:{name} does not lie in {data_dir}/{base}: check the version and the config"
        )
    if base in tfds.list_builders(with_community_datasets=False):
        return InputError(
            f"tfds:{name} is not prepared in {data_dir}: on a machine with TensorFlow run"
            f' tfds.builder({name!r}).download_and_prepare(file_format="array_record"), copy'
            " the folder and set TFDS_DATA_DIR"
        )
    hint = "that folder holds no data sets"
    if existing:
        hint = f"there are {', '.join(existing[:8])}"
    return InputError(
        f"unknown tfds data set {name!r} in {data_dir}: {hint}; set TFDS_DATA_DIR to the folder"
        " of your data sets"
    )


def _class_names(features: tfds.features.FeaturesDict, name: str) -> tuple[str, ...]:
    missing = [key for key in ("image", "label") if key not in features]
    if missing:
        raise InputError(
            f"tfds:{name} has no feature {missing[0]!r}, only {', '.join(features)}: it is no"
            " classification set"
        )
    label = features["label"]
    if not _is_image(features, "image") or not isinstance(label, tfds.features.ClassLabel):
        raise InputError(
            f"the features image and label of tfds:{name} are not an Image and a ClassLabel"
        )
    if label.names:
        return tuple(label.names)
    return tuple(map(str, range(label.num_classes)))


def _is_image(features: tfds.features.FeaturesDict, key: str) -> bool:
    return key in features and isinstance(features[key], tfds.features.Image)


def _boxes(record: Mapping[str, Any], item: ImageItem) -> Float32[np.ndarray, "k 4"] | None:
    """(x0, y0, x1, y1) in pixels, of one feature `bbox` or of all `objects`."""
    objects = record.get("objects")
    shares: Any = ()
    if "bbox" in record:
        shares = record["bbox"]
    elif isinstance(objects, Mapping):
        shares = objects.get("bbox", ())
    # float32, as they are stored, and float64 to multiply: then whole pixels come back whole.
    corners = np.asarray(shares, np.float32).reshape(-1, 4).astype(np.float64)
    if not len(corners):
        return None
    size = [item.image.width, item.image.height] * 2
    from_tfds = [1, 0, 3, 2]  # tfds writes ymin, xmin, ymax, xmax
    return clip_boxes(corners[:, from_tfds] * size, item.image, item.id)
