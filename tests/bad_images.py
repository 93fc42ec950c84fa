"""Twelve kinds of image files that trouble programs, among good ones, and what must come of
each."""

import binascii
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

SIZE = (48, 32)
"""width and height of what can be read, upright"""
CORNERS = {
    "top left": (6, 6),
    "top right": (41, 6),
    "bottom left": (6, 25),
    "bottom right": (41, 25),
}
RED, GREEN, BLUE, GRAY = (230, 20, 30), (20, 200, 40), (30, 40, 220), (128, 128, 128)
COLORS = dict(zip(CORNERS, (RED, GREEN, BLUE, GRAY)))
DROP = """
import ctypes, os, sys
for right in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, right, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Expected(NamedTuple):
    """What must come of a file: colors where it can be read, a reason where it cannot."""

    reason: str = ""
    """a regular expression found in the reason; empty for a file that must be read"""
    colors: dict[str, tuple[int, int, int]] = COLORS
    """8-bit RGB in each corner, within `tolerance`"""
    tolerance: int = 12
    only_without_rights: bool = False
    """read all the same by root, whom permissions do not bind: see `without_rights`"""

    @property
    def readable(self) -> bool:
        return not self.reason

    def matches(self, image: np.ndarray) -> bool:
        """Whether an image, floats in [0, 1] of any size, shows these colors in its corners."""
        height, width = image.shape[:2]
        return all(
            np.abs(
                image[y * height // SIZE[1], x * width // SIZE[0]] * 255 - self.colors[name]
            ).max()
            <= self.tolerance
            for name, (x, y) in CORNERS.items()
        )


def make_bad_images(folder: Path) -> dict[str, Expected]:
    """Draw them in `folder`/val/CLASS; by file as `folder:` lists them (its id is
    `text_files.file_id` of that), in that order.

    Names that are no UTF-8 are left out where the system refuses them, links where it has none.
    """
    for name in (
        "train/bad",
        "val/bad",
        "val/good",
    ):  # with both splits, `--split val` or none shows all of them
        (folder / name).mkdir(parents=True)
    bad, good = folder / "val" / "bad", folder / "val" / "good"
    scene = _scene()
    for path in (
        folder / "train" / "bad" / "scene.png",
        good / "first.png",
        bad / "locked.png",
    ):
        scene.save(path)
    scene.save(good / "second.jpg", quality=95)
    (bad / "empty.png").write_bytes(b"")
    scene.resize((480, 320)).save(bad / "truncated.jpg", quality=95)
    whole = (bad / "truncated.jpg").read_bytes()
    (bad / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (bad / "text.png").write_text("This is not a picture.\n" * 20)
    scene.convert("CMYK").save(bad / "cmyk.jpg", quality=95)
    _deep().save(bad / "sixteen_bit.png")
    frames = [
        scene,
        *(PIL.Image.new("RGB", SIZE, color) for color in ("black", "white", "black")),
    ]
    frames[0].save(
        bad / "animated.gif", save_all=True, append_images=frames[1:], duration=50
    )
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    scene.transpose(PIL.Image.Transpose.ROTATE_90).save(
        bad / "rotated.jpg", exif=exif, quality=95
    )
    PIL.Image.new("RGB", (1, 1), RED).save(bad / "one_pixel.png")
    (bad / "huge.png").write_bytes(_huge(12_000))
    (bad / "locked.png").chmod(0)
    level = {name: (gray,) * 3 for name, gray in zip(CORNERS, (0, 85, 170, 255))}
    expected = {
        "animated.gif": Expected(),
        "cmyk.jpg": Expected(tolerance=25),
        "empty.png": Expected("is empty"),
        "huge.png": Expected("over the limit of 100 megapixels"),
        "locked.png": Expected(
            r"cannot be read \(permission denied\)", only_without_rights=True
        ),
        "one_pixel.png": Expected("is 1x1: an image needs at least 8 pixels a side"),
        "rotated.jpg": Expected(tolerance=25),
        "sixteen_bit.png": Expected(colors=level, tolerance=2),
        "text.png": Expected("is not an image in a known format"),
        "truncated.jpg": Expected("is damaged or cannot be read"),
        **_links(bad),
        **_strange_names(bad, scene),
    }
    both = {f"val/bad/{name}": what for name, what in expected.items()}
    return dict(
        sorted(
            (
                both
                | {
                    "val/good/first.png": Expected(),
                    "val/good/second.jpg": Expected(tolerance=25),
                }
            ).items()
        )
    )


def without_rights(command: list[str]) -> list[str]:
    """The command as one whom permissions bind, also when root runs it: without the right to pass
    them over (Linux)."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return command
    return [sys.executable, "-c", DROP, *command]


def _scene() -> PIL.Image.Image:
    """A quarter of the image in each color."""
    width, height = SIZE
    pixels = np.zeros((height, width, 3), np.uint8)
    for name, (x, y) in CORNERS.items():
        rows, columns = (
            slice(0, n // 2) if at < n // 2 else slice(n // 2, n)
            for at, n in ((y, height), (x, width))
        )
        pixels[rows, columns] = COLORS[name]
    return PIL.Image.fromarray(pixels)


def _deep() -> PIL.Image.Image:
    """16-bit gray whose corners are 0, a third, two thirds and the whole of the range."""
    width, height = SIZE
    pixels = np.zeros((height, width), np.uint16)
    pixels[: height // 2, width // 2 :], pixels[height // 2 :, : width // 2] = 21845, 43690
    pixels[height // 2 :, width // 2 :] = 65535
    return PIL.Image.fromarray(pixels)


def _huge(side: int) -> bytes:
    """A whole PNG of side x side RGB pixels, black: 432 MB when decoded, made of one compressed row
    again and again."""
    packer, row = zlib.compressobj(1), bytes(1 + 3 * side)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", pixels),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", binascii.crc32(kind + data))
        for kind, data in chunks
    )


def _links(bad: Path) -> dict[str, Expected]:
    try:
        (bad / "broken_link.png").symlink_to("gone.png")
    except (OSError, NotImplementedError):
        return {}
    return {"broken_link.png": Expected("is a link to what does not exist")}


def _strange_names(bad: Path, scene: PIL.Image.Image) -> dict[str, Expected]:
    """Two files whose names differ in one byte that is no UTF-8: good images, the second of them
    upside down."""
    colors = dict(zip(CORNERS, (GRAY, BLUE, GREEN, RED)))
    drawn = {
        b"strange\xfe.png": (scene, Expected()),
        b"strange\xff.png": (scene.rotate(180), Expected(colors=colors)),
    }
    try:
        for name, (image, _) in drawn.items():
            with open(os.path.join(os.fsencode(bad), name), "wb") as file:
                image.save(file, "PNG")
    except (OSError, UnicodeError):
        return {}
    return {os.fsdecode(name): what for name, (_, what) in drawn.items()}
