"""Settings into a frozen dataclass, and what is wrong with them in one sentence."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import dacite

from mdm_jax import renamed_settings
from mdm_jax.config_files.config_schema import NONE, Setting, leaf_types, schema
from mdm_jax.errors import InputError, unknown

Config = TypeVar("Config")


def build(
    cls: type[Config],
    settings: Mapping[str, Any],
    *,
    base: Config | None = None,
    kind: str = "setting",
    place: str = "",
    method: str = "",
) -> Config:
    """The config that settings describe, checked; what they leave out is as in `base`.

    `kind` and `place` say in messages what the settings are and where they stand; `method` is the
    one whose settings they are, so that old names of these are read. Raises
    InputError for a name that is no field (with the nearest one), a value of another type, and
    whatever the config's own `check()` refuses.
    """
    return _build(cls, settings, base, _Context("", kind, place, method))


class _Context(NamedTuple):
    """Where settings stand, for messages."""

    prefix: str
    """the table with a dot behind it, or nothing"""
    kind: str
    place: str
    method: str
    """whose settings they are, see `renamed_settings`; "" for those of a job"""


def _build(cls: type, settings: Mapping[str, Any], base: Any, context: _Context) -> Any:
    settings = _adopted(cls, renamed_settings.current(settings, context.method))
    known = schema(cls)
    for name in settings:
        if name not in known:
            raise _unknown_setting(cls, name, context)
    tables = {
        name for name, setting in known.items() if dataclasses.is_dataclass(setting.type)
    }
    plain = {name: value for name, value in settings.items() if name not in tables}
    values = _read_values(cls, plain, context)
    for name in tables & settings.keys():
        values[name] = _build_table(known[name].type, name, settings[name], base, context)
    try:
        config = cls(**values) if base is None else dataclasses.replace(base, **values)
    except TypeError:
        raise InputError(
            f"{cls.__name__}{context.place} has settings without a default: give each one"
        ) from None
    # A table is checked by the config that holds it, which knows how to name its settings.
    if not context.prefix and hasattr(config, "check"):
        config.check()
    return config


def _build_table(cls: type, name: str, settings: Any, base: Any, context: _Context) -> Any:
    full = context.prefix + name
    if not isinstance(settings, Mapping):
        raise InputError(
            f"the setting {full} is {_as_toml(settings)}{context.place}: write a table, [{full}]"
            " and its settings"
        )
    inner = None if base is None else getattr(base, name)
    return _build(cls, settings, inner, context._replace(prefix=f"{full}."))


def _adopted(cls: type, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with those of a table that stand outside of it moved into it."""
    known = schema(cls)
    for each in dataclasses.fields(cls):
        names = each.metadata.get("adopts", ())
        outside = {name for name in settings if name in names and name not in known}
        table = settings.get(each.name, {})
        if outside and isinstance(table, Mapping):
            moved = {name: settings[name] for name in outside}
            rest = {name: value for name, value in settings.items() if name not in outside}
            settings = rest | {each.name: {**moved, **table}}
    return settings


def _unknown_setting(cls: type, name: str, context: _Context) -> InputError:
    """The error for a name that is no field, with the nearest one, or the table that has it."""
    choices = list(schema(cls))
    for each in dataclasses.fields(cls):
        choices += each.metadata.get("adopts", ())
    near = difflib.get_close_matches(name, choices, n=1) or _in_other_table(cls, name)
    hint = f"did you mean {near[0]!r}? " if near else ""
    full = repr(context.prefix + name)
    return InputError(
        f"unknown {context.kind} {full}: {hint}choose from {', '.join(choices)}"
    )


def _in_other_table(cls: type, name: str) -> list[str]:
    """The full name of a setting that a table of the config has."""
    found = []
    for table, setting in schema(cls).items():
        kind: Any = setting.type
        if (
            isinstance(kind, type)
            and dataclasses.is_dataclass(kind)
            and name in schema(kind)
        ):
            found.append(f"{table}.{name}")
    return found


def _read_values(
    cls: type, settings: Mapping[str, Any], context: _Context
) -> dict[str, Any]:
    """The fields' values. Raises InputError for one of another type."""
    known = schema(cls)
    written = {}
    for name, value in settings.items():
        is_none = value == NONE and known[name].is_optional
        written[name] = None if is_none else _as_tuples(value)
    try:
        checked: Any = dacite.from_dict(_file_class(cls), written, _DACITE)
    except dacite.WrongTypeError as error:
        name = (error.field_path or "").partition(".")[0]
        raise _wrong_value(known[name], settings[name], context) from None
    values = {}
    for name in settings:
        value = getattr(checked, name)
        read = known[name].read
        try:
            values[name] = value if read is None or value is None else read(value)
        except InputError:
            raise
        except ValueError:
            raise _wrong_value(known[name], settings[name], context) from None
    return values


@cache
def _file_class(cls: type) -> type:
    """A dataclass of the types that a file writes, which dacite checks settings against."""
    fields = [
        (setting.name, setting.type, dataclasses.field(default=None))
        for setting in schema(cls).values()
    ]
    return dataclasses.make_dataclass(cls.__name__, fields)


class _Truth(NamedTuple):
    """A truth value where a number belongs: Python takes True for 1, a config does not."""

    value: bool


def _whole(value: Any) -> Any:
    return _Truth(value) if isinstance(value, bool) else value


def _number(value: Any) -> Any:
    return float(value) if type(value) is int else _whole(value)


def _path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) else value


_DACITE = dacite.Config(strict=True, type_hooks={int: _whole, float: _number, Path: _path})


def _as_tuples(value: Any) -> Any:
    """Lists as tuples, so that a config is immutable."""
    if isinstance(value, Mapping):
        return {name: _as_tuples(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_as_tuples(each) for each in value)
    return value


def as_lists(value: Any) -> Any:
    """Tuples as lists: a table's values as the file wrote them."""
    if isinstance(value, Mapping):
        return {name: as_lists(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_lists(each) for each in value]
    return value


def _wrong_value(setting: Setting, value: Any, context: _Context) -> InputError:
    name = context.prefix + setting.name
    choices = [each for each in leaf_types(setting.type) if isinstance(each, str)]
    if choices and isinstance(value, str):
        return unknown(name, value, choices)
    return InputError(
        f"the setting {name} is {_as_toml(value)}{context.place}: write {setting.example}"
    )


def _as_toml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_as_toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else repr(value)
