"""A point's config as a TOML file that `--config` takes.

Every setting is written out, so that the file means the same when the presets change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mdm_jax.config import MDMConfig, preset
from mdm_jax.config_files import NONE, build, schema
from mdm_jax.errors import InputError
from mdm_jax.objectives import Term
from mdm_jax.storage.atomic import write_whole
from mdm_jax.sweeps.points import Point
from mdm_jax.sweeps.result import Index, Sweep

# The preset that `--config` changes where no other is named.
BASE = "fast"

# What a value that cannot be read back stands for; it equals nothing.
UNREADABLE = object()


def save_preset(sweep: Sweep, index: Index, path: Path | str) -> Path:
    """Write the settings of one of a sweep's points, see `save`."""
    count = len(sweep.entries)
    if not -count <= index < count:
        raise InputError(
            f"there is no point {index}: this sweep has {count}, counted from 0"
        )
    return save(sweep.entries[index], Path(path))


def save(point: Point, path: Path, comments: Sequence[str] = ()) -> Path:
    """Write the point as a file that `--config` takes.

    Raises InputError for a config that no file can say.
    """
    text = to_toml(to_settings(point), [*comments, *_usage(point)])
    if not path.parent.is_dir():
        raise InputError(
            f"there is no folder {path.parent}: make it, or choose another place for {path.name}"
        )
    write_whole(path, lambda file: file.write(text.encode()))
    return path


def to_settings(point: Point) -> dict[str, Any]:
    """The settings that make the point's config of the preset `BASE`, in plain values.

    A setting is written as the point has it, or else as its config has it; one that cannot be read
    back may be left out where the preset has the same value. Raises InputError for a config that
    no file can say, such as one with a function that has no name.
    """
    base = preset(BASE)
    settings: dict[str, Any] = {}
    for name in schema(MDMConfig):
        target = getattr(point.config, name)
        value = _find_value(point, name)
        if value is not None:
            settings[name] = value
        elif not _is_same(getattr(base, name), target):
            raise InputError(
                f"the point ({point.label}) has a {name} that no file can say ({target}):"
                " choose it by a name, or use the config in Python"
            )
    # a setting can change what another means, so the whole is read back as well
    if not _is_same(build(MDMConfig, settings, base=base), point.config):
        raise InputError(
            f"the point ({point.label}) has settings that no file can say: use the config in Python"
        )
    return settings


def _find_value(point: Point, name: str) -> Any:
    """A plain value that is read back as the config's; None where there is none."""
    target = getattr(point.config, name)
    for value in (point.settings.get(name), _to_plain(target)):
        if value is None and schema(MDMConfig)[name].is_optional:
            value = NONE
        if value is not None and _is_same(_read_back(name, value, point.config), target):
            return value
    return None


def to_toml(settings: Mapping[str, Any], comments: Sequence[str] = ()) -> str:
    """Settings as TOML below comments; a table, such as the objective, in one line."""
    lines = [f"# {line}" for comment in comments for line in comment.splitlines()]
    lines += [f"{name} = {_toml_value(value)}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def _usage(point: Point) -> list[str]:
    """What the file cannot say: the node is no setting of a config."""
    if point.node == "probability":
        return []
    if isinstance(point.node, str):
        return [f"use it with the node {point.node}"]
    return ["use it with the node of the sweep"]


def _read_back(name: str, value: Any, config: MDMConfig) -> Any:
    """A setting's value as it is read from a file, beside the others of the config: some, such as a
    schedule, cannot be alone."""
    try:
        # through JSON: as plain as a file makes it, tuples as lists
        settings = json.loads(json.dumps({name: value}))
        return getattr(build(MDMConfig, settings, base=config), name)
    except (InputError, TypeError):
        return UNREADABLE


def _to_plain(value: Any) -> Any:
    """A config's value as a file would write it, where it can."""
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return np.asarray(value).tolist()
    if isinstance(value, tuple | list):
        if value and all(isinstance(each, Term) for each in value):
            return {term.name: _to_plain(term.weight) for term in value}
        return [_to_plain(each) for each in value]
    if callable(value):
        return getattr(value, "__name__", None)
    return value


def _is_same(one: Any, other: Any) -> bool:
    """Whether two configs, or two values of one setting, are the same.

    Numbers are compared in float32, as they are used.
    """
    structure: Any = jax.tree.structure(one)
    if structure != jax.tree.structure(other):
        return False
    return all(map(_is_same_leaf, jax.tree.leaves(one), jax.tree.leaves(other)))


def _is_same_leaf(a: Any, b: Any) -> bool:
    numeric = int | float | np.generic | np.ndarray | jax.Array
    if isinstance(a, numeric) and isinstance(b, numeric):
        return np.array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))
    if isinstance(a, numeric) or isinstance(b, numeric):
        return False
    return bool(a == b)


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = [f"{_toml_key(name)} = {_toml_value(each)}" for name, each in value.items()]
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    # JSON writes text and booleans as TOML does; repr keeps every digit of a float
    return json.dumps(value) if isinstance(value, bool | str) else repr(value)


def _toml_key(name: str) -> str:
    """A key of a table, in quotes where it is not a bare one."""
    letters = name.replace("-", "").replace("_", "")
    return name if letters.isascii() and letters.isalnum() else json.dumps(name)
