"""Locks of a run: foreign files among them change nothing, and waiting is said."""

import filelock
import pytest

from mdm_jax import InputError
from mdm_jax.runs import locks
from mdm_jax.runs.locks import SharedFolder

FOREIGN = ("share-x-of-y", "share-1-of-", "share-0-of-2.bak", "share-1-2-of-3", "notes")


@pytest.fixture
def shared(tmp_path):
    folder = tmp_path / "run"
    spec = {"driver": "file", "path": f"{folder}/"}
    return SharedFolder(name=str(folder), spec=spec, folder=folder)


@pytest.fixture
def place(shared):
    folder = shared.folder / "locks"
    folder.mkdir(parents=True)
    return folder


def test_foreign_files_among_the_locks_are_nobody_at_work(shared, place):
    for name in FOREIGN:
        (place / name).write_text("mine")
    (place / "share-5-of-7").mkdir()
    assert shared.running() == []
    with shared.locked((0, 2)), shared.locked((1, 2)):
        assert sorted(shared.running()) == [(0, 2), (1, 2)]
    assert [(place / name).read_text() for name in FOREIGN] == ["mine"] * len(FOREIGN)


def test_waiting_for_another_process_is_said_and_ends(shared, place, monkeypatch):
    monkeypatch.setattr(locks, "SILENT_SECONDS", 0.05)
    monkeypatch.setattr(locks, "EXCLUSIVE_SECONDS", 0.2)
    with (
        filelock.FileLock(place / "begin"),
        pytest.warns(
            UserWarning, match=r"waiting for another process, which holds .*begin"
        ),
        pytest.raises(InputError, match=r"has held .*begin for 0\.2 s: wait until it ends"),
        shared.exclusive(),
    ):
        pass
    with shared.exclusive():  # and goes on where it is free again
        pass
