"""The copy of run.json: what a run was asked stands nowhere else, and one file is soon lost.

It takes the place of run.json where that is gone, damaged or was edited, and the copy is as it was
written and of the chunks that are committed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdm_jax.errors import InputError
from mdm_jax.runs.description import edited_parts, fingerprint
from mdm_jax.runs.store import COPY, DESCRIPTION, Store


def lost_description(store: Store) -> tuple[str, str] | None:
    """What is wrong with run.json where its copy can take its place: a word, as in `verify.Fault`,
    and a sentence. None where it is in order, or no copy fits."""
    data, copy = store.read(DESCRIPTION), store.read(COPY)
    if copy is None or copy == data:
        return None
    runs = {footer.run for footer in store.footers()}
    # a process that is killed between the two writes leaves a run.json that is newer, and in order
    if _fits(store, DESCRIPTION, runs) or not _fits(store, COPY, runs):
        return None
    if data is None:
        return "missing", f"{DESCRIPTION} is gone, its copy is there"
    return "corrupt", f"{DESCRIPTION} is not as it was written, its copy is"


def restore_description(store: Store) -> None:
    """Put the copy in the place of run.json, where `lost_description` says so."""
    copy = store.read(COPY)
    if copy is not None and lost_description(store):
        store.ensure(DESCRIPTION, copy)


def _fits(store: Store, key: str, runs: set[str]) -> bool:
    """Whether a file describes the run with the records of these fingerprints."""
    try:
        description: Mapping[str, Any] | None = store.read_description(key)
    except InputError:
        return False
    if description is None or edited_parts(description):
        return False
    return not runs or fingerprint(description) in runs
