"""From the state of a solver, or its answer, to what the page shows: pictures as PNG, and facts."""

from __future__ import annotations

import io
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

from mdm_jax import nodes
from mdm_jax.images import to_uint8
from mdm_jax.types import REASONS, AnyArray, Explanation, Node, Status
from mdm_jax.view import kept_share
from mdm_jax.views import explanation_figures
from mdm_jax.views.live.stepwise import Progress

# Pixels of the short side of a picture, at least: small images are enlarged without blur.
LEAST_SIDE = 224

# Pixels between the masks of a strip.
GAP = 4

# A size whose turn has not come: a veil, as it stands on a light or a dark page.
NOT_YET = (128, 128, 128, 60)


class Pictures(NamedTuple):
    """What is drawn of a state, each a PNG."""

    masks: bytes | None
    """the learned masks side by side, coarse ones first; None for methods without masks"""
    kept: bytes
    """the image through the mask"""
    saliency: bytes | None
    """the map over the image; None before the end"""


class Facts(NamedTuple):
    """What is said of an answer."""

    rows: tuple[tuple[str, str], ...]
    """names and values"""
    warning: str | None
    """why the map is not what it usually is"""


def png(picture: UInt8[np.ndarray, "h w c"]) -> bytes:
    """An 8-bit picture as a file, small ones enlarged by a whole number."""
    factor = max(1, -(-LEAST_SIDE // min(picture.shape[:2])))
    large = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    file = io.BytesIO()
    PIL.Image.fromarray(large).save(file, format="PNG")
    return file.getvalue()


def photograph(image: Float[np.ndarray, "h w c"]) -> bytes:
    """The image as the network sees it."""
    return png(to_uint8(_in_color(image)))


def of_progress(image: Float[np.ndarray, "h w c"], progress: Progress) -> Pictures:
    """The masks on their way."""
    strip = mask_strip(progress.mask_vectors, image.shape[:2])
    kept = explanation_figures.masked_view(_in_color(image), progress.mask)
    return Pictures(png(strip), png(kept), None)


def of_explanation(image: Float[np.ndarray, "h w c"], explanation: Explanation) -> Pictures:
    """The learned masks, the image through them, and the map."""
    image = _in_color(image)
    vectors, mask = explanation.mask_vectors, explanation.saliency
    if explanation.evidence is not None:
        mask = explanation_figures.mean_mask(vectors, mask.shape)
    strip = png(mask_strip(vectors, image.shape[:2])) if vectors else None
    return Pictures(
        strip,
        png(explanation_figures.masked_view(image, mask)),
        png(explanation_figures.overlay(image, explanation.saliency)),
    )


def mask_strip(
    vectors: tuple[AnyArray | None, ...], shape: tuple[int, int]
) -> UInt8[np.ndarray, "h w 4"]:
    """Masks side by side, in the colors of a map, with transparent gaps."""
    height, width = shape
    gap = np.zeros((height, GAP, 4), np.uint8)
    tiles: list[np.ndarray] = []
    for vector in vectors:
        if vector is None:
            tile = np.broadcast_to(np.asarray(NOT_YET, np.uint8), (height, width, 4))
        else:
            rendered = explanation_figures.render_mask(vector, shape)
            tile = explanation_figures.HEAT(rendered, bytes=True)
        tiles += [gap, tile]
    return np.concatenate(tiles[1:], axis=1)


def describe_progress(progress: Progress) -> str:
    """Where the masks are, in a line."""
    if progress.step == 0:
        return "The masks at their start. Now come the steps, which are compiled once."
    text = f"Step {progress.step} of {progress.steps}: "
    text += f"the mask is {100 * progress.mask.mean():.0f} % of the image"
    if progress.kept is not None:
        text += f" and keeps {100 * progress.kept:.0f} % of the activation"
    if progress.step == progress.steps:
        return f"{text}. Now comes the map."
    return f"{text}."


def describe(
    explanation: Explanation, class_name: str, node: str | Node, method: str, seconds: float
) -> Facts:
    """An answer in names and values."""
    info = explanation.info
    before, after = jnp.asarray(info.activation), jnp.asarray(info.activation_masked)
    of_fill = jnp.asarray(info.activation_fill)
    kept = float(kept_share(after, before, of_fill, nodes.direction(node)))
    status = Status(int(info.status))
    what = node if isinstance(node, str) else "node"
    target = int(info.target)
    rows = (
        ("class", f"{class_name} ({target})"),
        (f"{what} before masking", _number(before, target)),
        (f"{what} after masking", _number(after, target)),
        ("share of the activation kept", f"{100 * kept:.0f} %"),
        ("area kept", f"{100 * float(info.kept_area):.0f} % of the image"),
        ("status", status.name.replace("_", " ") if status in REASONS else _usual(status)),
        (
            "evaluations",
            f"{int(info.evaluations)} with a gradient, {int(info.forwards)} without",
        ),
        ("method", f"{method}, {seconds:.1f} s with compilation"),
    )
    reason = REASONS.get(status)
    return Facts(rows, None if reason is None else f"{status.name}: {reason}")


def _usual(status: Status) -> str:
    return status.name.replace("_", " ").lower()


def _number(activation: AnyArray, target: int) -> str:
    """An activation; of a node of all classes, that of the target."""
    values = np.asarray(activation)
    return f"{float(values if values.ndim == 0 else values[target]):.3f}"


def _in_color(image: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w 3"]:
    return np.broadcast_to(image, (*image.shape[:2], 3))
