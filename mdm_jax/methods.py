"""Every method by name, under one contract; and `name:setting=value,...` as the command line and tables write one."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Int, Key

from mdm_jax import mdm
from mdm_jax.baselines import BASELINES
from mdm_jax.config import MDMConfig, config_from_mapping, preset
from mdm_jax.errors import InputError, unknown
from mdm_jax.types import Explanation, Image, Node, Predict


@runtime_checkable
class Method(Protocol):
    """The contract of every method: one image in, one `Explanation` out, pure.

    `config` is the method's own frozen dataclass, a pytree with a `check()` that raises InputError; None is its default.
    The default of `node` is what the method's authors explain: a logit for gradients, a probability for masks.
    """

    def __call__(
        self,
        predict: Predict,
        image: Image,
        target: Int[Array, ""] | int | None = None,
        *,
        node: str | Node = "probability",
        key: Key[Array, ""],
        config: Any = None,
        trace: bool = False,
    ) -> Explanation: ...


METHODS: dict[str, Method] = {"mdm": mdm.explain} | {name: method for name, (method, _) in BASELINES.items()}
CONFIGS: dict[str, type] = {"mdm": MDMConfig} | {name: config for name, (_, config) in BASELINES.items()}


LARGEST = 2**31
"""no setting is as large, and a program's whole numbers end there"""


class Chosen(NamedTuple):
    """A method with its settings."""

    label: str
    """as it was written"""
    name: str
    config: Any


def resolve(method: Any) -> Method:
    """A method from its name, or the function that it is. Raises InputError for another name, and for what is neither."""
    if isinstance(method, str):
        if method not in METHODS:
            raise unknown("method", method, METHODS)
        return METHODS[method]
    if not callable(method):
        raise InputError(f"{method!r} is no method: give a name or a function of the contract")
    return method


def checked_config(method: Method, config: Any) -> Any:
    """A method's config, or None for its default. Raises InputError for that of another method, or a number out of range."""
    name = next((name for name, known in METHODS.items() if known is method), None)
    if config is None or name is None:
        return config
    kind: Any = CONFIGS[name]
    if not isinstance(config, kind):
        raise InputError(f"config is a {type(config).__name__}: {name} takes a {kind.__name__}, or None for its default")
    config.check()
    return config


def default_node(method: Method) -> str | Node:
    """The node that a method explains where none is asked for."""
    return inspect.signature(method).parameters["node"].default


def choose(text: str) -> Chosen:
    """The method and settings that `name` or `name:setting=value,...` says, such as `rise:samples=1000` or `mdm:preset=paper`.

    Values are written as in TOML; a bare word is a string. Raises InputError for an unknown name, setting or value.
    """
    name, _, written = text.partition(":")
    resolve(name)
    settings: dict[str, Any] = {}
    for each in re.split(r",(?![^\[{]*[\]}])", written) if written else []:
        setting, equals, value = each.partition("=")
        if not (setting and equals and value):
            raise InputError(f"{text!r} cannot be read at {each!r}: write {name}:setting=value,setting=value")
        if setting.strip() in settings:
            raise InputError(f"{setting.strip()} is given twice in {text!r}: give it once")
        settings[setting.strip()] = number = _value(value.strip())
        if type(number) in (int, float) and not abs(number) < LARGEST:
            raise InputError(f"{setting.strip()} is {number} in {text!r}: give a number of less than {LARGEST}")
    if name == "mdm":
        base = preset(str(settings.pop("preset", "fast")))
        return Chosen(text, name, config_from_mapping(settings, base))
    return Chosen(text, name, _configured(CONFIGS[name], settings, text))


def _configured(kind: type, settings: dict[str, Any], text: str) -> Any:
    """A baseline's config with settings. Raises InputError for one that does not exist or is of another type."""
    default = kind()
    fields = [field.name for field in dataclasses.fields(kind)]
    settings = {setting: tuple(value) if isinstance(value, list) else value for setting, value in settings.items()}
    for setting, value in settings.items():
        if setting not in fields:
            raise unknown(f"setting of {text.partition(':')[0]}", setting, fields)
        usual = getattr(default, setting)
        number = isinstance(usual, float) and type(value) in (int, float)
        several = isinstance(usual, str) and isinstance(value, tuple)  # such as baseline=["zero","blur"]
        unlike = isinstance(usual, tuple) and isinstance(value, tuple) and any(type(v) is not type(usual[0]) for v in value)
        if unlike or (usual is not None and not number and not several and type(value) is not type(usual)):
            raise InputError(f"{setting} is {value!r} in {text!r}: write a value such as {usual!r}")
    config = kind(**settings)
    config.check()
    return config


def _value(written: str) -> Any:
    try:
        return tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        return written
