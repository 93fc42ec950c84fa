"""How stored settings are written, and the one step that reads those of older versions.

Format 2 (of today) writes what `identity.describe` gives, under dotted names or nested. Format 1,
which no file names outside of runs, wrote what Python prints of a function:

    "<function adam>"                                       "adam"
    "functools.partial(<function sgd>, momentum=0.9)"       "sgd(momentum=0.9)"
    "Term(weight=30.0, name='area', function=<function mask_area>, needs_rest=False)", or the same
    as a table                                              {"name": "area", "weight": 30.0}
    "[0.5 0.4 0.3]", an array outside of a run              [0.5, 0.4, 0.3]

`upgrade` translates these, gives renamed settings and values the names of today
(`renamed_settings`), and fills in the defaults of settings that there were not yet. The files stay
as they are, and what is added to such a folder carries its old fingerprint. Of a function of yours
format 1 knew no more than the name, so it is compared by the name alone."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mdm_jax import renamed_settings
from mdm_jax.storage.identity import array_id
from mdm_jax.text_files import parse_json

# Of what is written today.
FORMAT = 2

# Ids of functions that format 1 knew by another name of Python's; nothing is added here.
IDS = {
    "mask_area": "area",
    "mask_variation": "total_variation",
    "rest_share": "removal",
    "_mean": "mean",
    "_given": "given",
    "_blur": "blur",
    "_noise": "noise",
    "_mixture": "mixture",
}

_FUNCTION = re.compile(r"<function (?P<name>[\w.<>]+)>")
_PARTIAL = re.compile(
    r"(?:functools\.partial|jax\.tree_util\.Partial|Partial)\((?P<inside>.*)\)"
)
_TERM = re.compile(
    r"Term\(weight=(?P<weight>[^,]+), name=(?P<name>'[^']*'|\"[^\"]*\"),"
    r" function=(?P<function>.+), needs_rest=(?P<rest>True|False)\)"
)


def upgrade(
    before: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Stored settings, by dotted name, as this version would have written them.

    `now` are those that they are compared with, from which comes what format 1 left open.
    `defaults` give what a setting was before it existed."""
    method = before.get("method", before.get("settings.method", ""))
    method = str(renamed_settings.value_name("method", method))
    found: dict[str, Any] = {}
    for key, value in before.items():
        new = _current_key(key, method)
        # First into ids: the tables of renamed values know no others.
        value = _translate(value, now.get(new))
        found[new] = _current_value(new.rpartition(".")[2], value)
    for key, value in defaults.items():
        # A default that is a table is there when any part of it is.
        if not any(each == key or each.startswith(f"{key}.") for each in found):
            found[key] = value
    return found


def _current_key(key: str, method: str) -> str:
    place, dot, name = key.rpartition(".")
    return f"{place}{dot}{renamed_settings.setting_name(name, method)}"


def _current_value(setting: str, value: Any) -> Any:
    if setting == "objective" and isinstance(value, list):
        return [_current_term(each) for each in value]
    return renamed_settings.value_name(setting, value)


def _current_term(term: Any) -> Any:
    if not isinstance(term, Mapping) or "name" not in term:
        return term
    return dict(term) | {"name": renamed_settings.value_name("term", term["name"])}


def _translate(value: Any, now: Any) -> Any:
    """A value of format 1 as format 2 writes it; one of format 2 as it is."""
    if isinstance(value, list):
        # Format 1 wrote every number of a large array, of which today's id is a checksum.
        if isinstance(now, str) and (array := _numbers(value)) is not None:
            return now if array_id(array) == now else value
        several = [None] * len(value)
        if isinstance(now, list) and len(now) == len(value):
            several = now
        return [_translate(each, other) for each, other in zip(value, several)]
    if (
        isinstance(value, Mapping)
        and {"weight", "name", "function", "needs_rest"} == value.keys()
    ):
        return _translate_term(value, now)
    if not isinstance(value, str):
        return value
    if match := _TERM.fullmatch(value):
        parts = {
            "weight": _read_literal(match["weight"]),
            "name": _read_literal(match["name"]),
            "function": match["function"],
            "needs_rest": match["rest"] == "True",
        }
        return _translate_term(parts, now)
    if "<function" in value:
        return _translate_function(value, now)
    return _translate_array(value, now)


def _translate_term(parts: Mapping[str, Any], now: Any) -> dict[str, Any]:
    name, function = parts["name"], parts["function"]
    found = {"name": name, "weight": parts["weight"]}
    other = now.get("function") if isinstance(now, Mapping) else None
    match = _FUNCTION.fullmatch(function)
    if other is None and match and _id(match) == name:
        return found
    found["function"] = _translate_function(function, other)
    if parts["needs_rest"]:
        found["needs_complement"] = True
    return found


def _translate_function(text: str, now: Any) -> str:
    """A function or a partial of one. One of yours is what it is `now`, where the name is the same,
    else it stays as it was written."""
    if match := _FUNCTION.fullmatch(text):
        yours = isinstance(now, str) and now.startswith(f"{_name(match)}@")
        return now if yours or now == _id(match) else text
    if (match := _PARTIAL.fullmatch(text)) and isinstance(now, str):
        first, *rest = _split(match["inside"])
        function, _, arguments = now.partition("(")
        given = [_argument(each) for each in rest]
        if (
            _translate_function(first, function) == function
            and ", ".join(given) == arguments[:-1]
        ):
            return now
    return text


def _name(match: re.Match[str]) -> str:
    return match["name"].rpartition(".")[2]


def _id(match: re.Match[str]) -> str:
    return IDS.get(_name(match), _name(match))


def _split(inside: str) -> list[str]:
    """The arguments of a partial, as Python prints them."""
    return re.split(r", (?![^\[(]*[\])])", inside)


def _argument(text: str) -> str:
    name, equals, value = text.partition("=")
    return (
        f"{name}{equals}{json.dumps(_read_literal(value))}"
        if equals
        else json.dumps(_read_literal(text))
    )


def _read_literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _translate_array(text: str, now: Any) -> Any:
    """An array that was written as Python prints it: what it is `now`, where the numbers agree."""
    if not re.fullmatch(r"\[[\[\]\d\s.eE+-]+\]", text):
        return text
    try:
        array = np.asarray(
            parse_json(re.sub(r"(?<=[\d.\]])\s+(?=[\[\d.-])", ", ", _with_decimals(text)))
        )
    except ValueError:
        return text
    if isinstance(now, str):
        return now if array_id(array) == now else text
    same = isinstance(now, list) and np.array_equal(
        np.asarray(array, np.float32), np.asarray(now, np.float32)
    )
    return now if same else array.tolist()


def _with_decimals(text: str) -> str:
    """Numbers as JSON writes them: "1." is 1.0."""
    return re.sub(r"(\d)\.(?!\d)", r"\1.0", text)


def _numbers(value: list[Any]) -> np.ndarray | None:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of several lengths
        return None
    return array if array.dtype.kind in "fi" else None
