"""The files of one explanation: an overlay, the masks, and an .npz with everything."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from mdm_jax import images
from mdm_jax.errors import InputError
from mdm_jax.models.classifier import Classifier
from mdm_jax.storage import arrays
from mdm_jax.types import Explanation
from mdm_jax.views import explanation_figures

# Pixels; the short side of an overlay is the photograph's own, up to this.
MAX_OVERLAY_SIDE = 768
MIN_OVERLAY_SIDE = 256


class WrittenExplanation(NamedTuple):
    """What is written of one explanation."""

    name: str
    photograph: PIL.Image.Image
    image: np.ndarray
    """the photograph as the network sees it"""
    explanation: Explanation
    title: str
    settings: str
    """what the map was made with, as `_describe_settings` gives it"""

    def free_prefix(self, prefix: Path, method: str) -> Path:
        """How the files' names begin: as the prefix says, else with the method's name behind it,
        then numbered. Nothing is overwritten but the same explanation made before."""
        stem, name = prefix.name, f"{prefix.name}-{arrays.file_name(method)}"
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        for each in itertools.chain((stem, name), numbered):
            prefix = prefix.with_name(each)
            if not any(map(os.path.lexists, _files(prefix))) or self._is_there(prefix):
                return prefix
        raise AssertionError  # never reached: numbers do not end

    def _is_there(self, prefix: Path) -> bool:
        """Whether the arrays of the same explanation stand under a prefix."""
        with suppress(InputError):
            own: dict[str, Any] = {
                "image_file": self.name,
                "settings": self.settings,
                "image": self.image,
            }
            stored = arrays.read_arrays(_files(prefix)[-1], tuple(own))
            return stored.keys() == own.keys() and all(
                np.array_equal(stored[name], value) for name, value in own.items()
            )
        return False

    def save(self, prefix: Path, classifier: Classifier) -> list[str]:
        """Write the overlay, the masks and the arrays; their files."""
        overlay, sheet, values = _files(prefix)
        large = images.to_array(self._large_photograph(classifier))
        painted = explanation_figures.overlay(large, self.explanation.saliency)
        explanation_figures.save_png(painted, overlay)
        masks = explanation_figures.masks_sheet(self.image, self.explanation, self.title)
        explanation_figures.save(masks, sheet)
        content = self._arrays()
        arrays.write_arrays(values, content)
        return [str(path) for path in (overlay, sheet, values)]

    def _large_photograph(self, classifier: Classifier) -> PIL.Image.Image:
        """The part of the photograph that the network sees, in the size of an overlay."""
        preprocessing = classifier.preprocessing
        height, width = self.image.shape[:2]
        side = max(min(*self.photograph.size, MAX_OVERLAY_SIDE), MIN_OVERLAY_SIDE)
        scale = max(1.0, side / min(height, width))
        return images.fit(
            self.photograph,
            (round(height * scale), round(width * scale)),
            crop=preprocessing.crop,
            interpolation="bicubic",
            mode=preprocessing.crop_mode,
        )

    def _arrays(self) -> dict[str, Any]:
        explanation = self.explanation
        content: dict[str, Any] = {
            "image_file": self.name,
            "settings": self.settings,
            "image": self.image,
            "saliency": explanation.saliency,
        }
        for name in ("attribution", "evidence", "ranking"):
            if getattr(explanation, name) is not None:
                content[name] = getattr(explanation, name)
        for k, vector in enumerate(explanation.mask_vectors):
            content[f"mask_vector_{k}"] = vector
        for name, value in explanation.info._asdict().items():
            if name != "terms":
                content[name] = np.asarray(value)
        for name, value in explanation.info.terms.items():
            content[f"term_{name}"] = np.asarray(value)
        return content


def _files(prefix: Path) -> tuple[Path, Path, Path]:
    """Overlay, masks and arrays of an explanation."""
    overlay, sheet, values = (
        prefix.with_name(prefix.name + end)
        for end in ("-overlay.png", "-masks.png", ".npz")
    )
    return overlay, sheet, values
