"""Which images a job uses, as command lines and config files say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdm_jax.data.source import Source


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """A source of images, one split of it, and how many of its items are used."""

    data: str = "digits"
    """source of the images: digits, folder:PATH, files:PATH (images without labels), tfds:NAME,
    cub:PATH, chestxray14:PATH, or cropped: and one with boxes"""
    split: str = "test"
    """split of the data; all for every image of a folder or a tfds data set"""
    limit: int | None = None
    """use only so many images, spread evenly over the data"""

    def open(self) -> Source:
        """The whole source; whoever reads it keeps to `limit`. Raises InputError for a source or
        split that there is not."""
        # Imported here: Pillow and the readers take time that `mdm --help` need not wait for.
        from mdm_jax.data import open_source

        return open_source(self.data, self.split)
