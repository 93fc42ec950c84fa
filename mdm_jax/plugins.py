"""Parts from outside the package: `file.py:name` or `module:name` stands wherever the name of a
part does.

A term, a fill, a node, a metric or a method is one function in a file of yours (`CONTRACTS` says
what each is called with), and its name goes on the command line, into a config file or into a call:

    mdm explain photo.png --node my_nodes.py:margin
    mdm benchmark --methods mdm my_methods.py:inverse --metrics my_metrics.py:compactness

Commands import only what their words name (`only_named`): a name in a config file, or in a folder
that somebody shared, has to be given again with --code.

Files are found from the current folder, modules there and among what is installed. A file is read
again when its text has changed; the same text gives the same objects, so nothing is compiled twice.
What is computed with such a part carries the checksum of its file's text
(`reference_checksums`), so that results of another text are never taken for its own. What the file
imports in turn is not looked at."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import os
import re
import sys
import traceback
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mdm_jax.errors import InputError, unknown

_WORD = r"[^\W\d]\w*"
_NAME = re.compile(rf"(?P<place>[^:]+\.py|{_WORD}(?:\.{_WORD})*):(?P<name>{_WORD})")


class Contract(NamedTuple):
    """How a part is called."""

    text: str
    positional: int
    keywords: tuple[str, ...] = ()


# By kind of part; see `objectives.View`, `types`, `metrics.Metric` and `methods.Method`.
CONTRACTS = {
    "objective term": Contract("(view) -> number", 1),
    "fill": Contract("(image, *, key) -> image", 1, ("key",)),
    "node": Contract("(outputs, target) -> activation", 2),
    "metric": Contract("(predict, sample, *, key) -> number", 2, ("key",)),
    "method": Contract(
        "(predict, image, target=None, *, node, key, config=None, trace=False) -> Explanation",
        3,
        ("node", "key", "config", "trace"),
    ),
}


class UnnamedCode(InputError):
    """Code that only a file names, so that it is not run."""


class Reference(NamedTuple):
    """What a name stands for."""

    thing: Any
    name: str
    place: str
    """the file's name without its ending, or the module's"""
    checksum: str
    """of the text that it was read from"""


# The words in which code has to be named to be imported; None where a program decides itself.
_words: tuple[str, ...] | None = None


@contextmanager
def only_named(words: Iterable[str]) -> Iterator[None]:
    """Inside, only code that one of the words names is imported, whatever files say."""
    global _words
    before, _words = _words, tuple(words)
    try:
        yield
    finally:
        _words = before


def _check_named(text: str) -> None:
    """Raise UnnamedCode for a name that stands in none of the words, and neither does its file."""
    # At the begin of a word or of a value, and whole: as `my.py:f` in `mdm:fill=["my.py:f"]`.
    whole = re.compile(rf"(?:^|[=\[{{(,\"'])\s*{re.escape(text)}(?!\w)")
    if _words is None or text.rpartition(":")[0] in filter(_is_file, _words):
        return
    if not any(map(whole.search, _words)):
        raise UnnamedCode(
            f"{text!r} is code that only a file names, and no code is run because a file says so:"
            f" if you trust it, name it on the command line too, with --code {text!r}"
        )


def _is_file(place: str) -> bool:
    return place.endswith(".py")


def is_reference(text: Any) -> bool:
    """Whether a text is written as the name of something outside: `PLACE.py:NAME` or
    `MODULE:NAME`."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def load_function(text: str, kind: str) -> Any:
    """The function that a name stands for, as a part of some `kind` of `CONTRACTS`; twice the same
    while its text is.

    Raises InputError for a file or module that is not there or fails while it is imported, a name
    that it does not hold (with the nearest), and what cannot be called as the contract says."""
    return check_function(load_reference(text).thing, text, kind)


def check_function(thing: Any, text: str, kind: str) -> Any:
    """A part that can be called as the contract of its kind says. Raises InputError for another."""
    contract = CONTRACTS[kind]
    kind = f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
    wanted = f"{kind} is a function {contract.text}"
    if not callable(thing):
        raise InputError(f"{text} is a {type(thing).__name__}: {wanted}")
    try:
        signature = inspect.signature(thing)
    except ValueError:  # of a builtin, which has none
        return thing
    try:
        signature.bind(*[None] * contract.positional, **dict.fromkeys(contract.keywords))
    except TypeError as error:
        raise InputError(f"{text} cannot be called as {kind} ({error}): {wanted}") from None
    return thing


def load_reference(text: str) -> Reference:
    """What a name stands for, whatever it is. Raises InputError as `load_function` does."""
    _check_named(text)
    place, _, name = text.rpartition(":")
    is_file = _is_file(place)
    module, checksum = _load_file(place) if is_file else _load_module(place)
    if not hasattr(module, name):
        raise _no_such_name(module, name, place)
    thing = getattr(module, name)
    shown_place = Path(place).stem if is_file else place
    return Reference(thing, name, shown_place, checksum or _first_read(thing, module))


def _no_such_name(module: types.ModuleType, name: str, place: str) -> InputError:
    # What a module imports is not offered, only what it defines itself.
    own = [
        key
        for key, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not key.startswith("_")
    ]
    if own:
        return unknown(f"name in {place}:", name, own)
    return InputError(
        f"{place} has no {name!r}, and no functions of its own: write one of that name"
    )


def resolve_references(tree: Any) -> Any:
    """A pytree in which what names stand for is in the place of the names: what a compiled program
    must be known by."""
    return jax.tree.map(
        lambda leaf: load_reference(leaf).thing if is_reference(leaf) else leaf, tree
    )


def reference_checksums(*settings: Any) -> dict[str, str]:
    """The checksums, by name, of everything from outside that settings name.

    Results belong together only where these agree.

    Settings are names, and configs, terms, sequences and mappings of these.
    """
    checksums = {}
    for text in filter(is_reference, _texts(settings)):
        with suppress(InputError):  # no part's name, but written alike
            checksums[text] = load_reference(text).checksum
    return checksums


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _texts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _texts(each)


def _load_file(place: str) -> tuple[types.ModuleType, str]:
    path = Path(place).expanduser().resolve()
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {place} ({error.strerror}): check the path, which is seen from"
            f" {os.getcwd()}"
        ) from None
    try:
        return _run_file(path, text), _checksum(text)
    except (Exception, SystemExit) as error:  # whatever a stranger's file raises
        raise _failed(place, error, str(path)) from error


@cache
def _run_file(path: Path, text: bytes) -> types.ModuleType:
    """The module of a file's text. Compiled here, because Python's own cache takes a text that
    changes within a second for the old one."""
    module = types.ModuleType(f"{path.stem}_{_checksum(str(path).encode() + text)}")
    module.__file__ = str(path)
    _let_import_from(path.parent)
    sys.modules[module.__name__] = (
        module  # where dataclasses and annotations look for names
    )
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module


def _load_module(place: str) -> tuple[types.ModuleType, str]:
    _let_import_from(Path.cwd())
    importlib.invalidate_caches()
    try:
        return importlib.import_module(place), ""
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{place}.".startswith(
            f"{error.name}."
        ):
            raise InputError(
                f"there is no module {place!r} in {os.getcwd()} or among what is installed: write"
                " FILE.py:NAME or MODULE:NAME"
            ) from None
        raise _failed(place, error, None) from error


def _let_import_from(folder: Path) -> None:
    """Let files import their neighbors."""
    # Last, so that a neighbor hides no module that is installed.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _failed(place: str, error: BaseException, path: str | None) -> InputError:
    """The error for a file or module that fails while it is imported: where, and why."""
    message = error.msg if isinstance(error, SyntaxError) else error
    # The first line alone: a message is one sentence on the screen.
    reason = f"{type(error).__name__}: {message}".strip().split("\n")[0]
    line = _line_of(error, path)
    where = "" if line is None else f"line {line}, "
    return InputError(f"{place} fails while it is imported ({where}{reason}): mend it")


def _line_of(error: BaseException, path: str | None) -> int | None:
    """The last line of the file that was reached; None where the error began elsewhere."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    return lines[-1] if lines else None


# Checksums of modules' texts when things of theirs were first asked for, by the things' identity: a
# module that is edited stays as it was imported, until it is loaded again and its functions are
# new.
_CHECKSUMS: dict[int, tuple[Any, str]] = {}


def _first_read(thing: Any, module: types.ModuleType) -> str:
    if id(thing) not in _CHECKSUMS:
        file = getattr(module, "__file__", None)
        _CHECKSUMS[id(thing)] = (
            thing,
            _checksum(Path(file).read_bytes() if file else module.__name__.encode()),
        )
    return _CHECKSUMS[id(thing)][1]


def _checksum(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:8]
