"""A point of a sweep: settings as a config file has them, and the config that they make."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mdm_jax import nodes, objectives, plugins
from mdm_jax.config import MDMConfig, preset
from mdm_jax.config_files import NONE, build, schema
from mdm_jax.errors import InputError, unknown
from mdm_jax.types import Node

PRESET, NODE, WEIGHT = "preset", "node", "objective."


class Point(NamedTuple):
    """One setting of a sweep."""

    settings: dict[str, Any]
    """as written, in plain values"""
    config: MDMConfig
    node: str | Node

    @property
    def identity(self) -> str:
        """A checksum of the settings and of functions from outside: the name of its results.

        It does not depend on other points, so a sweep with more points finds the results of before.
        """
        written = [self.settings, plugins.reference_checksums(self.config, self.node)]
        return hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """The settings in one line."""
        return label(self.settings)


def label(settings: Mapping[str, Any]) -> str:
    """Settings in one line; the base alone is "base"."""
    return (
        ", ".join(f"{name}={format_value(value)}" for name, value in settings.items())
        or "base"
    )


def format_value(value: Any) -> str:
    """A setting's value as a person reads it."""
    if isinstance(value, list):
        return "/".join(_format_entry(each) for each in value)
    if isinstance(value, Mapping):
        return "+".join(f"{format_value(weight)} {name}" for name, weight in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _format_entry(value: Any) -> str:
    # sizes are such as [4, 8, [8, 6]], where a pair is height x width
    return (
        "x".join(map(format_value, value))
        if isinstance(value, list)
        else format_value(value)
    )


def point(settings: Mapping[str, Any], base: MDMConfig, node: str | Node) -> Point:
    """The config that settings make of `base`, checked.

    Besides the settings of a config file, "objective.NAME" changes the weight of one term of the
    objective, or adds it; "preset" takes another base; "node" takes another node. Raises InputError
    for settings that cannot be, and names the point.
    """
    if not isinstance(settings, Mapping):
        raise InputError(
            f"a point is {settings!r}: give a mapping of settings, such as {{'learning_rate': 0.3}}"
        )
    written = {str(name): _to_written(str(name), value) for name, value in settings.items()}
    try:
        config = _make_config(written, base)
        node = written.get(NODE, node)
        nodes.resolve(node)
        # here rather than when it is solved: one bad point would stop a sweep after hours
        config.check()
        objectives.check_node(config.objective, node)
    except InputError as error:
        raise InputError(f"the point ({label(written)}) cannot be: {error}") from None
    return Point(written, config, node)


def _make_config(written: Mapping[str, Any], base: MDMConfig) -> MDMConfig:
    plain: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    for name, value in written.items():
        if name.startswith(WEIGHT):
            if type(value) is not float:
                raise InputError(f"the setting {name} is {value!r}: write a number")
            weights[name.removeprefix(WEIGHT)] = value
        elif name in (PRESET, NODE):
            if not isinstance(value, str):
                raise InputError(f"the setting {name} is {value!r}: write a name in quotes")
        elif name in schema(MDMConfig):
            plain[name] = value
        else:
            terms = [WEIGHT + term for term in objectives.TERMS]
            raise unknown("setting", name, [*schema(MDMConfig), PRESET, NODE, *terms])
    if PRESET in written:
        base = preset(written[PRESET])
    config = build(MDMConfig, plain, base=base)
    if not weights:
        return config
    return dataclasses.replace(config, objective=_change_weights(config.objective, weights))


def _change_weights(
    terms: Sequence[objectives.Term], weights: Mapping[str, float]
) -> tuple[objectives.Term, ...]:
    """An objective with other weights; a term that it does not have is added."""
    by_name = {term.name: term for term in terms}
    for name, weight in weights.items():
        if name in by_name:
            by_name[name] = dataclasses.replace(by_name[name], weight=weight)
        else:
            (by_name[name],) = objectives.from_mapping({name: weight})
    return tuple(by_name.values())


def _to_written(name: str, value: Any) -> Any:
    """A value as TOML has it, in one way only, because the identity is a checksum of it.

    A number that need not be whole is a float: 1 and 1.0 are one setting.
    """
    if value is None:
        return NONE
    # a NumPy number prints otherwise than a Python one, and the checksum would differ
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        value = np.asarray(value).tolist()
    setting = schema(MDMConfig).get(name)
    floats = name.startswith(WEIGHT) or (setting is not None and setting.holds_floats)
    return _to_plain(value, floats)


def _to_plain(value: Any, floats: bool) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [_to_plain(each, floats) for each in value]
    if isinstance(value, Mapping):
        return {str(name): _to_plain(each, floats) for name, each in value.items()}
    return float(value) if floats and type(value) is int else value
