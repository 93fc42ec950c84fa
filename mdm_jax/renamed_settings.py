"""Settings and values that once had other names: old files and folders are still read.

Whoever renames a setting or a value that people write, or that lies in stored folders, adds a row
here: `SETTINGS` for the name of a setting, `VALUES` for what a setting may be. A preset that
changes goes on under another name, see `OLDER_PRESETS`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple


class Renamed(NamedTuple):
    """A name that changed."""

    old: str
    new: str
    method: str = ""
    """only in the config of this method; "" for all"""


# Names of settings.
SETTINGS: tuple[Renamed, ...] = (
    Renamed("parametrisation", "parametrization"),
    Renamed("normalisation", "normalization"),
    Renamed("colour", "color"),
    Renamed("samples", "num_samples", "rise"),
    Renamed("samples", "num_samples", "smoothgrad"),
    Renamed("kept", "keep_probability", "rise"),
    Renamed("noise", "noise_level", "smoothgrad"),
)

# Values by the setting that has them; "term" is a term of the objective, by its name.
VALUES: dict[str, tuple[Renamed, ...]] = {
    "method": (Renamed("centre", "center"),),
    "start": (Renamed("centre", "center"),),
    "node": (Renamed("normalised_similarity", "normalized_similarity"),),
    "fill": (Renamed("grey", "gray"),),
    "baseline": (Renamed("grey", "gray"),),
    "term": (),
    "optimizer": (),
}

# Presets of MDM that were other settings until November 2026, and what those are called now.
OLDER_PRESETS = {"fast": "fast-2026-11", "best": "best-2026-11"}


def setting_name(name: str, method: str = "") -> str:
    """Today's name of a setting."""
    for row in SETTINGS:
        if row.old == name and row.method in ("", method):
            return row.new
    return name


def value_name(setting: str, value: Any) -> Any:
    """Today's form of a setting's value: a name, or each name of several; the rest as it is."""
    if isinstance(value, list | tuple):
        return type(value)(value_name(setting, each) for each in value)
    for row in VALUES.get(setting, ()):
        if row.old == value:
            return row.new
    return value


def current(settings: Mapping[str, Any], method: str = "") -> dict[str, Any]:
    """Settings with the names of today, as a config file or a stored request has them."""
    found = {}
    for name, value in settings.items():
        name = setting_name(name, method)
        if name == "objective" and isinstance(value, Mapping):
            value = {value_name("term", term): weight for term, weight in value.items()}
        elif name.startswith("objective."):
            name = f"objective.{value_name('term', name.removeprefix('objective.'))}"
        found[name] = value_name(name, value)
    return found


def is_older_mdm(config: Mapping[str, Any]) -> bool:
    """Whether recorded settings of MDM are from before `OLDER_PRESETS` changed."""
    return "schedule" in config and "map" not in config


def with_older_preset(method: str) -> str:
    """MDM as older commands wrote it, such as "mdm:steps=4", so that it means the same today."""
    name, _, settings = method.partition(":")
    for old, new in OLDER_PRESETS.items():
        settings, count = re.subn(rf"\bpreset={old}(?=,|$)", f"preset={new}", settings)
        if count:
            return f"{name}:{settings}"
    if "preset=" in settings:
        return method
    preset = f"preset={OLDER_PRESETS['fast']}"
    return f"{name}:{preset},{settings}" if settings else f"{name}:{preset}"


def without_older_preset(method: str) -> list[str]:
    """How older commands may have written a text of `with_older_preset`."""
    for old, new in OLDER_PRESETS.items():
        before, found, after = method.partition(f"preset={new}")
        if found:
            texts = [f"{before}preset={old}{after}"]
            if old == "fast":  # which was meant where no preset was named
                texts.append(f"{before}{after.removeprefix(',')}".rstrip(":,"))
            return texts
    return []
