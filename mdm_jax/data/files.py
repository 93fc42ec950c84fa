"""Image files without labels: every image in a folder and below it, for what needs no truth."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from mdm_jax import images
from mdm_jax.data import image_files
from mdm_jax.data.source import ALL, UNKNOWN, Example, ImageItem
from mdm_jax.errors import InputError
from mdm_jax.text_files import file_id


@dataclass(frozen=True)
class Files:
    """Source of image files without labels; `id` is a file's path relative to the folder."""

    name: str
    root: Path
    files: tuple[str, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        return ()

    @property
    def labels(self) -> tuple[int, ...]:
        return (UNKNOWN,) * len(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def read_image(self, index: int) -> ImageItem:
        """An item. Raises InputError for a file that cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has items 0 to {len(self) - 1}, not {index}")
        file = self.files[index]
        return ImageItem(file_id(file), images.read(self.root / file), UNKNOWN)

    def __getitem__(self, index: int) -> Example:
        item = self.read_image(index)
        return Example(item.id, images.to_array(item.image), UNKNOWN, None, None)


def open_files(path: str, split: str = ALL) -> Files:
    """The images in a folder and below, in the order of their paths.

    Files without labels have no splits, so every `split` is all of them. Raises InputError where
    there are none."""
    del split
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(
            f"{path} is not a folder: give the folder that holds the images, as files:PATH"
        )
    try:
        found = sorted(image_files.walk(root, "."))
    except OSError as error:
        raise InputError(
            f"cannot list {path} ({error.strerror}): check the permissions"
        ) from error
    files = tuple(file for file, is_image in found if is_image)
    others = [file for file, is_image in found if not is_image]
    if not files:
        suffixes = ", ".join(sorted(image_files.SUFFIXES))
        raise InputError(f"{path} holds no image files ({suffixes}): give another folder")
    if others:
        kinds = image_files.describe_kinds(others)
        warnings.warn(
            f"files:{path} holds what is not read: {kinds}, of no format that is read",
            stacklevel=3,
        )
    return Files(f"files:{path}", root, files)
