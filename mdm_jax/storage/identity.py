"""Settings in plain values that identify them: what stored folders are compared by.

    None, numbers, texts    themselves
    dataclass, NamedTuple   {field: value}
    term of an objective    {"name", "weight"}, and "function" where the name does not say which
    function of ours        its id in `part_names.PART_NAMES`, such as "adam"
    function of yours       "NAME@CHECKSUM", see `function_checksum`
    partial of a function   "sgd(momentum=0.9)"
    array                   its numbers; above `LARGEST_LIST` of them "float32[64,64]@CHECKSUM"

Nothing here depends on how Python prints a function or a class, so a part may be renamed or moved
without a stored folder taking it for another. `stored_format` reads what older versions wrote."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import textwrap
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

# Numbers of an array that is written out.
LARGEST_LIST = 1024


def describe(value: Any, ids: Mapping[Any, str]) -> Any:
    """A setting as plain values that JSON can hold; `ids` are those of known functions."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _array(np.asarray(value))
    if isinstance(value, Mapping):
        return {str(name): describe(each, ids) for name, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, ids)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: describe(getattr(value, name), ids) for name in value._fields}
    if isinstance(value, list | tuple):
        return [describe(each, ids) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((describe(each, ids) for each in value), key=json.dumps)
    return _callable(value, ids)


def function_checksum(
    function: Any, ids: Mapping[Any, str] = types.MappingProxyType({})
) -> str:
    """A checksum of a function of yours: of its text, its defaults, and the values it closes over.

    Where Python does not have the text, or cannot tell it apart (a lambda), the compiled code takes
    its place. What the function calls is not looked at."""
    return _digest(function, ids, set())


def _dataclass(value: Any, ids: Mapping[Any, str]) -> Any:
    names = [field.name for field in dataclasses.fields(value)]
    fields = {name: describe(getattr(value, name), ids) for name in names}
    # A term: its name says which function it is, unless the function is one of yours.
    if fields.keys() == {"weight", "name", "function", "needs_complement"}:
        term = {"name": fields["name"], "weight": fields["weight"]}
        if fields["function"] != fields["name"]:
            term["function"] = fields["function"]
            if fields["needs_complement"]:
                term["needs_complement"] = True
        return term
    if callable(value):  # a function with settings, which two classes may have alike
        return {"class": _callable(type(value), ids)} | fields
    return fields


def _array(values: np.ndarray) -> Any:
    if values.size <= LARGEST_LIST:
        return values.tolist()
    return array_id(values)


def array_id(values: np.ndarray) -> str:
    """A large array in one text: what float32 makes of it, as the programs see it."""
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
    shape = ",".join(map(str, values.shape))
    checksum = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:8]
    return f"{values.dtype}[{shape}]@{checksum}"


def _callable(value: Any, ids: Mapping[Any, str]) -> Any:
    known = _known(value, ids)
    if known is not None:
        return known
    if isinstance(value, functools.partial):
        given = [json.dumps(describe(each, ids)) for each in value.args]
        given += [
            f"{name}={json.dumps(describe(each, ids))}"
            for name, each in value.keywords.items()
        ]
        return f"{describe(value.func, ids)}({', '.join(given)})"
    name = getattr(value, "__name__", type(value).__name__)
    return f"{name}@{function_checksum(value, ids)}"


def _known(value: Any, ids: Mapping[Any, str]) -> str | None:
    try:
        return ids.get(value)
    except TypeError:  # not hashable, so none of ours
        return None


def _digest(value: Any, ids: Mapping[Any, str], seen: set[int]) -> str:
    """A checksum of anything that may stand in a config; `seen` are the objects around it, as a
    function may close over itself."""
    if id(value) in seen:
        return "recursion"
    seen = seen | {id(value)}
    plain = (bool, int, float, complex, str, bytes, type(None))
    parts: list[str] = [type(value).__name__]
    function = inspect.unwrap(value) if callable(value) else value
    if (known := _known(value, ids)) is not None:
        parts.append(known)
    elif isinstance(value, plain):
        parts.append(repr(value))
    elif isinstance(value, np.ndarray | np.generic | jax.Array):
        parts.append(array_id(np.asarray(value)))
    elif isinstance(value, functools.partial):
        parts += [
            _digest(each, ids, seen) for each in (value.func, value.args, value.keywords)
        ]
    elif isinstance(value, Mapping):
        parts += [f"{name}={_digest(each, ids, seen)}" for name, each in value.items()]
    elif isinstance(value, list | tuple):
        parts += [_digest(each, ids, seen) for each in value]
    elif isinstance(value, set | frozenset):  # whose order differs from process to process
        parts += sorted(_digest(each, ids, seen) for each in value)
    elif isinstance(function, types.FunctionType):
        parts = [_text(function)]
        inner = [function.__defaults__, function.__kwdefaults__, *_closed_over(function)]
        parts += [_digest(each, ids, seen) for each in inner]
    elif isinstance(value, types.MethodType):
        parts += [_digest(each, ids, seen) for each in (value.__func__, value.__self__)]
    elif isinstance(value, type):
        parts.append(_source(value) or f"{value.__module__}.{value.__name__}")
    elif isinstance(value, types.BuiltinFunctionType | types.ModuleType):
        parts.append(f"{getattr(value, '__module__', '')}.{value.__name__}")
    else:  # an object that is called: its class, and what it holds
        parts.append(_source(type(value)) or "")
        parts.append(_digest(getattr(value, "__dict__", {}), ids, seen))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _closed_over(function: types.FunctionType) -> list[Any]:
    values = []
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not yet bound
            values.append(None)
    return values


def _text(function: types.FunctionType) -> str:
    """The text of a function, or its compiled code."""
    text = None if function.__name__ == "<lambda>" else _source(function)
    return _code(function.__code__) if text is None else text


def _source(thing: Callable[..., Any] | type) -> str | None:
    try:
        return textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError, IndentationError):
        return None


def _code(code: types.CodeType) -> str:
    inner = []
    for constant in code.co_consts:
        nested = isinstance(constant, types.CodeType)
        inner.append(_code(constant) if nested else repr(constant))
    return "\n".join([code.co_code.hex(), *code.co_names, *inner])
