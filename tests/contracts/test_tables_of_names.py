"""A new metric, baseline, source, network family or verb is one file and one line: the lines name
what exists, and no file is forgotten."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

from mdm_jax import baselines, cli, metrics, models
from mdm_jax.cli.main import VERBS, load_verb
from mdm_jax.cli.options import Options
from mdm_jax.data.open_source import KINDS
from mdm_jax.models.architectures import CLASSIFIERS
from mdm_jax.models.family import Family


def modules_with(package, attribute):
    """Names of a package's files that define an attribute."""
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return {
        name
        for name in names
        if attribute in vars(import_module(f"{package.__name__}.{name}"))
    }


def test_every_file_with_metrics_is_listed():
    assert modules_with(metrics, "METRICS") == set(metrics.FILES)


def test_every_file_with_a_method_is_listed_under_its_name():
    assert modules_with(baselines, "METHOD") == set(baselines.NAMES)
    assert tuple(method.name for method in baselines.BASELINES) == baselines.NAMES


def test_every_file_with_a_family_is_listed():
    assert modules_with(models, "FAMILY") == set(CLASSIFIERS)
    assert all(isinstance(family, Family) for family in CLASSIFIERS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_has_an_opener(kind):
    assert callable(pkgutil.resolve_name(KINDS[kind].opener))
    assert KINDS[kind].usage.startswith(kind)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_a_command_with_help(name):
    command = load_verb(name)
    assert issubclass(command, Options)
    assert "Examples:" in command.__doc__
    assert callable(command.run)


def test_every_file_with_a_command_is_a_verb():
    files = {module.name for module in pkgutil.iter_modules(cli.__path__)}
    files -= {"main", "options", "console"}
    with_command = {
        name
        for name in files
        for each in vars(import_module(f"mdm_jax.cli.{name}")).values()
        if isinstance(each, type)
        and issubclass(each, Options)
        and each.__name__.endswith("Command")
        and each.__module__ == f"mdm_jax.cli.{name}"
    }
    assert with_command == {verb.module for verb in VERBS.values()}
