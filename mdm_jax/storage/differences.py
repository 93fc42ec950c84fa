"""Settings that must agree when something goes on: nested ones by dotted name, and what differs, as
a person reads it."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from typing import Any

LONGEST = 60
"""characters of a value that is shown"""


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
    """What differs, as in `data.batch 8 -> 9`; settings are plain values, and those `free` to
    change are left out."""
    old, new = dict(flat(before)), dict(flat(now))
    return [
        f"{name} {_short(old.get(name))} -> {_short(new.get(name))}"
        for name in old | new
        if old.get(name) != new.get(name) and name not in free
    ]


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
