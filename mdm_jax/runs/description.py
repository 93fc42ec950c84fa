"""The types of run.json, which may have been edited or damaged, checked before they are used."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import dacite

from mdm_jax.errors import InputError
from mdm_jax.runs.chunks import Layout

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
    """Raises InputError for a value of another type than run.json has there, or beyond all
    bounds."""
    remedy = "the same command again writes it anew"
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
