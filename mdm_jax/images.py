"""The one place for layout and range: NHWC, float32, [0, 1], RGB. Reading, resizing, blurring."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import Array, Float, Float32

from mdm_jax.errors import InputError
from mdm_jax.types import Scalar

MIN_SIDE = 8
"""pixels; smaller images hold nothing that a mask could select"""
MAX_PIXELS = 100_000_000
"""larger files are refused before they are decoded (decompression bombs)"""
MAX_ASPECT = 8
"""a longer strip is cut to its center before it is resized, or resizing it would need memory for
pixels that none sees"""
DRAWINGS = {"EPS", "WMF"}
"""formats that are programs, for which Pillow would start another program"""
TOO_LARGE = f"over the limit of {MAX_PIXELS // 10**6} megapixels: shrink it first"

RESAMPLING = {
    "nearest": PIL.Image.Resampling.NEAREST,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
}
CROP_MODES = ("center", "squash")
"""timm's names: keep the aspect and crop the center, or give it up and keep all"""
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""control characters, and what stands for bytes that are no UTF-8"""

# Once and for all: what is too large is refused here, and `warnings.catch_warnings` must not be
# used where threads read.
warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)


def read(path: str | Path) -> PIL.Image.Image:
    """An image file as 8-bit RGB, upright.

    EXIF rotation is applied, transparency is laid on white, CMYK and palettes are converted, 16-bit
    gray keeps its range, an animation gives its first frame. Raises InputError for what is no
    image, empty, truncated, tiny or huge."""
    path = Path(path)
    shown = printable(path)
    try:
        if not path.exists():
            what = (
                "is a link to what does not exist: mend it"
                if path.is_symlink()
                else "does not exist: check the path"
            )
            raise InputError(f"{shown} {what}")
        if path.is_dir():
            raise InputError(f"{shown} is a folder: give image files, for example {shown}/*.jpg")
        if path.stat().st_size == 0:
            raise InputError(f"{shown} is empty: it holds no image")
        return decode(path, shown)
    except PermissionError as error:
        raise InputError(
            f"{shown} cannot be read (permission denied): check its permissions"
        ) from error
    except OSError as error:
        raise InputError(f"{shown} is damaged or cannot be read ({error})") from error


def decode(file: Path | io.BytesIO, shown: str) -> PIL.Image.Image:
    """An image from a file or from bytes in memory, as `read` gives it; `shown` names it in the
    InputError."""
    try:
        with PIL.Image.open(file) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise InputError(f"{shown} is {width}x{height}, {TOO_LARGE}")
            if min(width, height) < MIN_SIDE:
                raise InputError(
                    f"{shown} is {width}x{height}: an image needs at least {MIN_SIDE} pixels a side"
                )
            if opened.format in DRAWINGS:
                raise InputError(
                    f"{shown} is a drawing ({opened.format}), which is a program: save it as PNG"
                    " first"
                )
            return _to_rgb(_upright(opened))
    except (InputError, PermissionError):
        raise
    except (
        PIL.Image.DecompressionBombError,
        PIL.Image.DecompressionBombWarning,
    ) as error:  # a warning where they are errors
        raise InputError(f"{shown} is {TOO_LARGE}") from error
    except PIL.UnidentifiedImageError as error:
        raise InputError(f"{shown} is not an image in a known format") from error
    except Exception as error:  # a stranger's bytes: Pillow raises errors of many kinds for them
        raise InputError(
            f"{shown} is damaged or cannot be read ({error or type(error).__name__})"
        ) from error


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """Turned as its EXIF says; as it is stored where that cannot be read."""
    image.load()  # damaged pixels raise here
    try:
        return PIL.ImageOps.exif_transpose(image)
    except Exception:
        return image


def printable(path: str | Path) -> str:
    """A path as one line of text that can be printed, whatever bytes its name holds."""
    return UNPRINTABLE.sub("?", str(path))


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float32)
        if not np.isfinite(values).all():
            raise ValueError("it holds NaN or infinite values")
        top = 65535.0 if image.mode.startswith("I") else max(1.0, float(values.max()))
        image = PIL.Image.fromarray(np.clip(np.round(values / top * 255), 0, 255).astype(np.uint8))
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        image = image.convert("RGBA")
        white = PIL.Image.new("RGBA", image.size, "white")
        image = PIL.Image.alpha_composite(white, image)
    return image.convert("RGB")


def to_array(image: PIL.Image.Image) -> Float32[np.ndarray, "h w c"]:
    """An 8-bit image, RGB or gray, as float32 in [0, 1]."""
    array = np.asarray(image, np.float32) / 255.0
    return array if array.ndim == 3 else array[..., None]


def to_uint8(image: Any) -> np.ndarray:
    """Floats in [0, 1] as 8-bit values, rounded."""
    return np.round(np.clip(np.asarray(image, np.float32), 0.0, 1.0) * 255).astype(np.uint8)


def fit(
    image: PIL.Image.Image,
    size: tuple[int, int],
    *,
    crop: float = 1.0,
    interpolation: str = "bilinear",
    mode: str = "center",
) -> PIL.Image.Image:
    """Resize so that a center crop of (height, width) is the share `crop` of the short side, then
    crop, as timm does.

    For a square crop the sides are rounded as torchvision's `Resize` does, for another as timm's
    `ResizeKeepRatio`. The mode "squash" resizes each side by itself, so that the crop is the share
    `crop` of both, whatever the aspect."""
    height, width = size
    room, resized = placement(image.size, size, crop=crop, mode=mode)
    if room != image.size:  # a strip: the center is all that the crop will see
        image = _center(image, *room)
    if resized != image.size:
        image = image.resize(resized, RESAMPLING[interpolation])
    return _center(image, width, height)


def placement(
    original: tuple[int, int], size: tuple[int, int], *, crop: float = 1.0, mode: str = "center"
) -> tuple[tuple[int, int], tuple[int, int]]:
    """How `fit` brings an image of `original` (width, height) to a `size` (height, width): the
    (width, height) of the center that it keeps of a long strip, the whole for any other image, and
    that to which it resizes this before it crops."""
    height, width = size
    whole = int(height / crop), int(width / crop)
    if mode == "squash":
        return original, (max(width, whole[1]), max(height, whole[0]))
    scale = max(whole[0] / original[1], whole[1] / original[0])
    longest = round(MAX_ASPECT * max(whole) / scale)
    room = min(original[0], longest), min(original[1], longest)
    if whole[0] == whole[1]:
        short, long = whole[0], int(whole[0] * max(room) / min(room))
        resized = (short, long) if room[0] <= room[1] else (long, short)
    else:
        resized = round(room[0] * scale), round(room[1] * scale)
    return room, (max(width, resized[0]), max(height, resized[1]))


def corner(outer: tuple[int, int], inner: tuple[int, int]) -> tuple[int, int]:
    """Left and top of the center crop of `inner` (width, height) within `outer`."""
    return round((outer[0] - inner[0]) / 2), round((outer[1] - inner[1]) / 2)


def _center(image: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
    left, top = corner(image.size, (width, height))
    return image.crop((left, top, left + width, top + height))


def check_batch(images: Any) -> np.ndarray | Array:
    """Images as float32 [n, h, w, c] in [0, 1]. Raises InputError saying which image is wrong and
    how."""
    try:
        images = images if isinstance(images, jax.Array) else np.asarray(images)
    except ValueError:
        raise InputError(
            "images differ in shape: bring them to one size, or call once for each"
        ) from None
    if images.ndim != 4:
        raise InputError(
            f"images have shape {images.shape}: give [n, height, width, channels] (one image:"
            " image[None])"
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
    low, high = np.asarray(images.min(axis=(1, 2, 3))), np.asarray(images.max(axis=(1, 2, 3)))
    if not np.isfinite(low + high).all():
        raise InputError(
            f"image {int(np.flatnonzero(~np.isfinite(low + high))[0])} holds NaN or infinite values"
        )
    if low.min() < -1e-3 or high.max() > 1 + 1e-3:
        worst = int(np.flatnonzero((low < -1e-3) | (high > 1 + 1e-3))[0])
        raise InputError(
            f"image {worst} has values from {low[worst]:.3g} to {high[worst]:.3g}: images lie in"
            " [0, 1] and the network normalizes inside"
        )
    return images


def check_image(image: Any, shown: str) -> Float32[np.ndarray, "h w c"]:
    """A copy of one image, float32 [h, w, c] in [0, 1]; `shown` names it in the InputError for what
    is not such."""
    image = np.asarray(image)
    if image.ndim != 3 or min(image.shape[:2]) < MIN_SIDE or image.shape[2] == 0:
        raise InputError(
            f"{shown} has shape {image.shape}: give [height, width, channels], {MIN_SIDE} pixels a"
            " side or more"
        )
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise InputError(
            f"{shown} is {image.dtype}: give floats in [0, 1], for 8-bit images image / 255"
        )
    image = np.array(image, np.float32)
    low, high = float(image.min()), float(image.max())
    if not np.isfinite(low + high):
        raise InputError(f"{shown} holds NaN or infinite values")
    if low < -1e-3 or high > 1 + 1e-3:
        raise InputError(f"{shown} has values from {low:.3g} to {high:.3g}: images lie in [0, 1]")
    return image


def gaussian_blur(image: Float[Array, "h w c"], sigma: Scalar) -> Float[Array, "h w c"]:
    """Gaussian blur with reflected borders, as two small matrix products; `sigma` in pixels may be
    traced."""
    rows, columns = (_blur_matrix(n, sigma) for n in image.shape[:2])
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("yh,hwc,xw->yxc", rows, image, columns, precision=highest)


def _blur_matrix(n: int, sigma: Scalar) -> Float[Array, "n n"]:
    """Row y weighs every pixel by its distance, and by those of its mirror images beyond either
    border."""
    at = np.arange(n)
    places = np.stack([at, -1 - at, 2 * n - 1 - at])
    distance = at[None, :, None] - places[:, None, :]
    weights = jnp.exp(-0.5 * (distance / jnp.maximum(sigma, 1e-3)) ** 2).sum(axis=0)
    return weights / weights.sum(axis=1, keepdims=True)
