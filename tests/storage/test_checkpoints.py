"""Checkpoints: what is written is read, whole or not at all, and damage is passed over."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax import InputError
from mdm_jax.storage import checkpoints


def tree(value):
    return {
        "model": {"layer1.0.weight": jnp.full((2, 3), value)},
        "optimizer": {"count": np.asarray(7, np.int32)},
        "step": 3,
    }


def test_round_trip_and_the_last_two_are_kept(tmp_path):
    folder = tmp_path / "checkpoints"
    assert (checkpoints.latest(folder), checkpoints.restore(folder)) == (None, None)
    assert not folder.exists()
    for step in (3, 7, 9):
        checkpoints.save(
            folder, step, tree(step), {"skipped": ["ü.png is damaged"], "seconds": 1.5}
        )
    assert checkpoints.steps(folder) == [7, 9]
    step, restored, notes = checkpoints.restore(folder)
    assert (step, notes) == (9, {"skipped": ["ü.png is damaged"], "seconds": 1.5})
    assert restored["optimizer"]["count"].dtype == np.int32
    assert isinstance(restored["model"]["layer1.0.weight"], np.ndarray)
    np.testing.assert_array_equal(
        checkpoints.restore_model(folder)["layer1.0.weight"], np.full((2, 3), 9, np.float32)
    )


def test_what_a_kill_leaves_is_no_checkpoint(tmp_path):
    checkpoints.save(tmp_path, 4, tree(4.0))
    unfinished = tmp_path / "5.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "half").write_bytes(b"x")
    assert checkpoints.latest(tmp_path) == 4
    assert checkpoints.restore(tmp_path).step == 4
    assert (
        unfinished.exists()
    )  # a reader removes nothing: it may be another process that is writing there
    checkpoints.save(tmp_path, 5, tree(5.0))
    assert checkpoints.steps(tmp_path) == [4, 5]
    assert not unfinished.exists()


def test_a_damaged_checkpoint_is_passed_over_and_written_again(tmp_path, capfd):
    for step in (4, 5):
        checkpoints.save(tmp_path, step, tree(step))
    for file in (tmp_path / "5" / "state").rglob("*"):
        if file.is_file() and file.name != "commit_success.txt":
            file.write_bytes(b"")
    with pytest.warns(UserWarning, match="5 is damaged and passed over"):
        assert checkpoints.restore(tmp_path).step == 4
    assert capfd.readouterr() == ("", "")
    checkpoints.save(tmp_path, 5, tree(50.0))
    assert checkpoints.restore(tmp_path).tree["model"]["layer1.0.weight"][0, 0] == 50


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(InputError, match="no checkpoint of a network in"):
        checkpoints.restore_model(tmp_path)
    checkpoints.save(tmp_path, 5, tree(5.0))
    for file in (tmp_path / "5" / "state").rglob("*"):
        if file.is_file() and file.name != "commit_success.txt":
            file.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(InputError, match=r"no checkpoint in .* can be read"),
    ):
        checkpoints.restore(tmp_path)


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device\nand many lines more")

    monkeypatch.setattr(checkpoints.ocp.training.Checkpointer, "save", full)
    with pytest.raises(
        InputError,
        match=r"cannot write a checkpoint to .*No space left on device\): make room for it",
    ) as raised:
        checkpoints.save(tmp_path, 5, tree(5.0))
    assert "\n" not in str(raised.value)


def test_reading_while_a_training_removes_old_checkpoints(tmp_path, monkeypatch):
    for step in (3, 4):
        checkpoints.save(tmp_path, step, tree(step))
    listed, stale = checkpoints.steps, [[1, 2]]
    monkeypatch.setattr(
        checkpoints, "steps", lambda folder: stale.pop() if stale else listed(folder)
    )
    assert checkpoints.restore(tmp_path).step == 4  # without a warning that 2 is damaged
    opened, vanished = (
        checkpoints.ocp.training.Checkpointer,
        [FileNotFoundError("2"), NotADirectoryError("1")],
    )

    def vanishing(*arguments, **named):
        if vanished:
            raise vanished.pop()
        return opened(*arguments, **named)

    monkeypatch.setattr(checkpoints.ocp.training, "Checkpointer", vanishing)
    assert listed(tmp_path) == [3, 4]
    monkeypatch.setattr(checkpoints, "MAX_TRIES", 1)
    vanished.append(FileNotFoundError("3"))
    with pytest.raises(InputError, match="change all the time: try again"):
        listed(tmp_path)
