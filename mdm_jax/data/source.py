"""What a source of labeled images gives: its items, and what else some sources know.

The protocols `HasImages`, `HasBoxes`, `HasFiles`, `MultiLabel` and `WrappedSource` are optional:
whoever needs one asks with `isinstance` and does without it otherwise."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float32

from mdm_jax import images
from mdm_jax.errors import InputError, unknown

# Names of the split that is not trained on: one stands for another where a source has only that.
HELD_OUT = ("val", "validation", "valid", "test")

# What a split is for, by the ways in which its name is written in small letters, see `split_kind`.
SPLIT_KINDS = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

# The split of every item, where a source has files or records.
ALL = "all"

# The label of an item whose class nobody knows.
UNKNOWN = -1


class Example(NamedTuple):
    """One labeled image with its truth, where there is one."""

    id: str
    image: Float32[np.ndarray, "h w 3"]
    label: int
    """number of the class; `UNKNOWN` where it is not known, and of a multi-label item that has not
    exactly one"""
    mask: Bool[np.ndarray, "h w"] | None
    boxes: Float32[np.ndarray, "k 4"] | None
    """(x0, y0, x1, y1) in pixels of the upright image, x1 and y1 exclusive, to 1/100 pixel"""
    labels: Float32[np.ndarray, " classes"] | None = None
    """1 for each class that the item has, else 0; None where items have one class each"""
    parts: Float32[np.ndarray, "p 2"] | None = None
    """(x, y) of each part of the object, in pixels of the upright image; NaN for a hidden part"""


class ImageItem(NamedTuple):
    """What training needs of an item: its image as 8-bit RGB and its label, without the truth."""

    id: str
    image: PIL.Image.Image
    label: int
    labels: Float32[np.ndarray, " classes"] | None = None


@runtime_checkable
class Source(Protocol):
    """Labeled images with random access.

    An item that is damaged raises InputError, which names it."""

    @property
    def name(self) -> str: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@runtime_checkable
class HasImages(Protocol):
    """A source that reads an image without its masks and boxes, which is quicker."""

    def read_image(self, index: int, /) -> ImageItem: ...


@runtime_checkable
class HasBoxes(Protocol):
    """A source that reads an image with its boxes but without its mask, which is quicker."""

    def read_boxes(
        self, index: int, /
    ) -> tuple[ImageItem, Float32[np.ndarray, "k 4"] | None]: ...


@runtime_checkable
class MultiLabel(Protocol):
    """A source whose items have any number of classes each, also none, as their `labels`."""

    @property
    def multi_hot(self) -> Float32[np.ndarray, "n classes"]:
        """`labels` of every item, without opening it"""
        ...


@runtime_checkable
class HasFiles(Protocol):
    """A source that knows the files and labels of its items without opening them."""

    @property
    def files(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> tuple[int, ...]: ...


@runtime_checkable
class WrappedSource(Protocol):
    """A source that gives the items of another, each changed in the way that `change` names."""

    @property
    def change(self) -> str: ...

    @property
    def source(self) -> Source: ...


def read_image(source: Source, index: int) -> ImageItem:
    """Item `index` as training sees it.

    Raises InputError for an item that is damaged or no image in [0, 1]."""
    if isinstance(source, HasImages):
        return source.read_image(index)
    return to_image_item(source[index])


def to_image_item(example: Example) -> ImageItem:
    """An example as training sees it. Raises InputError for what is no RGB image in [0, 1]."""
    image = images.check_image(example.image, str(example.id))
    if image.shape[2] != 3:
        raise InputError(
            f"{example.id} has {image.shape[2]} channels: a source gives RGB, [height, width, 3]"
        )
    photograph = PIL.Image.fromarray(images.to_uint8(image))
    return ImageItem(example.id, photograph, example.label, example.labels)


def checksum(*sources: Source) -> str:
    """Of the items' files and labels, or of name and length where items are no files.

    Opens no image. It is stored with results, so what enters it must stay as it is."""
    contents = [_contents(source) for source in sources]
    return hashlib.sha256(repr(contents).encode()).hexdigest()


def _contents(source: Source) -> object:
    # Plain tuples, lists, strings and numbers only: names of classes are free to change.
    if isinstance(source, WrappedSource):
        return source.change, _contents(source.source)
    if not isinstance(source, HasFiles):
        return source.name, len(source)
    if isinstance(source, MultiLabel):
        return (
            source.files,
            source.labels,
            hashlib.sha256(source.multi_hot.tobytes()).hexdigest(),
        )
    return list(zip(source.files, source.labels))


def find_split(name: str, available: Iterable[str], where: str) -> str:
    """The split of that name, or the one that stands for it.

    Raises InputError when there is none."""
    available = sorted(available)
    if name in available:
        return name
    kind = split_kind(name)
    kinds = [kind] if kind == "train" else [kind, *map(split_kind, HELD_OUT)]
    for wanted in kinds if kind else ():
        same = [each for each in available if split_kind(each) == wanted]
        # As it is written by most, before other ways to write it.
        if same:
            return next((each for each in HELD_OUT if each in same), same[0])
    raise unknown(f"split of {where}", name, available)


def split_kind(name: str) -> str | None:
    """ "train", "val" or "test", however it is written: Training, test_set, val2017.

    None for a name that is of no split."""
    plain = re.sub(r"[\W_]*(sets?|data|images?)?[\W_]*\d*$", "", name.casefold())
    return SPLIT_KINDS.get(plain)
