"""What run.json says: its types and bounds, checked before they are used, the checksums by which an
edit is noticed and records are known as those of a run, and what two descriptions differ in."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any

import dacite

from mdm_jax.errors import InputError
from mdm_jax.runs.chunks import Layout
from mdm_jax.storage.differences import flat
from mdm_jax.storage.stored_format import FORMAT
from mdm_jax.storage.workspace import changed_settings

# The parts of run.json that must agree when a run goes on.
BINDING = ("format", "layout", "settings")

# Lists beside the settings on which rows depend too; `settings.names` has their checksums.
LISTS = ("classes", "data_classes", "class_numbers")

# Rows that a run may have: beyond that a number is a mistake, and counting to it never ends.
MOST_ROWS = 10**11


@dataclass(frozen=True)
class _Preprocessing:
    channels: int | None = None
    size: list[int] | int | None = None
    crop: float | int | None = None
    interpolation: str | None = None
    mean: list[float] | float | None = None
    std: list[float] | float | None = None
    crop_mode: str | None = None


@dataclass(frozen=True)
class _Request:
    """What was asked for; a version may have recorded less or more."""

    data: str | None = None
    split: str | None = None
    limit: int | None = None
    model: str | None = None
    weights: str | None = None
    image_size: int | None = None
    dtype: str | None = None
    method: str | None = None
    preset: str | None = None
    targets: str | None = None
    node: str | None = None
    seed: int | None = None
    saliency: bool | None = None
    evidence: bool | None = None
    chunk: int | None = None
    object_values: str | None = None
    settings: dict[str, Any] | None = None
    preprocessing: _Preprocessing | None = None


@dataclass(frozen=True)
class _Description:
    format: int
    layout: Layout
    settings: dict[str, Any]
    classes: list[str] | None = None
    request: _Request | None = None


def check_types(description: Any, place: str) -> None:
    """Raises InputError for a value of another type than run.json has there, or beyond all bounds.

    What a newer version wrote is not looked at."""
    remedy = "the same command again writes it anew"
    stated = description.get("format") if isinstance(description, Mapping) else None
    if isinstance(stated, int) and stated > FORMAT:
        return
    try:
        checked = dacite.from_dict(_Description, description)
        unknown = description["layout"].keys() - {each.name for each in fields(Layout)}
    except dacite.WrongTypeError as error:
        raise InputError(
            f"{place} is damaged, {error.field_path} is {error.value!r:.60}: {remedy}"
        ) from error
    except (dacite.DaciteError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{place} is damaged: {remedy}") from error
    layout = checked.layout
    is_possible = layout.items >= 0 and layout.targets >= 1 and layout.chunk >= 1
    if unknown or not is_possible or layout.rows > MOST_ROWS:
        raise InputError(
            f"{place} is damaged, its layout is {description['layout']}: {remedy}"
        )


def fingerprint(description: Mapping[str, Any]) -> str:
    """A checksum of the parts of a description that must agree."""
    parts = json.dumps({part: description.get(part) for part in BINDING}, sort_keys=True)
    return f"{zlib.crc32(parts.encode()):08x}"


def other_names(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where the names of classes in two descriptions differ first."""
    return [
        each
        for part in LISTS
        for each in _first_difference(part, before.get(part), now.get(part))
    ]


def _first_difference(part: str, before: Any, now: Any) -> list[str]:
    """Where two lists of names differ first; nothing where one is not known."""
    if before is None or now is None or before == now:
        return []
    for number, (old, new) in enumerate(zip_longest(before, now)):
        if old != new:
            return [f"{part} {number} {json.dumps(old)} -> {json.dumps(new)}"]
    return [f"{part} of another kind"]


def content_checksum(content: Any) -> str:
    """A checksum of plain values, as JSON writes them."""
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def with_names(description: Mapping[str, Any]) -> dict[str, Any]:
    """A description whose settings bind the names of classes."""
    names = {part: content_checksum(description.get(part)) for part in LISTS}
    return dict(description) | {"settings": {**description["settings"], "names": names}}


def without_names(description: Mapping[str, Any]) -> dict[str, Any]:
    """A description as versions wrote it that did not bind them yet."""
    settings = {
        name: value for name, value in description["settings"].items() if name != "names"
    }
    return dict(description) | {"settings": settings}


def edited_parts(description: Mapping[str, Any]) -> list[str]:
    """The parts of a run.json that are not as they were written, besides those that must agree with
    the records."""
    names = description["settings"].get("names")
    checksums = dict(names) if isinstance(names, Mapping) else {}
    checksums["request"] = description.get("request_checksum")
    return [
        part
        for part, expected in checksums.items()
        if expected is not None and content_checksum(description.get(part)) != expected
    ]


def differences_of(
    found: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[str]:
    """What must agree in two descriptions and does not; `defaults` are what settings were before
    they existed, by dotted name."""
    before, after = (
        dict(flat({part: each.get(part) for part in BINDING if part != "format"}))
        for each in (found, now)
    )
    # Older versions did not bind the names, but wrote them down.
    names = {name: after[name] for name in after if name.startswith("settings.names.")}
    changed = changed_settings(before, after, {**defaults, **names})
    # The names themselves say more than their checksums.
    if lists := other_names(found, now):
        changed = [each for each in changed if not each.startswith("settings.names.")]
        changed += lists
    if found["format"] > FORMAT:
        changed.append(f"format {found['format']} -> {FORMAT}")
    return changed


def carry_over(
    description: Mapping[str, Any], found: Mapping[str, Any], committed: str
) -> dict[str, Any]:
    """A description with what stays of the one that is found, which agrees with it.

    What binds stays as an older version wrote it where the chunks that are `committed` are of it,
    as do the list of versions, and the request where there is no newer one."""
    merged = dict(description)
    if committed == fingerprint(found):
        merged |= {part: found[part] for part in BINDING}
    # Taken out and put back, so that the file keeps its order of parts.
    merged.pop("versions", None)
    for part in ("request", "versions"):
        if part in found and not (part == "request" and merged.get(part)):
            merged[part] = found[part]
    return merged


def with_request_checksum(
    description: Mapping[str, Any], found: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A description with the checksum of its request; of the request that is found, its own."""
    request = description.get("request")
    if not request:
        return dict(description)
    is_old = found is not None and request == found.get("request")
    before = found.get("request_checksum") if found and is_old else None
    return {**description, "request_checksum": before or content_checksum(request)}
