"""The files of one explanation: an overlay, the masks, and an .npz with everything; and the sheet
of several."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from mdm_jax.errors import InputError
from mdm_jax.storage import arrays
from mdm_jax.types import Explanation
from mdm_jax.views import explanation_figures, map_pictures
from mdm_jax.views.map_pictures import Photograph, ShownMap

# The keyword in a sheet's file under which its maps are known again.
SHEET_KEY = "mdm_jax-sheet"


class PictureTexts(NamedTuple):
    """What pictures say beside what their maps say."""

    source: str
    """the file and the network"""
    masks_title: str
    notes: Sequence[str] = ()
    """below the picture, a line each"""


class WrittenExplanation(NamedTuple):
    """What is written of one explanation."""

    name: str
    image: np.ndarray
    """the photograph as the network sees it"""
    explanation: Explanation
    settings: str
    """what the map was made with, as `_describe_settings` gives it"""

    def free_prefix(self, prefix: Path, method: str, with_method: bool = False) -> Path:
        """How the files' names begin: as the prefix says, else with the method's name behind it,
        then numbered. Nothing is overwritten but the same explanation made before.

        `with_method` leaves out the first, unless the same explanation is there."""
        stem, name = prefix.name, f"{prefix.name}-{arrays.file_name(method)}"
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        for each in itertools.chain((stem, name), numbered):
            prefix = prefix.with_name(each)
            is_free = not any(map(os.path.lexists, _files(prefix)))
            may_be_new = each != stem or not with_method
            if (is_free and may_be_new) or self._is_there(prefix):
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

    def save(
        self,
        prefix: Path,
        photograph: Photograph,
        shown: ShownMap,
        texts: PictureTexts,
    ) -> list[str]:
        """Write the overlay, the masks where there are some, and the arrays; their files."""
        overlay, sheet, values = _files(prefix)
        figure = map_pictures.draw_overlay(photograph, shown, texts.source, texts.notes)
        explanation_figures.save(figure, overlay)
        written = [overlay]
        if self.explanation.mask_vectors:
            masks = explanation_figures.masks_sheet(
                self.image, self.explanation, texts.masks_title
            )
            explanation_figures.save(masks, sheet)
            written.append(sheet)
        arrays.write_arrays(values, self._arrays())
        return [str(path) for path in (*written, values)]

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


class SheetMap(NamedTuple):
    """A map of a sheet, and what it was made with."""

    shown: ShownMap
    target: int
    settings: str


def save_sheet(
    prefix: Path,
    photograph: Photograph,
    image: np.ndarray,
    maps: Sequence[SheetMap],
    texts: PictureTexts,
) -> str:
    """Write the maps of one photograph side by side, a row for each target; the file.

    Nothing is overwritten but a sheet of the same maps."""
    made_with = [(each.target, each.settings) for each in maps]
    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes())
    digest.update(json.dumps([texts.source, made_with]).encode())
    identity = digest.hexdigest()
    path = _free_sheet(prefix, identity)
    rows: dict[int, list[ShownMap]] = {}
    for each in maps:
        rows.setdefault(each.target, []).append(each.shown)
    figure = map_pictures.draw_sheet(
        photograph, list(rows.values()), texts.source, texts.notes
    )
    explanation_figures.save(figure, path, {SHEET_KEY: identity})
    return str(path)


def _free_sheet(prefix: Path, identity: str) -> Path:
    """The first name that no file has, or the same sheet."""
    names = (f"{prefix.name}-sheet-{number}.png" for number in itertools.count(2))
    for name in itertools.chain((f"{prefix.name}-sheet.png",), names):
        path = prefix.with_name(name)
        if not os.path.lexists(path) or _sheet_identity(path) == identity:
            return path
    raise AssertionError  # never reached: numbers do not end


def _sheet_identity(path: Path) -> str | None:
    # Pillow raises errors of many kinds for what is damaged, or no image.
    with suppress(Exception), PIL.Image.open(path) as image:
        return image.info.get(SHEET_KEY)
    return None


def _files(prefix: Path) -> tuple[Path, Path, Path]:
    """Overlay, masks and arrays of an explanation."""
    overlay, sheet, values = (
        prefix.with_name(prefix.name + end)
        for end in ("-overlay.png", "-masks.png", ".npz")
    )
    return overlay, sheet, values
