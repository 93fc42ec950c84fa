"""The one place for layout and range: NHWC, float32, [0, 1], RGB. Reading, resizing, blurring."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import Array, Float, Float32, Float64

from mdm_jax import image_data
from mdm_jax.errors import InputError, first_line
from mdm_jax.text_files import printable as printable
from mdm_jax.types import Scalar

# Pixels; smaller images hold nothing that a mask could select.
MIN_SIDE = 8

# Larger files are refused before they are decoded (decompression bombs).
MAX_PIXELS = 100_000_000

# A longer strip is cut to its center before it is resized, or resizing it would need memory for
# Pixels that the crop leaves out.
MAX_ASPECT = 8

# Formats that are programs, for which Pillow would start an interpreter.
DRAWINGS = {"EPS", "WMF"}

# The tag of EXIF that says how to turn an image.
ORIENTATION = 0x0112
ROWS_AT_ONCE = 256

# Values may leave [0, 1] by this much, as after resizing and rounding.
RANGE_SLACK = 1e-3
TOO_LARGE = f"over the limit of {MAX_PIXELS // 10**6} megapixels: shrink it first"

RESAMPLING = {
    "nearest": PIL.Image.Resampling.NEAREST,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
}

# timm's names: keep the aspect and crop the center, or squash the whole image.
CROP_MODES = ("center", "squash")

Convert = Callable[[PIL.Image.Image], PIL.Image.Image]

# For the whole process, because `warnings.catch_warnings` is not safe where threads read. What is
# too large is refused here.
warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)


def read(path: str | Path, convert: Convert | None = None) -> PIL.Image.Image:
    """An image file, upright, as 8-bit RGB or as `convert` makes it of the stored values.

    EXIF rotation is applied, transparency is laid on white, CMYK and palettes are converted, 16-bit
    gray keeps its range, an animation gives its first frame. Raises InputError for what is no
    image, empty, truncated, tiny or huge.
    """
    path = Path(path)
    name = printable(path)
    try:
        if path.is_symlink() and not path.exists():
            raise InputError(f"{name} is a link to what does not exist: mend it")
        if not path.exists():
            raise InputError(f"{name} does not exist: check the path")
        if path.is_dir():
            raise InputError(
                f"{name} is a folder: give image files, for example {name}/*.jpg"
            )
        if path.stat().st_size == 0:
            raise InputError(f"{name} is empty: it holds no image")
        return decode(path, name, convert)
    except PermissionError as error:
        raise InputError(
            f"{name} cannot be read (permission denied): check its permissions"
        ) from error
    except OSError as error:
        raise InputError(f"{name} is damaged or cannot be read ({error})") from error


def decode(
    file: Path | io.BytesIO, name: str, convert: Convert | None = None
) -> PIL.Image.Image:
    """An image from a file or from bytes in memory, as `read` gives it.

    `name` stands for it in the message of the InputError.
    """
    try:
        with PIL.Image.open(file) as opened:
            _check_header(opened, name)
            image_data.check_size(opened, file, name)
            upright = _rotate_upright(opened)
            image_data.check_rows(opened, file, name)
            upright.format = opened.format
            return (convert or _to_rgb)(upright)
    except (InputError, PermissionError):
        raise
    # the warning too, which a filter of the caller may have turned into an error
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise InputError(f"{name} is {TOO_LARGE}") from error
    except PIL.UnidentifiedImageError as error:
        raise InputError(f"{name} is not an image in a known format") from error
    except Exception as error:  # Pillow raises errors of many kinds for damaged bytes
        raise InputError(
            f"{name} is damaged or cannot be read ({first_line(error)})"
        ) from error


def as_stored(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image itself, for `read` and `decode` of masks, whose values say what they mark."""
    return image


def _check_header(image: PIL.Image.Image, name: str) -> None:
    """Raises InputError for what must not be decoded: huge or tiny images, and drawings."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(f"{name} is {width}x{height}, {TOO_LARGE}")
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"{name} is {width}x{height}: an image needs at least {MIN_SIDE} pixels a side"
        )
    if image.format in DRAWINGS:
        raise InputError(
            f"{name} is a drawing ({image.format}), which is a program: save it as PNG first"
        )


def _rotate_upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """Turned as its EXIF says; as it is stored where the EXIF cannot be read."""
    image.load()  # damaged pixels raise here, not in the `try`
    try:
        # An image that is upright is not copied: a large one would need its memory twice.
        is_upright = image.getexif().get(ORIENTATION, 1) == 1
        return image if is_upright else PIL.ImageOps.exif_transpose(image)
    except Exception:
        return image


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float32)
        if not np.isfinite(values).all():
            raise ValueError("it holds NaN or infinite values")
        white = 65535.0 if image.mode.startswith("I") else max(1.0, float(values.max()))
        bytes_ = np.clip(np.round(values / white * 255), 0, 255).astype(np.uint8)
        image = PIL.Image.fromarray(bytes_)
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = PIL.Image.new("RGBA", image.size, "white")
        image = PIL.Image.alpha_composite(paper, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def round_boxes(boxes: Float[np.ndarray, "k 4"]) -> Float64[np.ndarray, "k 4"]:
    """Boxes in hundredths of a pixel, the tolerance with which they are compared with an image."""
    # Shares of an image, as tfds stores boxes, do not give back whole pixels.
    return np.round(np.asarray(boxes, np.float64), 2)


def to_array(image: PIL.Image.Image) -> Float32[np.ndarray, "h w c"]:
    """An 8-bit image, RGB or gray, as float32 in [0, 1]."""
    array = np.array(image, np.float32)
    array /= 255.0  # in its place, for images of many pixels
    if array.ndim == 2:
        array = array[..., None]
    return array


def to_uint8(image: Any) -> np.ndarray:
    """Floats in [0, 1] as 8-bit values, rounded."""
    floats = np.asarray(image, np.float32)
    rounded = np.empty(floats.shape, np.uint8)
    # Some rows at a time: three copies of all of them would be gigabytes for a large image.
    for start in range(0, len(floats), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        rounded[part] = np.round(np.clip(floats[part], 0.0, 1.0) * 255)
    return rounded


def fit(
    image: PIL.Image.Image,
    size: tuple[int, int],
    *,
    crop: float = 1.0,
    interpolation: str = "bilinear",
    mode: str = "center",
) -> PIL.Image.Image:
    """Resize and crop the center to a `size` of (height, width), as timm does.

    The crop is the fraction `crop` of the resized short side. For a square crop the sides are
    rounded as torchvision's `Resize` does, for another as timm's `ResizeKeepRatio`. The mode
    "squash" resizes each side by itself, so that the crop is the fraction `crop` of both, whatever
    the aspect.
    """
    height, width = size
    region, resized = placement(image.size, size, crop=crop, mode=mode)
    if region != image.size:  # a long strip: the crop uses its center only
        image = _crop_center(image, *region)
    if resized != image.size:
        image = image.resize(resized, RESAMPLING[interpolation])
    return _crop_center(image, width, height)


def placement(
    original: tuple[int, int],
    size: tuple[int, int],
    *,
    crop: float = 1.0,
    mode: str = "center",
) -> tuple[tuple[int, int], tuple[int, int]]:
    """How `fit` brings an image of `original` (width, height) to a `size` of (height, width).

    Two sizes (width, height): of the center region that it keeps, which is the whole image unless
    that is a long strip, and to which it resizes this region before it crops.
    """
    height, width = size
    # the size whose part `crop` is the crop
    full_height, full_width = int(height / crop), int(width / crop)
    if mode == "squash":
        return original, (max(width, full_width), max(height, full_height))
    original_width, original_height = original
    scale = max(full_height / original_height, full_width / original_width)
    longest = round(MAX_ASPECT * max(full_height, full_width) / scale)
    region = min(original_width, longest), min(original_height, longest)
    if full_height == full_width:
        short = full_height
        long = int(short * max(region) / min(region))
        resized = (short, long) if region[0] <= region[1] else (long, short)
    else:
        resized = round(region[0] * scale), round(region[1] * scale)
    return region, (max(width, resized[0]), max(height, resized[1]))


def corner(outer: tuple[int, int], inner: tuple[int, int]) -> tuple[int, int]:
    """Left and top of the center crop of `inner` (width, height) within `outer`."""
    return round((outer[0] - inner[0]) / 2), round((outer[1] - inner[1]) / 2)


def _crop_center(image: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
    left, top = corner(image.size, (width, height))
    return image.crop((left, top, left + width, top + height))


def check_batch(images: Any) -> np.ndarray | Array:
    """Images as float32 [n, h, w, c] in [0, 1].

    Raises InputError that says which image is wrong and how.
    """
    try:
        images = images if isinstance(images, jax.Array) else np.asarray(images)
    except ValueError:
        raise InputError(
            "images differ in shape: bring them to one size, or call once for each"
        ) from None
    if images.ndim != 4:
        hint = "one image: image[None]"
        if images.ndim == 3 and images.shape[-1] > 4:
            hint = "gray images: images[..., None]"
        raise InputError(
            f"images have shape {images.shape}: give [n, height, width, channels] ({hint})"
        )
    n, height, width, channels = images.shape
    if n == 0:
        raise InputError("no images: the batch is empty")
    if min(height, width) < MIN_SIDE or channels == 0:
        raise InputError(
            f"images are {height}x{width} with {channels} channels: give {MIN_SIDE} pixels a side"
            " or more, channels last"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(
            f"images are {images.dtype}: give floats in [0, 1], for 8-bit images images / 255"
        )
    images = images.astype(np.float32)
    # on the device, so that only two numbers an image are copied
    low = np.asarray(images.min(axis=(1, 2, 3)))
    high = np.asarray(images.max(axis=(1, 2, 3)))
    not_finite = np.flatnonzero(~np.isfinite(low + high))
    if len(not_finite):
        raise InputError(f"image {int(not_finite[0])} holds NaN or infinite values")
    outside = np.flatnonzero((low < -RANGE_SLACK) | (high > 1 + RANGE_SLACK))
    if len(outside):
        first = int(outside[0])
        raise InputError(
            f"image {first} has values from {low[first]:.3g} to {high[first]:.3g}: images lie in"
            " [0, 1] and the network normalizes inside"
        )
    return images


def check_image(image: Any, name: str) -> Float32[np.ndarray, "h w c"]:
    """A copy of one image, float32 [h, w, c] in [0, 1].

    Raises InputError for anything else; `name` stands for the image in its message.
    """
    image = np.asarray(image)
    if image.ndim != 3 or min(image.shape[:2]) < MIN_SIDE or image.shape[2] == 0:
        raise InputError(
            f"{name} has shape {image.shape}: give [height, width, channels], {MIN_SIDE} pixels a"
            " side or more"
        )
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise InputError(
            f"{name} is {image.dtype}: give floats in [0, 1], for 8-bit images image / 255"
        )
    image = np.array(image, np.float32)
    low, high = float(image.min()), float(image.max())
    if not np.isfinite(low + high):
        raise InputError(f"{name} holds NaN or infinite values")
    if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
        raise InputError(
            f"{name} has values from {low:.3g} to {high:.3g}: images lie in [0, 1]"
        )
    return image


def gaussian_blur(image: Float[Array, "h w c"], sigma: Scalar) -> Float[Array, "h w c"]:
    """Gaussian blur with reflected borders; `sigma` in pixels may be traced.

    As two small matrix products, because the width of a kernel could not be traced.
    """
    rows, columns = (_blur_matrix(n, sigma) for n in image.shape[:2])
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("yh,hwc,xw->yxc", rows, image, columns, precision=highest)


def _blur_matrix(n: int, sigma: Scalar) -> Float[Array, "n n"]:
    """Row y weighs every pixel, and its mirror images beyond the borders, by distance to y."""
    pixels = np.arange(n)
    positions = np.stack([pixels, -1 - pixels, 2 * n - 1 - pixels])
    distance = pixels[None, :, None] - positions[:, None, :]
    weights = jnp.exp(-0.5 * (distance / jnp.maximum(sigma, 1e-3)) ** 2).sum(axis=0)
    return weights / weights.sum(axis=1, keepdims=True)
