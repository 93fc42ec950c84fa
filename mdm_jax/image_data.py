"""Whether the bytes of an image file can hold as many pixels as it says, and do.

Pillow leaves rows black for which a file has no data. JPEGs are decoded in full: decoding them at a
lower resolution (`Image.draft`) is faster, but changes what the network sees."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from mdm_jax.errors import InputError

# Pixels that a byte can stand for at most, of formats that say little in few bytes: deflate repeats
# up to 1032 times what it has, 8 pixels in a byte of it; LZW has 12 bits for up to 4096.
MOST_PER_BYTE = {"PNG": 1032 * 8, "GIF": 4096 * 8 // 12 + 1, "JPEG": 512}

# Smaller files are decoded quickly, whatever they say.
SMALL = 1_000_000
STEP = 1 << 20
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

# Adam7: where each pass begins and its steps, in columns and rows.
PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


class _Header(NamedTuple):
    """What an IHDR chunk says."""

    width: int
    height: int
    bits: int
    """of a pixel"""
    is_interlaced: bool

    @property
    def size(self) -> int:
        """Bytes of all rows, each with the number of its filter."""
        passes = PASSES if self.is_interlaced else ((0, 0, 1, 1),)
        total = 0
        for left, top, across, down in passes:
            width = -(-(self.width - left) // across)
            height = -(-(self.height - top) // down)
            if width > 0 and height > 0:
                total += height * (1 + -(-width * self.bits // 8))
        return total


def check_size(image: PIL.Image.Image, file: Path | io.BytesIO, name: str) -> None:
    """Raises InputError, before anything is decoded, for more pixels than the bytes could hold."""
    pixels = image.width * image.height
    length = file.stat().st_size if isinstance(file, Path) else file.getbuffer().nbytes
    if pixels > SMALL and pixels > length * MOST_PER_BYTE.get(image.format or "", pixels):
        raise InputError(
            f"{name} says that it is {image.width}x{image.height}, for which its {length} bytes are"
            " too few: it is damaged or cut off"
        )


def check_rows(image: PIL.Image.Image, file: Path | io.BytesIO, name: str) -> None:
    """Raises InputError for a decoded PNG that has data for its first rows alone."""
    if image.format != "PNG":
        return
    last = image.crop((0, image.height - 1, image.width, image.height))
    # Where the last row is not black, it was there.
    if np.asarray(last).any():
        return
    data = file.read_bytes() if isinstance(file, Path) else file.getvalue()
    header, found = _header(data), 0
    decompressor = zlib.decompressobj()
    for part in _parts(data):
        while part and found < header.size:
            found += len(decompressor.decompress(part, STEP))
            part = decompressor.unconsumed_tail
    if found < header.size:
        raise InputError(
            f"{name} has data for {found / header.size:.1%} of its {image.width}x{image.height}"
            " pixels: it is damaged or cut off"
        )


def _header(data: bytes) -> _Header:
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    return _Header(width, height, data[24] * CHANNELS[data[25]], bool(data[28]))


def _parts(data: bytes) -> Iterator[bytes]:
    """The compressed data, chunk by chunk."""
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            yield data[at + 8 : at + 8 + length]
        at += 12 + length
