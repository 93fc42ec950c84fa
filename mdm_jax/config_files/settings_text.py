"""Settings from TOML files and method strings, and configs as plain values again."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mdm_jax.config_files.config_builder import Config, build
from mdm_jax.errors import InputError
from mdm_jax.text_files import parse_toml, read_text

# No setting of a method is as large: whole numbers of compiled programs end here.
MAX_NUMBER = 2**31


def load(
    cls: type[Config], path: Path | str, overrides: Mapping[str, Any] | None = None
) -> Config:
    """The config that a TOML file describes, with `overrides` in place of the file's settings.

    Overrides are named as in `merge`. Raises InputError that begins with the file's name.
    """
    settings = merge(read_toml(path), overrides or {})
    try:
        return build(cls, settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_toml(path: Path | str) -> dict[str, Any]:
    """The settings in a TOML file, unchecked. Raises InputError for a file that cannot be read."""
    try:
        return parse_toml(read_text(path))
    except OSError as error:
        raise InputError(
            f"cannot read the config {path} ({error.strerror}): check the path"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path} is not valid TOML ({error}): a setting is written like steps = 50"
        ) from error


def merge(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others in their place, named `setting` or `table.setting`; None changes
    nothing."""
    merged = dict(settings)
    for name, value in overrides.items():
        table, _, key = name.rpartition(".")
        if value is None:
            continue
        if not table:
            merged[name] = value
        elif isinstance(merged.get(table, {}), Mapping):
            merged[table] = {**merged.get(table, {}), key: value}
    return merged


def parse_settings(text: str, owner: str) -> dict[str, Any]:
    """The settings in `setting=value,setting=value`: values as in TOML, or bare words.

    Raises InputError for what cannot be read or is given twice; `owner` is the name before them.
    """
    settings: dict[str, Any] = {}
    # A comma inside brackets belongs to the value.
    for part in re.split(r",(?![^\[{]*[\]}])", text) if text else []:
        name, equals, written = (each.strip() for each in part.partition("="))
        if not (name and equals and written):
            raise InputError(
                f"the settings {text!r} cannot be read at {part!r}: write"
                f" {owner}:setting=value,setting=value"
            )
        if name in settings:
            raise InputError(f"{name} is given twice in {owner}:{text}: give it once")
        value = _parse_value(written)
        if type(value) in (int, float) and not abs(value) < MAX_NUMBER:
            raise InputError(f"{name} is {value}: give a number of less than {MAX_NUMBER}")
        settings[name] = value
    return settings


def _parse_value(written: str) -> Any:
    try:
        return parse_toml(f"value = {written}")["value"]
    except ValueError:
        return written


def resolved(config: Any) -> Any:
    """A config as plain values that JSON and TOML can hold: functions by their names, and an
    objective as a table of weights."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        values = {
            each.name: getattr(config, each.name) for each in dataclasses.fields(config)
        }
        return {name: resolved(value) for name, value in values.items()}
    if isinstance(config, Mapping):
        return {str(name): resolved(value) for name, value in config.items()}
    if isinstance(config, tuple | list):
        if config and all(_is_weighted(each) for each in config):
            return {each.name: resolved(each.weight) for each in config}
        return [resolved(each) for each in config]
    if config is None or isinstance(config, str | bool | int | float):
        return config
    if isinstance(config, Path):
        return str(config)
    if hasattr(config, "tolist"):
        return np.asarray(config).tolist()
    return getattr(config, "__name__", None) or str(config)


def _is_weighted(value: Any) -> bool:
    """Whether a value is a term of an objective."""
    return (
        dataclasses.is_dataclass(value)
        and hasattr(value, "name")
        and hasattr(value, "weight")
    )
