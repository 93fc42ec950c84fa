"""Images that say more than their bytes hold: refused before, or after, they are decoded."""

import io
import struct
import time
import zlib

import numpy as np
import PIL.Image
import pytest

from mdm_jax import InputError, images


def png(size, rows, *, color=2, interlace=0, bits=8):
    """A PNG of that size whose data end after some rows (bytes), as its compressor ends them."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", *size, bits, color, 0, 0, interlace)
    compressed = zlib.compress(rows, 9)
    half = len(compressed) // 2
    parts = chunk(b"IDAT", compressed[:half]) + chunk(b"IDAT", compressed[half:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + parts + chunk(b"IEND", b"")


def read(tmp_path, data, name="a.png"):
    (tmp_path / name).write_bytes(data)
    return images.read(tmp_path / name)


ROW = b"\0" + b"\x80" * 3 * 30


def test_rows_that_are_not_there(tmp_path):
    with pytest.raises(
        InputError, match=r"data for 25.0% of its 30x40 pixels: it is damaged"
    ):
        read(tmp_path, png((30, 40), ROW * 10))
    with pytest.raises(
        InputError, match=r"a.png says that it is 8x11000000, for which its"
    ):
        read(tmp_path, png((8, 11_000_000), (b"\0" + b"\x80" * 24) * 10))
    assert np.asarray(read(tmp_path, png((30, 40), ROW * 40))).min() == 128


@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("bits", [8, 16])
def test_black_images_are_whole(tmp_path, color, channels, bits):
    row = b"\0" * (1 + 30 * channels * bits // 8)
    whole = png((30, 40), row * 40, color=color, bits=bits)
    assert read(tmp_path, whole).size == (30, 40)
    with pytest.raises(InputError, match=r"data for 97.5%"):
        read(tmp_path, png((30, 40), row * 39, color=color, bits=bits))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA"])
@pytest.mark.parametrize("size", [(8, 8), (9, 13), (31, 20)])
def test_black_images_of_every_kind(tmp_path, mode, size):
    file = io.BytesIO()
    PIL.Image.new(mode, size).save(file, "PNG")
    assert read(tmp_path, file.getvalue()).size == size


def test_interlaced_images():
    from mdm_jax.image_data import _header

    # Pillow reads interlaced files and writes none: the size of the data by their definition.
    for width, height in ((8, 8), (9, 13), (31, 20), (3, 5)):
        pixels = np.zeros((height, width), int)
        expected = 0
        for left, top, across, down in (
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
        ):
            part = pixels[top::down, left::across]
            expected += part.shape[0] * (1 + 3 * part.shape[1]) if part.size else 0
        for left, top, across, down in ((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
            part = pixels[top::down, left::across]
            expected += part.shape[0] * (1 + 3 * part.shape[1]) if part.size else 0
        assert _header(png((width, height), b"", interlace=1)).size == expected


def test_an_upright_image_of_rgb_is_not_copied(tmp_path):
    """A large one would take its memory three times."""
    PIL.Image.new("RGB", (5000, 5000), "red").save(tmp_path / "large.png")
    start = time.perf_counter()
    image = images.read(tmp_path / "large.png")
    assert time.perf_counter() - start < 2  # 0.1 s here
    assert isinstance(image, PIL.Image.Image)
    assert image.format == "PNG"  # the image that was opened
    assert image.getpixel((4999, 4999)) == (255, 0, 0)


def test_floats_are_rounded_in_parts():
    floats = np.random.default_rng(0).uniform(-0.1, 1.1, (600, 7, 3)).astype(np.float32)
    expected = np.round(np.clip(floats, 0, 1) * 255).astype(np.uint8)
    np.testing.assert_array_equal(images.to_uint8(floats), expected)
    np.testing.assert_array_equal(images.to_uint8(floats[0, 0]), expected[0, 0])
