"""Compiled programs are kept by default, where nothing else is said."""

import os
import subprocess
import sys

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
