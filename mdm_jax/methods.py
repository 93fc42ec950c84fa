"""Every method by name, under one contract; and `name:setting=value,...` as the command line and
tables write one."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, get_args, get_type_hints, runtime_checkable

from jax import tree_util
from jaxtyping import Array, Int, Key

from mdm_jax import hdm, mdm, plugins
from mdm_jax.baselines import BASELINES
from mdm_jax.config import MDMConfig, PresetName, preset
from mdm_jax.config_files import build, in_file, parse_settings, schema
from mdm_jax.errors import InputError, unknown
from mdm_jax.hdm import HDMConfig
from mdm_jax.types import Explanation, Image, Node, Predict


@runtime_checkable
class Method(Protocol):
    """The contract of every method: one image in, one `Explanation` out, pure.

    `config` is the method's own frozen dataclass, a pytree with a `check()` that raises InputError;
    None is its default. The default of `node` is what the method's authors explain: a logit for
    gradients, a probability for masks."""

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


METHODS: dict[str, Method] = {"mdm": mdm.explain, "hdm": hdm.explain} | {
    name: each for name, (each, _) in BASELINES.items()
}
CONFIGS: dict[str, type] = {"mdm": MDMConfig, "hdm": HDMConfig} | {
    name: config for name, (_, config) in BASELINES.items()
}


class Chosen(NamedTuple):
    """A method with its settings."""

    label: str
    """as it was written"""
    name: str
    """of `METHODS`, or of your own function"""
    config: Any


def resolve(method: Any) -> Method:
    """A method from its name (or that of your own function, see `mdm_jax.plugins`), or the function
    that it is.

    Raises InputError for another name, and for what is neither.
    """
    if isinstance(method, str):
        if method in METHODS:
            return METHODS[method]
        if plugins.is_name(method):
            return plugins.find(method, "method")
        raise unknown("method", method, METHODS)
    if not callable(method):
        raise InputError(f"{method!r} is no method: give a name or a function of the contract")
    return method


def name_of(method: Method) -> str | None:
    """The name of one of our methods; None for a function of yours."""
    return next((name for name, known in METHODS.items() if known is method), None)


def checked_config(method: Method, config: Any) -> Any:
    """A method's config, or None for its default. Raises InputError for that of another method, or
    a number out of range."""
    name = name_of(method)
    if config is not None and name is not None and not isinstance(config, CONFIGS[name]):
        kind = CONFIGS[name].__name__
        raise InputError(
            f"config is a {type(config).__name__}: {name} takes a {kind}, or None for its default"
        )
    return _checked(config)


def _checked(config: Any) -> Any:
    if (
        dataclasses.is_dataclass(config)
        and type(config).__hash__ is None
        and tree_util.all_leaves([config])
    ):
        raise InputError(
            f"a {type(config).__name__} may be changed: write @dataclass(frozen=True) above it"
        )
    if hasattr(config, "check"):
        config.check()
    return config


def config_type(name: str) -> Any:
    """The config of a method by its name; of your own, the dataclass that its `config` is annotated
    with, or None."""
    if name in CONFIGS:
        return CONFIGS[name]
    try:
        annotated = get_type_hints(resolve(name)).get("config")
    except (
        NameError,
        TypeError,
    ):  # a name that only type checkers see, or an object that is called
        return None
    return next(
        (kind for kind in (annotated, *get_args(annotated)) if dataclasses.is_dataclass(kind)), None
    )


def default_node(method: Method) -> str | Node:
    """The node that a method explains where none is asked for."""
    node = inspect.signature(method).parameters.get("node")
    return "probability" if node is None or node.default is node.empty else node.default


def parted(text: str) -> tuple[str, str]:
    """The name and the settings in `name:settings`, `file.py:name:settings` or
    `module:name:settings`; "" for no settings.

    What stands before the first colon is a method's name, or where something of your own lies;
    settings hold an equals sign."""
    first, _, rest = text.partition(":")
    second, _, settings = rest.partition(":")
    return (
        (f"{first}:{second}", settings)
        if first not in METHODS and plugins.is_name(f"{first}:{second}")
        else (first, rest)
    )


def choose(text: str) -> Chosen:
    """The method and settings that `name` or `name:setting=value,...` says, such as
    `rise:samples=1000` or `mdm:preset=paper`.

    Values are written as in TOML; a bare word is a string. A method of your own is `file.py:name`
    or `module:name`, and `file.py:name:setting=value,...` with settings. Raises InputError for an
    unknown name, setting or value."""
    name, written = parted(text)
    resolve(name)
    settings = parse_settings(written, name)
    if name == "mdm":
        base = preset(str(settings.pop("preset", "fast")))
        return Chosen(text, name, build(MDMConfig, settings, base=base))
    kind = config_type(name)
    if kind is None and settings:
        raise InputError(
            f"{name} takes no settings: annotate its config with a dataclass of them, or leave"
            f" {written} out"
        )
    config = None
    if kind is not None:
        config = build(kind, settings, kind=f"setting of {name}", place=f" in {text!r}")
    return Chosen(text, name, _checked(config))


MDM_SETTINGS = in_file(dict[str, Any], "a table [mdm] of settings such as steps = 50") | {
    "adopts": tuple(schema(MDMConfig))
}
"""settings of MDM may also stand outside of their table, as in a file that holds nothing else"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """Which method a job uses, as command lines and config files say it."""

    method: str = "mdm"
    """what explains: a method, perhaps with settings as in rise:num_samples=1000, or a function of
    yours, as in my_methods.py:inverse"""
    preset: PresetName = "fast"
    """settings of MDM to begin with"""
    mdm: Mapping[str, Any] = dataclasses.field(default_factory=dict, metadata=MDM_SETTINGS)
    """settings of MDM that replace the preset's"""

    def resolve(self) -> Chosen:
        """The method with its settings. Raises InputError for what cannot be, and for MDM's
        settings beside another method."""
        if self.method == "mdm":
            return Chosen("mdm", "mdm", build(MDMConfig, self.mdm, base=preset(self.preset)))
        if self.mdm or self.preset != "fast":
            raise InputError(
                f"the preset and the settings of MDM are not for {self.method}: write settings"
                " with the method, as in mdm:preset=paper,steps=50"
            )
        return choose(self.method)
