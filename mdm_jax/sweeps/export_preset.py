"""A point's config as a TOML file that `--config` takes: every setting written out, so that it
means the same tomorrow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mdm_jax.config import NONE, OPTIONAL, WRITTEN, MDMConfig, config_from_mapping, preset
from mdm_jax.errors import InputError
from mdm_jax.objectives import Term
from mdm_jax.storage.atomic import write_whole
from mdm_jax.sweeps.points import Point

BASE = "fast"
"""the preset that `--config` changes where no other is asked for"""
UNREADABLE = object()


def written(point: Point) -> dict[str, Any]:
    """The settings that make the point's config of the preset `BASE`, in plain values.

    Raises InputError for a config that no file can say, such as one with a function that has no
    name there."""
    base = preset(BASE)
    settings: dict[str, Any] = {}
    for name in WRITTEN:
        for value in (point.settings.get(name), _plain(getattr(point.config, name))):
            value = NONE if value is None and name in OPTIONAL else value
            if value is not None and _alike(
                _read({name: value}, base, name), getattr(point.config, name)
            ):
                settings[name] = value
                break
        else:
            if not _alike(getattr(base, name), getattr(point.config, name)):
                raise InputError(
                    f"the point ({point.label}) has a {name} that no file can say"
                    f" ({getattr(point.config, name)}): choose it by a name, or use the config in"
                    " Python"
                )
    if not _alike(config_from_mapping(settings, base), point.config):
        raise InputError(
            f"the point ({point.label}) has settings that no file can say: use the config in Python"
        )
    return settings


def to_toml(settings: Mapping[str, Any], comments: Sequence[str] = ()) -> str:
    """Settings as TOML below comments; a table, such as the objective, in one line."""
    lines = [f"# {line}" for comment in comments for line in comment.splitlines()]
    return (
        "\n".join([*lines, *(f"{name} = {_value(value)}" for name, value in settings.items())])
        + "\n"
    )


def save(point: Point, path: Path, comments: Sequence[str] = ()) -> Path:
    """Write the point as a file that `--config` takes. Raises InputError for one that no file can
    say."""
    text = to_toml(written(point), [*comments, *_usage(point)])
    if not path.parent.is_dir():
        raise InputError(
            f"there is no folder {path.parent}: make it, or choose another place for {path.name}"
        )
    write_whole(path, lambda file: file.write(text.encode()))
    return path


def _usage(point: Point) -> list[str]:
    if point.node == "probability":
        return []
    return [
        (
            f"use it with --node {point.node}"
            if isinstance(point.node, str)
            else "use it with the node of the sweep"
        )
    ]


def _read(settings: dict[str, Any], base: MDMConfig, name: str) -> Any:
    try:
        return getattr(config_from_mapping(json.loads(json.dumps(settings)), base), name)
    except (InputError, TypeError):  # this value does not say it
        return UNREADABLE


def _plain(value: Any) -> Any:
    """A config's value as a file would write it, where it can."""
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return np.asarray(value).tolist()
    if isinstance(value, tuple | list):
        if value and all(isinstance(each, Term) for each in value):
            return {term.name: _plain(term.weight) for term in value}
        return [_plain(each) for each in value]
    return getattr(value, "__name__", None) if callable(value) else value


def _alike(one: Any, other: Any) -> bool:
    """Whether two configs, or two values of one setting, are the same: structure, and numbers in
    float32, as they are used."""
    structure: Any = jax.tree.structure(one)
    return bool(structure == jax.tree.structure(other)) and all(
        map(_same, jax.tree.leaves(one), jax.tree.leaves(other))
    )


def _same(a: Any, b: Any) -> bool:
    numbers = [
        isinstance(each, int | float | np.generic | np.ndarray | jax.Array) for each in (a, b)
    ]
    if all(numbers):
        return np.array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))
    return not any(numbers) and bool(a == b)


def _value(value: Any) -> str:
    """A plain value as TOML."""
    if isinstance(value, Mapping):
        return (
            "{ "
            + ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items())
            + " }"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value) if isinstance(value, bool | str) else repr(value)


def _key(name: str) -> str:
    """A key of a table, quoted where it is not a bare one."""
    plain = name.replace("-", "_").replace("_", "")
    return name if plain.isascii() and plain.isalnum() else json.dumps(name)
