"""Settings as files, method strings and programs write them, read into frozen dataclasses.

One loader for every config: `load` reads a TOML file, `build` takes the settings themselves, and
`parse_settings` reads `setting=value,setting=value`. Every mistake is an `InputError` that names
the setting, shows its value, and says what to write.

A field is written in a file as its annotation says. Where a program may give more than a file can
(an array, a function), the field's metadata says how the file writes it, see `in_file`. A field
that may be None is written `"none"`.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import dacite
import numpy as np

from mdm_jax import renamed_settings
from mdm_jax.errors import InputError, unknown

Config = TypeVar("Config")

NONE = "none"
"""how a file writes None, which TOML does not have"""
MAX_NUMBER = 2**31
"""no setting of a method is as large: whole numbers of compiled programs end here"""

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
        return float in _leaf_types(self.type)


def in_file(kind: Any, example: str = "", read: Callable[[Any], Any] | None = None) -> dict:
    """Metadata of a field that a file writes as the type `kind`, and `read` turns into its
    value."""
    return {"file_type": kind, "example": example, "read": read}


def load(cls: type[Config], path: Path | str, overrides: Mapping[str, Any] | None = None) -> Config:
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
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
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


def check_choices(config: Any, prefix: str = "") -> None:
    """Raises InputError for a field whose value is none of its `Literal` choices."""
    for setting in schema(type(config)).values():  # type: ignore[arg-type]
        value = getattr(config, setting.name)
        if get_origin(setting.type) is Literal and value not in get_args(setting.type):
            raise unknown(prefix + setting.name, value, get_args(setting.type))


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
        return tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        return written


def resolved(config: Any) -> Any:
    """A config as plain values that JSON and TOML can hold: functions by their names, and an
    objective as a table of weights."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        values = {each.name: getattr(config, each.name) for each in dataclasses.fields(config)}
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
    return dataclasses.is_dataclass(value) and hasattr(value, "name") and hasattr(value, "weight")


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
    tables = {name for name, setting in known.items() if dataclasses.is_dataclass(setting.type)}
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
    return InputError(f"unknown {context.kind} {full}: {hint}choose from {', '.join(choices)}")


def _in_other_table(cls: type, name: str) -> list[str]:
    """The full name of a setting that a table of the config has."""
    found = []
    for table, setting in schema(cls).items():
        kind: Any = setting.type
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and name in schema(kind):
            found.append(f"{table}.{name}")
    return found


def _read_values(cls: type, settings: Mapping[str, Any], context: _Context) -> dict[str, Any]:
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
    choices = [each for each in _leaf_types(setting.type) if isinstance(each, str)]
    if choices and isinstance(value, str):
        return unknown(name, value, choices)
    return InputError(
        f"the setting {name} is {_as_toml(value)}{context.place}: write {setting.example}"
    )


def _as_toml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_as_toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union; any other type alone."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _leaf_types(kind: Any) -> list[Any]:
    """The types at the ends of a nested one; of a `Literal`, its choices."""
    arguments = get_args(kind)
    if not arguments:
        return [kind]
    if get_origin(kind) is Literal:
        return list(arguments)
    return [leaf for each in arguments for leaf in _leaf_types(each)]


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
"""how each type is written in TOML"""


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
