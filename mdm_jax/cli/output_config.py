"""The options of a verb beside its results, as a file that --config takes."""

from __future__ import annotations

import dataclasses
import itertools
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from mdm_jax.cli.options import Options
from mdm_jax.config_files import NONE, resolved
from mdm_jax.images import printable
from mdm_jax.storage import claims
from mdm_jax.storage.atomic import write_text
from mdm_jax.sweeps.export_preset import to_toml
from mdm_jax.version import __version__

# Options that say how the others are given and shown.
OF_THE_CALL = ("config", "code", "json", "log_json")


def plain_config(options: Options) -> dict[str, Any]:
    """Every option in plain values: of the words, the config file and the defaults."""
    values = {}
    for each in dataclasses.fields(options):
        if each.name not in OF_THE_CALL:
            values[each.name] = _plain(getattr(options, each.name))
    return values


def write_config(options: Options, folder: Path) -> Path:
    """Write the options into mdm-VERB.toml; the same results come from it with --config.

    A file that was read for these options, or that is not ours, stays as it is: the name is then
    numbered. So it is where the options of earlier calls are kept."""
    verb = type(options).__name__.removesuffix("Command").lower()
    settings = {}
    for each in dataclasses.fields(options):
        value = plain_config(options).get(each.name)
        if value is not None:
            settings[each.name] = value
        elif each.name not in OF_THE_CALL and each.default is not None:
            settings[each.name] = NONE  # TOML has no word for it
    comments = [f"mdm {verb} --config of mdm_jax {__version__}"]
    text = to_toml(settings, comments)
    path = folder / claims.options_file(verb)
    for number in itertools.count(2):
        if not os.path.lexists(path) or _may_replace(path, text, options):
            write_text(path, text)
            break
        path = folder / f"mdm-{verb}-{number}.toml"
    return path


def _may_replace(path: Path, text: str, options: Options) -> bool:
    """Whether a file of options that is there may be written over."""
    with suppress(OSError, ValueError):
        if path.read_text(encoding="utf-8") == text:
            return True
    read = [options.config, getattr(options, "file", None)]
    was_read = any(each is not None and _is_same(each, path) for each in read)
    return not (was_read or options.KEEPS_EARLIER) and claims.is_options_file(path)


def _is_same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return one.samefile(other)
    return False


def _plain(value: Any) -> Any:
    """Paths may hold bytes that are no text."""
    if isinstance(value, Path):
        return printable(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return resolved(value)
