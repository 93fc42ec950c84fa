"""Compiled programs are kept by default, where nothing else is said."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mdm_jax.cli import compile_cache


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "mdm_jax" / "compiled"


def test_a_new_folder_is_told_once(place):
    environment = {}
    said = compile_cache.enable(environment)
    folder = environment["JAX_COMPILATION_CACHE_DIR"]
    assert folder in said
    assert "2 GB" in said
    assert "MDM_JAX_COMPILE_CACHE=off" in said
    assert os.path.dirname(folder) == str(place)
    assert os.stat(folder).st_mode & 0o077 == 0
    assert int(environment["JAX_COMPILATION_CACHE_MAX_SIZE"]) == 2 * 1024**3
    again = {}
    assert compile_cache.enable(again) == ""
    assert again == environment


@pytest.mark.parametrize(
    "environment",
    [{"MDM_JAX_COMPILE_CACHE": "off"}, {"JAX_COMPILATION_CACHE_DIR": "elsewhere"}],
)
def test_what_the_user_says_holds(place, environment):
    before = dict(environment)
    assert compile_cache.enable(environment) == ""
    assert environment == before
    assert not place.exists()


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(
        compile_cache, "user_cache_path", lambda name: tmp_path / "file" / name
    )
    environment = {}
    assert compile_cache.enable(environment) == ""
    assert environment == {}


def test_what_a_killed_process_left_half_written_is_removed(place):
    """JAX itself would write no other entry, for the time that is missing beside this one."""
    environment = {}
    compile_cache.enable(environment)
    folder = Path(environment["JAX_COMPILATION_CACHE_DIR"])
    for name in ("whole-cache", "whole-atime", "half-cache", "written-now-cache"):
        (folder / name).write_bytes(b"1")
    hour_ago = time.time() - 3600
    for name in ("whole-cache", "half-cache"):
        os.utime(folder / name, (hour_ago, hour_ago))
    compile_cache.enable({})
    assert {each.name for each in folder.iterdir()} == {
        *("whole-cache", "whole-atime", "written-now-cache")
    }


def test_a_damaged_entry_is_told_with_the_remedy(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "kept")
    said = compile_cache.in_plain_words(
        "Error reading persistent compilation cache entry for 'jit_f': error: -5"
    )
    assert said.endswith("remove the folder kept")
    assert compile_cache.in_plain_words("another warning") == "another warning"


@pytest.mark.slow
def test_a_verb_keeps_programs_and_help_touches_nothing(tmp_path):
    environment = dict(
        os.environ, XDG_CACHE_HOME=str(tmp_path / "cache"), HOME=str(tmp_path)
    )
    for name in ("MDM_JAX_COMPILE_CACHE", "JAX_COMPILATION_CACHE_DIR"):
        environment.pop(name, None)

    def stderr_of(*words):
        command = [sys.executable, "-m", "mdm_jax", *words]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True
        ).stderr

    assert "are kept" not in stderr_of("run", "--help")
    assert "are kept" not in stderr_of("--version")
    assert not (tmp_path / "cache").exists()
    assert "mdm: compiled programs are kept in" in stderr_of("run", "status", "nowhere")
    assert "are kept" not in stderr_of("run", "status", "nowhere")
