"""Settings by dotted name, and what differs between two of them, as a person reads it."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from typing import Any

# Of a value in a sentence.
MAX_CHARACTERS = 60


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by dotted name."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], free: Container[str] = ()
) -> list[str]:
    """What differs, as in `data.batch 8 -> 9`; those `free` to change are left out."""
    old, new = dict(_by_part(before)), dict(_by_part(now))
    found = []
    for name in old | new:
        if name not in free and old.get(name) != new.get(name):
            found.append(f"{name} {_short(old.get(name))} -> {_short(new.get(name))}")
    return found


def _by_part(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings by dotted name, and the terms of an objective each by its own: a sentence tells the
    one that differs."""
    for key, value in flat(settings):
        if not isinstance(value, list) or not value or not all(map(_is_term, value)):
            yield key, value
            continue
        # Their order is compared too: sums round otherwise in another one.
        yield f"{key}.order", [each["name"] for each in value]
        for each in value:
            rest = {name: part for name, part in each.items() if name != "name"}
            yield from flat(rest, f"{key}.{each['name']}.")


def _is_term(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= {"name", "weight"}


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value)
    if len(text) <= MAX_CHARACTERS:
        return text
    return text[: MAX_CHARACTERS - 3] + "..."
