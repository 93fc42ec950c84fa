"""The options of a verb beside its results, as a file that --config takes."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from pathlib import Path
from typing import Any

from mdm_jax.cli.options import Options
from mdm_jax.config_files import NONE, resolved
from mdm_jax.images import printable
from mdm_jax.storage.atomic import write_text
from mdm_jax.sweeps.export_preset import to_toml

# Options that say how the others are given and shown.
OF_THE_CALL = ("config", "json")


def plain_config(options: Options) -> dict[str, Any]:
    """Every option in plain values: of the words, the config file and the defaults."""
    values = {}
    for each in dataclasses.fields(options):
        if each.name not in OF_THE_CALL:
            values[each.name] = _plain(getattr(options, each.name))
    return values


def write_config(options: Options, folder: Path) -> Path:
    """Write the options into mdm-VERB.toml; the same results come from it with --config."""
    verb = type(options).__name__.removesuffix("Command").lower()
    settings = {}
    for each in dataclasses.fields(options):
        value = plain_config(options).get(each.name)
        if value is not None:
            settings[each.name] = value
        elif each.name not in OF_THE_CALL and each.default is not None:
            settings[each.name] = NONE  # TOML has no word for it
    comments = [f"mdm {verb} --config of mdm_jax {metadata.version('mdm_jax')}"]
    path = folder / f"mdm-{verb}.toml"
    write_text(path, to_toml(settings, comments))
    return path


def _plain(value: Any) -> Any:
    """Paths may hold bytes that are no text."""
    if isinstance(value, Path):
        return printable(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return resolved(value)
