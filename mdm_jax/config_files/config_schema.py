"""How each field of a config is written in a file."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from mdm_jax.errors import unknown

# How a file writes None, which TOML does not have.
NONE = "none"


_NONE_TYPE = type(None)


class Setting(NamedTuple):
    """How one field of a config is written in a file."""

    name: str
    type: Any
    example: str
    """what to write, as the end of a sentence"""
    read: Callable[[Any], Any] | None
    """from the file's value to the field's; raises ValueError for one that cannot be"""

    @property
    def is_optional(self) -> bool:
        """Whether a file may write "none"."""
        kinds = _alternatives(self.type)
        return _NONE_TYPE in kinds and str not in kinds

    @property
    def holds_floats(self) -> bool:
        """Whether numbers in it are floats, so that 1 and 1.0 are the same."""
        return float in leaf_types(self.type)


def in_file(kind: Any, example: str = "", read: Callable[[Any], Any] | None = None) -> dict:
    """Metadata of a field that a file writes as the type `kind`, and `read` turns into its
    value."""
    return {"file_type": kind, "example": example, "read": read}


@cache
def schema(cls: type) -> dict[str, Setting]:
    """How each field of a config is written, by its name."""
    annotations = _annotations(cls)
    settings = {}
    for each in dataclasses.fields(cls):
        if not each.init:
            continue
        kind = each.metadata.get("file_type") or annotations.get(each.name, Any)
        if kind is Any:
            kind = _type_of_default(each)
        example = each.metadata.get("example") or _example(kind)
        setting = Setting(each.name, kind, example, each.metadata.get("read"))
        if setting.is_optional:
            setting = setting._replace(example=f'{example}, or "{NONE}"')
        settings[each.name] = setting
    return settings


def check_choices(config: Any, prefix: str = "") -> None:
    """Raises InputError for a field whose value is none of its `Literal` choices."""
    for setting in schema(type(config)).values():  # type: ignore[arg-type]
        value = getattr(config, setting.name)
        if get_origin(setting.type) is Literal and value not in get_args(setting.type):
            raise unknown(prefix + setting.name, value, get_args(setting.type))


def _annotations(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls)
    except (NameError, TypeError):  # a name that only type checkers import
        return {}


def _type_of_default(each: dataclasses.Field) -> Any:
    """How a field that may hold anything is written: like its default."""
    default = None if each.default is dataclasses.MISSING else each.default
    if isinstance(default, bool):
        return bool
    if isinstance(default, int | float):
        return float if isinstance(default, float) else int
    if isinstance(default, str):
        return str | tuple[str, ...]
    return Any


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union; any other type alone."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def leaf_types(kind: Any) -> list[Any]:
    """The types at the ends of a nested one; of a `Literal`, its choices."""
    arguments = get_args(kind)
    if not arguments:
        return [kind]
    if get_origin(kind) is Literal:
        return list(arguments)
    return [leaf for each in arguments for leaf in leaf_types(each)]


# How each type is written in TOML.
_EXAMPLES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text in quotes",
    Path: "a path in quotes",
    tuple[int, int]: "two whole numbers, such as [64, 64]",
    tuple[float, ...]: "a list of numbers, such as [0.5, 0.5, 0.5]",
    tuple[int, ...]: "a list of whole numbers, such as [4, 8]",
    tuple[str, ...]: 'a list of names, such as ["insertion", "energy"]',
}


def _example(kind: Any) -> str:
    """How a type is written, as the end of a sentence."""
    kinds = [each for each in _alternatives(kind) if each is not _NONE_TYPE]
    if len(kinds) > 1:
        return " or ".join(dict.fromkeys(_example(each) for each in kinds))
    if kinds[0] in _EXAMPLES:
        return _EXAMPLES[kinds[0]]
    if get_origin(kinds[0]) is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(kinds[0]))
    if get_origin(kinds[0]) in (dict, Mapping) or kinds[0] is dict:
        return "a table of settings"
    return "another value"
