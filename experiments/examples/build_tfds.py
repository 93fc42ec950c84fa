"""Turn a folder of images into a tfds data set in array_record files; needs no TensorFlow.

    python experiments/examples/build_tfds.py --folder photos --name my_photos --data-dir tfds

The folder has the layout that `folder:PATH` reads. Splits, class names, boxes, masks and the bytes
of every image are kept, so that the data set gives the same examples as the folder, from a few
large files instead of many small ones:

    TFDS_DATA_DIR=tfds mdm train config.toml      with  source = "tfds:my_photos"  below  [data]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from mdm_jax.data.tfds_builder import build
from mdm_jax.errors import InputError


@dataclass(frozen=True)
class Config:
    """A folder of images as a tfds data set."""

    folder: Path
    """holds the images, as folder:PATH reads them"""
    name: str
    """of the data set, for tfds:NAME; small letters, digits and _"""
    data_dir: Path | None = None
    """where data sets lie; the environment variable TFDS_DATA_DIR or tfds's default when not
    given"""


def main(config: Config) -> int:
    console = Console(soft_wrap=True)
    try:
        built = build(
            str(config.folder),
            config.name,
            None if config.data_dir is None else str(config.data_dir),
        )
    except InputError as error:
        console.print(f"error: {error}", markup=False)
        return 2
    for sentence in built.left_out:
        console.print(f"left out: {sentence}", markup=False)
    items = ", ".join(f"{count} items of {split}" for split, count in built.items.items())
    console.print(
        f"tfds:{config.name} holds {items}; {len(built.left_out)} images were left out",
        markup=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
