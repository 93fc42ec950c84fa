"""Files written whole or not at all, and what a killed writer leaves."""

import os
import subprocess
import sys
import time

import pytest

from mdm_jax.storage import atomic, claims
from mdm_jax.sweeps.store import SWEEP

KILLED = """
import os, sys
from pathlib import Path
from mdm_jax.storage.atomic import write_whole
write_whole(Path(sys.argv[1]) / "a" / "file", lambda file: os.kill(os.getpid(), 9))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_what_a_killed_writer_left_goes_with_the_next_start(tmp_path):
    claims.claim(tmp_path, SWEEP)
    (tmp_path / "a").mkdir()
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    (left,) = tmp_path.rglob(".writing-*")
    assert left.parent.name == "a"
    claims.claim(tmp_path, SWEEP)
    assert not left.exists()


def test_files_of_others_and_of_processes_at_work_stay(tmp_path):
    own = tmp_path / f"{atomic.PARTIAL}{atomic._machine()}-{os.getpid()}-abcdefgh"
    elsewhere = tmp_path / f"{atomic.PARTIAL}elsewhere-7-abcdefgh"
    yours = [tmp_path / name for name in (".writing-notes", ".writing-a-1-abcdefgh.txt")]
    for path in (own, elsewhere, *yours):
        path.write_text("half")
    atomic.remove_partial_files(tmp_path)
    assert all(path.exists() for path in (own, elsewhere, *yours))
    days_ago = time.time() - 3 * atomic.A_DAY
    for path in (own, elsewhere, *yours):
        os.utime(path, (days_ago, days_ago))
    atomic.remove_partial_files(tmp_path)
    assert not elsewhere.exists()
    assert all(path.exists() for path in (own, *yours))


def test_a_failed_write_leaves_nothing(tmp_path):
    def fail(file):
        file.write(b"half")
        raise ValueError("stopped")

    (tmp_path / "file").write_text("whole")
    with pytest.raises(ValueError, match="stopped"):
        atomic.write_whole(tmp_path / "file", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "whole"
