"""What `import mdm_jax` offers: every name resolves, says what it is, and costs nothing before it
is used."""

import ast
import inspect
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

import mdm_jax
from mdm_jax.methods import METHODS

SOURCE = Path(mdm_jax.__file__)


@pytest.mark.parametrize("name", mdm_jax.__all__)
def test_every_public_name_resolves_and_is_described(name):
    value = getattr(mdm_jax, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), f"{name} has no docstring"
        # That of a dataclass or NamedTuple without one is its signature.
        assert not value.__doc__.startswith(f"{name}(")


def test_type_checkers_see_the_names_that_there_are():
    block = next(
        each for each in ast.parse(SOURCE.read_text()).body if isinstance(each, ast.If)
    )
    seen = {alias.asname: each.module for each in block.body for alias in each.names}
    assert sorted(seen) == sorted(mdm_jax.__all__)
    assert seen == {name: f"mdm_jax.{home}" for name, home in mdm_jax._HOME_OF.items()}
    assert (SOURCE.parent / "py.typed").exists()


def test_the_settings_of_every_method_are_public():
    kinds = {method.config_type for method in METHODS.values()}
    assert len(kinds) == len(METHODS)
    assert all(getattr(mdm_jax, kind.__name__) is kind for kind in kinds)


def test_modules_are_found_by_attribute_and_other_names_are_not():
    assert mdm_jax.methods.METHODS is METHODS
    assert not hasattr(mdm_jax, "nothing_of_the_kind")
    assert not hasattr(mdm_jax, "_hidden")


def test_the_version_stands_in_one_place():
    assert mdm_jax.__version__ == metadata.version("mdm_jax")


def test_importing_the_package_imports_nothing_else():
    program = (
        "import sys, mdm_jax; print(sorted({'jax', 'numpy', 'flax'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.stdout.strip() == "[]", shown.stderr


@pytest.mark.parametrize("name", mdm_jax._MOVED)
def test_modules_that_have_moved_are_still_found(name):
    with pytest.warns(DeprecationWarning, match=f"{name} is now mdm_jax"):
        module = getattr(mdm_jax, name)
    assert module.__name__ == f"mdm_jax.{mdm_jax._MOVED[name]}"


def test_runs_and_networks_are_printed_in_one_line():
    run = mdm_jax.open_run(Path(__file__).parents[1] / "fixtures" / "stored" / "run")
    assert run.classes
    assert repr(run).startswith("Run('")
    many = tuple(f"class {number}" for number in range(1000))
    classifier = replace(mdm_jax.load_model("resnet"), class_names=many)
    for text in (repr(run), repr(classifier)):
        assert len(text) < 300
        assert "classes" in text
