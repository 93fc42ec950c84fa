"""How a source is read where its files do not say it: its classes, and the object in masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdm_jax.data.class_mapping import shorten
from mdm_jax.data.object_values import ObjectValues
from mdm_jax.data.open_source import open_source
from mdm_jax.data.source import Source, WrappedSource
from mdm_jax.errors import InputError
from mdm_jax.text_files import parse_json, read_text


@dataclass(frozen=True, kw_only=True)
class DataReading:
    """How classes and masks are read, where the source does not say it."""

    classes: str | None = None
    """the network's classes that the data's are, where names do not tell: names or numbers in the
    order of the data's, as in cat,dog or 1,2,3, or a JSON file as {"folder": "class"}"""
    object_values: str | None = None
    """values that mark the object in masks of more than two: numbers or colors, as in 1,3 or
    #ff0000, or a bound, as in >127"""

    def read(self, data: str, split: str) -> Source:
        """The source `data`, read so.

        Raises InputError for a source or split that there is not, and where it has other classes or
        no masks."""
        source = open_source(data, split)
        changes: dict[str, Any] = {}
        if self.classes is not None:
            changes["class_names"] = _class_names(self.classes, source)
        if self.object_values is not None:
            changes["object_values"] = ObjectValues.parse(self.object_values)
        return _changed(source, changes) if changes else source


def _changed(source: Source, changes: Mapping[str, Any]) -> Source:
    """The source, or that which it wraps, with other values of its fields."""
    assert dataclasses.is_dataclass(source)
    if isinstance(source, WrappedSource):
        inner = _changed(source.source, changes)
        return dataclasses.replace(source, source=inner)
    known = {each.name for each in dataclasses.fields(source)}
    for field in changes:
        if field not in known:
            option = "classes" if field == "class_names" else field
            raise InputError(
                f"{source.name} has no {option.replace('_', ' ')} to say:"
                f" leave --{option.replace('_', '-')} out",
                setting=option,
            )
    return dataclasses.replace(source, **changes)


def _class_names(text: str, source: Source) -> tuple[str, ...]:
    """The names that `text` gives the classes of a source."""
    names = source.class_names
    if not text.endswith(".json"):
        given = tuple(name.strip() for name in text.split(","))
        if len(given) != len(names):
            raise InputError(
                f"--classes names {len(given)} classes, and {source.name} has {len(names)}"
                f" ({shorten(names)}): give one for each, in this order",
                setting="classes",
            )
        return given
    try:
        table = parse_json(read_text(Path(text)))
    except (OSError, ValueError) as error:
        raise InputError(
            f"the classes {text} cannot be read as JSON ({error})", setting="classes"
        ) from error
    if not isinstance(table, dict) or not set(table) <= set(names):
        raise InputError(
            f"{text} must give classes of {source.name} ({shorten(names)}) a class of the network,"
            ' as {"folder": "class"}',
            setting="classes",
        )
    return tuple(str(table.get(name, name)) for name in names)
