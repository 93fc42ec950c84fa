"""A verb's options from its words and its config file."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
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
        # Not as tyro's description, which would join the lines of the examples.
        print(inspect.getdoc(verb), end="\n\n")
    words = _with_current_names(verb, words)
    options = _read_words(verb, prog, words, verb())
    file = options.config or getattr(options, "file", None)
    if file is None or verb.READS_CONFIG:
        return options
    # The file becomes the defaults, so that words win; the words are then read a second time.
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
            registry=REGISTRY,
            # Unknown words are answered below, in one sentence with the nearest option.
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


REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
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


# How help shows a value. Without these, tyro shows an optional one as {None}|STR.
_METAVARS = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}


@REGISTRY.struct_rule
def _options(info: StructTypeInfo) -> StructConstructorSpec | None:
    """The fields of a verb as options, each with the docstring below it as its help."""
    defaults = info.default
    # tyro asks of the type of every field too; only a verb comes with options as its default.
    if not isinstance(defaults, Options):
        return None
    verb = type(defaults)
    types = get_type_hints(verb, include_extras=True)
    # Read only where help asks for the first of them: parsing source takes a while.
    docstrings = cache(partial(_field_docstrings, verb))

    def read_help(name: str) -> str | None:
        return docstrings().get(name)

    fields = []
    repeatable = set()
    for each in dataclasses.fields(verb):
        if _has_tables(types[each.name]):
            continue
        default = getattr(defaults, each.name)
        if tyro.conf.UseAppendAction in get_args(types[each.name]):
            # tyro would add the words to the default, which they are to replace.
            repeatable.add(each.name)
            default = ()
        field = StructFieldSpec(
            name=each.name,
            type=_with_metavar(types[each.name]),
            default=default,
            helptext=partial(read_help, each.name),
        )
        fields.append(field)

    def with_values(**values: Any) -> Any:
        """What is no option, or was not repeated even once, stays as the file of --config has
        it."""
        given = {
            name: value
            for name, value in values.items()
            if name not in repeatable or value != ()
        }
        return dataclasses.replace(defaults, **given)

    return StructConstructorSpec(with_values, tuple(fields))


def _has_tables(kind: Any) -> bool:
    """Whether a value holds tables, which only a file can write."""
    return get_origin(kind) is Mapping or any(map(_has_tables, get_args(kind)))


def _with_metavar(kind: Any) -> Any:
    """The type of an optional value with the metavar of the value alone; the word None is read as
    before."""
    bare, *extras = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    alternatives = set(get_args(bare))
    if type(None) not in alternatives:
        return kind
    values = alternatives - {type(None)}
    # several, in the order in which they are tried
    known = [text for value, text in _METAVARS.items() if value in values]
    metavar = "|".join(known) if len(known) == len(values) else None
    # First, so that the metavar of a positional argument wins.
    return Annotated[bare, tyro.conf.arg(metavar=metavar), *extras]


def _join_lines(paragraph: str) -> str:
    return " ".join(paragraph.split())


def _field_docstrings(verb: type[Options]) -> dict[str, str]:
    """The docstring of each field, a line for a paragraph, so that help wraps it to the terminal.

    tyro reads docstrings too, but keeps the line breaks of those that are indented.
    """
    docstrings = {}
    # From the oldest class on: a field that is declared again has the newer docstring.
    for each in reversed(verb.__mro__):
        if not dataclasses.is_dataclass(each):
            continue
        source = textwrap.dedent(inspect.getsource(each))
        (definition,) = ast.parse(source).body
        assert isinstance(definition, ast.ClassDef)
        for statement, below in pairwise(definition.body):
            match statement, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    paragraphs = inspect.cleandoc(text).split("\n\n")
                    docstrings[name] = "\n\n".join(map(_join_lines, paragraphs))
    return docstrings
