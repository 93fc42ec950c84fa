"""The images of a prototype search, from the split of the prototypes and the split to decide on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from mdm_jax.data.class_mapping import class_number, class_numbers
from mdm_jax.data.source import UNKNOWN, Source, read_image
from mdm_jax.errors import InputError
from mdm_jax.models.classifier import Classifier

# The two parts of an album, whatever the splits are called.
TRAIN, TEST = "train", "test"


class ImageRef(NamedTuple):
    """An image: its part of the album, and its number in that source."""

    part: str
    number: int


class Pair(NamedTuple):
    """A prototype looked for in an image."""

    item: ImageRef
    prototype: int

    @property
    def key(self) -> str:
        """By which its regions are kept, and which seeds what is random in them."""
        return f"{self.item.part}/{self.item.number}#{self.prototype}"


class PreparedImage(NamedTuple):
    """An image as the network sees it."""

    id: str
    image: Float32[np.ndarray, "h w c"]
    classes: tuple[int, ...] | None
    """its true classes by the network's numbers, one but in multi-label data; None where they are
    not known"""
    multi_label: bool = False


class ImageSets:
    """The images of both parts as a network sees them, read when they are asked for."""

    def __init__(self, sources: Mapping[str, Source], classifier: Classifier) -> None:
        self.sources = dict(sources)
        self.preprocessing = classifier.preprocessing
        self._numbers = {
            part: class_numbers(source.class_names, classifier.class_names)
            for part, source in self.sources.items()
        }

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image"""
        return (*self.preprocessing.size, self.preprocessing.channels)

    def read(self, item: ImageRef) -> PreparedImage:
        """An image in 8 bits, as the push saw it too, in the network's frame.

        Raises InputError for one that is damaged."""
        given = read_image(self.sources[item.part], item.number)
        image = self.preprocessing.fit(given.image)
        if given.labels is None and given.label == UNKNOWN:
            return PreparedImage(given.id, image, None)
        labels = (
            [given.label] if given.labels is None else np.flatnonzero(given.labels).tolist()
        )
        # a class that the network does not know is -1 and left out below
        numbers = (class_number(self._numbers[item.part], label) for label in labels)
        return PreparedImage(
            given.id,
            image,
            tuple(number for number in numbers if number >= 0),
            given.labels is not None,
        )

    def readable(
        self, items: Sequence[ImageRef], reasons: list[str]
    ) -> Iterator[tuple[ImageRef, PreparedImage]]:
        """The items that can be read; a sentence is added to `reasons` for each other."""
        for item in items:
            try:
                yield item, self.read(item)
            except InputError as error:
                reasons.append(str(error))
