"""Which images a job uses, as command lines and config files say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typing_extensions import Doc

from mdm_jax.data.open_source import describe_kinds
from mdm_jax.data.reading import DataReading
from mdm_jax.data.source import Source


@dataclass(frozen=True, kw_only=True)
class DataSpec(DataReading):
    """A source of images, one split of it, and how many of its items are used."""

    data: Annotated[str, Doc(f"source of the images: {describe_kinds()}")] = "digits"
    split: str = "test"
    """split of the data; all for every image of a folder or a tfds data set"""
    limit: int | None = None
    """use only so many images, spread evenly over the data"""

    def open(self) -> Source:
        """The whole source; whoever reads it keeps to `limit`.

        Raises InputError for a source or split that there is not."""
        return self.read(self.data, self.split)
