"""A source by its name, such as `folder:PATH`; a new kind is a new file and a row here."""

from __future__ import annotations

import pkgutil
from typing import NamedTuple

from mdm_jax.data.cropped import cropped
from mdm_jax.data.source import Source
from mdm_jax.errors import InputError, unknown


class SourceKind(NamedTuple):
    """One kind of source: how it is written, and what opens it."""

    usage: str
    """what a user writes, for help texts and messages"""
    opener: str
    """"module:function" of an `open(place, split) -> Source`, imported when a source of the kind is
    opened: tensorflow_datasets alone takes seconds"""
    needs_place: bool = True
    """whether something must follow the colon"""


KINDS = {
    "digits": SourceKind("digits", "mdm_jax.data.digits:open_digits", needs_place=False),
    "folder": SourceKind("folder:PATH", "mdm_jax.data.folder:open_folder"),
    "files": SourceKind("files:PATH", "mdm_jax.data.files:open_files"),
    "tfds": SourceKind("tfds:NAME[:SPLIT]", "mdm_jax.data.tfds:open_tfds"),
    "cub": SourceKind("cub:PATH", "mdm_jax.data.cub:open_cub"),
    "chestxray14": SourceKind(
        "chestxray14:PATH", "mdm_jax.data.chestxray14:open_chestxray14"
    ),
    "cropped": SourceKind(
        "cropped:SOURCE, any of these cut to its boxes",
        "mdm_jax.data.open_source:open_cropped",
    ),
}


def describe_kinds() -> str:
    """How each kind of source is written, for help texts."""
    *first, last = (kind.usage for kind in KINDS.values())
    return f"{', '.join(first)}, or {last}"


def open_source(text: str, split: str) -> Source:
    """The source that `text` names, one of `KINDS`, of which `split` is asked.

    "val", "validation", "valid" and "test" stand for each other where a source has only one of
    them; "all" is every item of a source that lies in files or records. Files without labels have
    no splits. Raises InputError for an unknown kind, a missing place or name, or a split that the
    source lacks, and where a package of the extra `data` is not installed."""
    name, _, place = text.partition(":")
    if name not in KINDS:
        raise unknown("data source", name, [kind.usage for kind in KINDS.values()])
    kind = KINDS[name]
    if kind.needs_place and not place:
        raise InputError(f"the data source {text!r} cannot be: write {kind.usage}")
    try:
        opener = pkgutil.resolve_name(kind.opener)
    except ModuleNotFoundError as missing:
        raise InputError(
            f"{kind.usage} needs the package {missing.name}, which is not installed: pip install"
            " 'mdm_jax[data]'"
        ) from missing
    return opener(place, split)


def open_cropped(place: str, split: str) -> Source:
    """The source that `place` names, cut to the boxes of its objects."""
    return cropped(open_source(place, split))
