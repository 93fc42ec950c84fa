"""Reading photographs: everything that a camera or a scanner writes comes out upright RGB;
everything else is refused."""

import io
import pathlib

import numpy as np
import PIL.Image
import pytest

from mdm_jax import InputError, images

QUADRANTS = np.zeros((40, 60, 3), np.uint8)
QUADRANTS[:20, :30] = (255, 0, 0)
QUADRANTS[:20, 30:] = (0, 255, 0)
QUADRANTS[20:, :30] = (0, 0, 255)
QUADRANTS[20:, 30:] = (200, 200, 200)


@pytest.fixture
def photograph():
    return PIL.Image.fromarray(QUADRANTS)


def check_quadrants(path, tolerance=40):
    read = images.read(path)
    assert read.mode == "RGB"
    assert read.size == (60, 40)
    for y, x in ((5, 5), (5, 55), (35, 5), (35, 55)):
        np.testing.assert_allclose(np.asarray(read)[y, x], QUADRANTS[y, x], atol=tolerance)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "bmp", "gif"])
def test_formats(photograph, tmp_path, suffix):
    photograph.save(tmp_path / f"image.{suffix}")
    check_quadrants(tmp_path / f"image.{suffix}")


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGBA", "png"), ("P", "png"), ("P", "gif"), ("CMYK", "jpg"), ("CMYK", "tiff")],
)
def test_modes(photograph, tmp_path, mode, suffix):
    photograph.convert(mode).save(tmp_path / f"image.{suffix}")
    check_quadrants(tmp_path / f"image.{suffix}")


def test_gray_and_16_bit_gray(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    PIL.Image.fromarray(ramp).save(tmp_path / "deep.png")
    PIL.Image.fromarray((ramp // 256).astype(np.uint8)).save(tmp_path / "gray.png")
    PIL.Image.fromarray(ramp).save(tmp_path / "deep.tiff")
    for name in ("deep.png", "gray.png", "deep.tiff"):
        read = np.asarray(images.read(tmp_path / name))
        np.testing.assert_allclose(read[..., 1], ramp / 65535 * 255, atol=1.5)


def test_transparency_is_white(tmp_path):
    clear = PIL.Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert np.asarray(images.read(tmp_path / "clear.png")).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(photograph, tmp_path, orientation):
    transforms = {
        2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Image.Transpose.ROTATE_180,
        4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Image.Transpose.TRANSPOSE,
        6: PIL.Image.Transpose.ROTATE_90,
        7: PIL.Image.Transpose.TRANSVERSE,
        8: PIL.Image.Transpose.ROTATE_270,
    }
    stored = (
        photograph.transpose(transforms[orientation])
        if orientation in transforms
        else photograph
    )
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    check_quadrants(tmp_path / "turned.jpg")


def encoded(size, kind="JPEG"):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    PIL.Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"this is no picture at all", "not an image in a known format"),
        ("truncated.jpg", encoded((64, 64))[:900], "damaged"),
        ("truncated.png", encoded((64, 64), "PNG")[:900], "damaged"),
        (
            "tiny.png",
            encoded((1, 1), "PNG"),
            "1x1: an image needs at least 8 pixels a side",
        ),
    ],
    ids=["empty", "text", "truncated-jpg", "truncated-png", "tiny"],
)
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        images.read(tmp_path / name)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        images.read(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="is a folder"):
        images.read(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("side", [12_000, 20_000])
def test_decompression_bombs_are_refused_before_decoding(tmp_path, side):
    PIL.Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="megapixels"):
        images.read(tmp_path / "bomb.png")


@pytest.mark.parametrize(("crop", "center"), [(1.0, 60), (0.875, 60)])
def test_fit_resizes_the_short_side_and_crops_the_center(crop, center):
    wide = PIL.Image.fromarray(
        np.repeat(np.arange(120, dtype=np.uint8)[None, :, None], 60, 0).repeat(3, 2)
    )
    fitted = np.asarray(images.fit(wide, (30, 30), crop=crop))
    assert fitted.shape == (30, 30, 3)
    assert fitted[:, 14:16, 0].mean() == pytest.approx(center, abs=1.5)
    assert np.ptp(fitted[15, :, 0].astype(int)) == pytest.approx(60 * crop - 2, abs=2.5)


def test_fit_to_another_aspect():
    assert images.fit(PIL.Image.new("RGB", (100, 50)), (32, 64)).size == (64, 32)
    assert images.fit(PIL.Image.new("RGB", (9, 50)), (32, 64)).size == (64, 32)


def test_squash_keeps_all_of_an_image_and_gives_up_its_aspect():
    wide = PIL.Image.fromarray(
        np.repeat(np.arange(120, dtype=np.uint8)[None, :, None], 60, 0).repeat(3, 2)
    )
    fitted = np.asarray(images.fit(wide, (30, 30), mode="squash"))[..., 0].astype(int)
    assert fitted.shape == (30, 30)
    assert (fitted[0] == fitted[-1]).all()
    np.testing.assert_allclose(fitted[0], 4 * np.arange(30) + 1.5, atol=1.5)
    cropped = np.asarray(images.fit(wide, (30, 30), crop=0.75, mode="squash"))[
        ..., 0
    ].astype(int)
    np.testing.assert_allclose(cropped[0], 15 + 3 * np.arange(30) + 1, atol=1.5)
    assert images.fit(PIL.Image.new("RGB", (40_000, 8)), (64, 64), mode="squash").size == (
        64,
        64,
    )


def test_a_strip_is_not_blown_up():
    strip = PIL.Image.new("RGB", (40_000, 8), "red")
    fitted = images.fit(strip, (64, 64))
    assert fitted.size == (64, 64)
    assert fitted.getpixel((32, 32)) == (255, 0, 0)


def test_arrays_round_trip(photograph):
    array = images.to_array(photograph)
    assert array.dtype == np.float32
    assert array.max() == 1.0
    np.testing.assert_array_equal(images.to_uint8(array), QUADRANTS)


def test_fit_gives_the_pixels_of_timm():
    """timm 1.0.31's evaluation transform on synthetic scenes of several shapes."""
    with np.load(
        pathlib.Path(__file__).parents[1] / "fixtures" / "timm_preprocessing.npz"
    ) as cases:
        assert len(cases) == 28
        for name, expected in cases.items():
            shape, size, crop, interpolation = name.split()
            w, h = map(int, shape.split("x"))
            y, x = np.mgrid[:h, :w]
            scene = np.stack(
                [127.5 + 127 * np.sin(x / 2.3 + c) * np.cos(y / 3.1 - c) for c in range(3)],
                axis=-1,
            )
            photograph = PIL.Image.fromarray(scene.round().astype(np.uint8))
            height, width = map(int, size.split("x"))
            fitted = images.fit(
                photograph, (height, width), crop=float(crop), interpolation=interpolation
            )
            np.testing.assert_array_equal(np.asarray(fitted), expected, err_msg=name)
