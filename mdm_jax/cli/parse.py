"""A verb's options from its words and its config file."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, TypeVar, get_args, get_origin

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
)

from mdm_jax.cli.options import Options
from mdm_jax.config_files import build, read_toml
from mdm_jax.errors import InputError, unknown

Verb = TypeVar("Verb", bound=Options)


def parse(verb: type[Verb], prog: str, words: Sequence[str]) -> Verb:
    """The verb with its options: of these words, else of the file of --config, else the defaults.

    Raises InputError for what cannot be read, with the nearest option or choice; exits where the
    words ask for help, or a value is of another type.
    """
    if "-h" in words or "--help" in words:
        print(
            inspect.getdoc(verb), end="\n\n"
        )  # above the options: tyro would join its lines
    words = _with_current_names(verb, words)
    options = _read_words(verb, prog, words, verb())
    file = options.config or getattr(options, "file", None)
    if file is None or verb.READS_CONFIG:
        return options
    settings = read_toml(file)
    try:
        defaults = build(verb, settings, base=verb())
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    return _read_words(verb, prog, words, defaults)


def _with_current_names(verb: type[Options], words: Sequence[str]) -> list[str]:
    current = []
    for word in words:
        name, equals, value = word.partition("=")
        if name in verb.RENAMED:
            new = verb.RENAMED[name]
            # A FutureWarning is shown to everybody, a DeprecationWarning to programmers only.
            warnings.warn(f"{name} is deprecated: write {new}", FutureWarning, stacklevel=2)
            word = new + equals + value
        current.append(word)
    return current


def _read_words(verb: type[Verb], prog: str, words: Sequence[str], defaults: Verb) -> Verb:
    try:
        options, rest = tyro.cli(
            verb,
            prog=prog,
            description="",
            args=words,
            default=defaults,
            config=(tyro.conf.FlagCreatePairsOff,),
            registry=_REGISTRY,
            return_unknown_args=True,
        )
    except _NoChoice as error:
        option = _option_of(error.value, words)
        raise unknown(option, error.value, error.choices) from None
    if rest:
        raise _unknown_word(verb, rest[0])
    return options


def _unknown_word(verb: type[Options], word: str) -> InputError:
    options = [f"--{each.name.replace('_', '-')}" for each in dataclasses.fields(verb)]
    near = difflib.get_close_matches(word, options, n=1)
    hint = f"did you mean {near[0]}?" if near else "see --help"
    kind = "option" if word.startswith("-") else "argument"
    return InputError(f"unknown {kind} {word}: {hint}")


class _NoChoice(Exception):
    """A word that is none of an option's choices. Not a ValueError, which tyro would print."""

    def __init__(self, value: str, choices: Sequence[str]) -> None:
        self.value, self.choices = value, choices


def _option_of(value: str, words: Sequence[str]) -> str:
    """The option before a value."""
    for before, word in pairwise(words):
        if word == value and before.startswith("--"):
            return before
    return "choice"


_REGISTRY = ConstructorRegistry()


@_REGISTRY.primitive_rule
def _literal(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Choices as tyro shows them; a wrong one is answered in our own words, with the nearest."""
    if get_origin(info.type) is not Literal:
        return None
    choices = get_args(info.type)

    def read(words: list[str]) -> str:
        if words[0] not in choices:
            raise _NoChoice(words[0], choices)
        return words[0]

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(choices) + "}",
        instance_from_str=read,
        is_instance=lambda value: value in choices,
        str_from_instance=lambda value: [value],
    )
