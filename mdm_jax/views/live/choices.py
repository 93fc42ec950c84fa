"""What is chosen on the page, as settings of a method."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from mdm_jax import fills
from mdm_jax.config import MDMConfig, PresetName, preset
from mdm_jax.config_files import build
from mdm_jax.methods import METHODS, MethodSpec

# Fills by what the page calls them; None is that of the preset.
FILL_CHOICES: dict[str, Any] = {
    "as in the preset": None,
    "blur and mean in turn": ("blur", "mean"),
    **{name: name for name in fills.FILLS},
}


class Choices(NamedTuple):
    """What the page asks for. What is not of the method that is chosen has no effect."""

    method: str = "mdm"
    preset: PresetName = "fast"
    fill: Any = None
    """None: as in the preset"""
    kept_share: float | None = None
    """of the schedule sequence; None: as in the preset"""
    area_weight: float | None = None
    """of the schedules joint and independent; None: as in the preset"""


def method_names(spec: MethodSpec) -> list[str]:
    """The methods to choose from: the one that was asked for, mdm, and all others."""
    return list(dict.fromkeys([spec.method, "mdm", *sorted(METHODS)]))


def specify(base: MethodSpec, choices: Choices) -> MethodSpec:
    """The method and its settings, on those that the page was opened with."""
    if choices.method != "mdm":
        return dataclasses.replace(base, method=choices.method, preset="fast", mdm={})
    settings = dict(base.mdm)
    if choices.fill is not None:
        settings["fill"] = choices.fill
    config = base_config(base, choices.preset)
    if has_kept_share(config):
        if choices.kept_share is not None:
            settings["kept_share"] = choices.kept_share
    elif choices.area_weight is not None:
        weights = {term.name: term.weight for term in config.objective}
        settings["objective"] = weights | {"area": choices.area_weight}
    return dataclasses.replace(base, method="mdm", preset=choices.preset, mdm=settings)


def base_config(base: MethodSpec, name: str) -> MDMConfig:
    """A preset with the settings that the page was opened with."""
    return build(MDMConfig, base.mdm, base=preset(name))


def has_kept_share(config: MDMConfig) -> bool:
    """Whether the share to keep decides on the area; in the other schedules a weight does."""
    return config.schedule == "sequence"


def area_weight(config: MDMConfig) -> float | None:
    """The weight of the area; None where the objective has no such term."""
    weights = {term.name: float(term.weight) for term in config.objective}
    return weights.get("area")
