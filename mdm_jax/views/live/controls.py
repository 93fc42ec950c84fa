"""The page's choices: class, method, and the settings that the method has."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
import panel as pn

from mdm_jax.config import PRESETS
from mdm_jax.methods import MethodSpec
from mdm_jax.views.live import choices
from mdm_jax.views.live.look import Look

# Classes to choose from without a search.
TOP_CLASSES = 10


def read_style(name: str) -> str:
    """A style sheet of this folder."""
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


# What every component of the page has.
COMMON: dict[str, Any] = {
    "sizing_mode": "stretch_width",
    "stylesheets": [read_style("look.css")],
}


class Controls:
    """The widgets, and what they say."""

    def __init__(self, look: Look):
        self.base = look.spec
        self.class_names = look.classifier.class_names
        top = [int(each) for each in np.argsort(-look.probabilities)[:TOP_CLASSES]]
        self.classes = {f"{self._label(n)}, {look.probabilities[n]:.3f}": n for n in top}
        self.class_ = pn.widgets.Select(
            name="Class", options=self.classes, value=top[0], **COMMON
        )
        self.search = pn.widgets.AutocompleteInput(
            name="Search all classes by name",
            options={self._label(n): n for n in range(len(self.class_names))},
            case_sensitive=False,
            search_strategy="includes",
            min_characters=1,
            placeholder="type a part of a name",
            **COMMON,
        )
        self.method = pn.widgets.Select(
            name="Method",
            options=choices.method_names(self.base),
            value=self.base.method,
            **COMMON,
        )
        self.preset = pn.widgets.Select(
            name="Preset", options=list(PRESETS), value=self.base.preset, **COMMON
        )
        self.fill = pn.widgets.Select(
            name="Fill", options=list(choices.FILL_CHOICES), **COMMON
        )
        self.kept_share = pn.widgets.FloatSlider(
            name="Share of the activation to keep (kept_share)",
            start=0.5,
            end=0.99,
            step=0.01,
            **COMMON,
        )
        self.area_weight = pn.widgets.FloatInput(
            name="Weight of the area (area)", start=0.0, step=1.0, **COMMON
        )
        self.search.param.watch(self._choose_found, "value")
        self.method.param.watch(self._show_settings, "value")
        self.preset.param.watch(self._show_settings, "value")
        self._show_settings()

    def widgets(self) -> list[pn.viewable.Viewable]:
        """All of them, from top to bottom."""
        return [
            self.class_,
            self.search,
            self.method,
            self.preset,
            self.fill,
            self.kept_share,
            self.area_weight,
        ]

    def target(self) -> int:
        """The class that is chosen."""
        return int(self.class_.value)

    def spec(self) -> MethodSpec:
        """The method and its settings that are chosen."""
        asked = choices.Choices(
            method=self.method.value,
            preset=self.preset.value,
            fill=choices.FILL_CHOICES[self.fill.value],
            kept_share=self.kept_share.value,
            area_weight=self.area_weight.value,
        )
        return choices.specify(self.base, asked)

    def _label(self, number: int) -> str:
        return f"{self.class_names[number]} ({number})"

    def _choose_found(self, *_: Any) -> None:
        """Take a class that was searched for into the list, and choose it."""
        number = self.search.value
        if not isinstance(number, int):
            return
        if number not in self.classes.values():
            self.classes = {self._label(number): number} | self.classes
            self.class_.options = self.classes
        self.class_.value = number

    def _show_settings(self, *_: Any) -> None:
        """Show the settings that the method and the preset have, at the preset's values."""
        is_mdm = self.method.value == "mdm"
        config = choices.base_config(self.base, self.preset.value)
        in_sequence, weight = choices.has_kept_share(config), choices.area_weight(config)
        self.preset.visible = self.fill.visible = is_mdm
        self.kept_share.visible = is_mdm and in_sequence
        self.area_weight.visible = is_mdm and not in_sequence and weight is not None
        self.kept_share.value = float(config.kept_share)
        self.area_weight.value = weight
