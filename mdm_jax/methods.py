"""Every method by name, and the forms in which a method may be given.

Wherever a method is taken, in Python, on the command line or in a file, it may be

    "rise"                                  its name
    "rise:num_samples=1000"                 its name with settings, written as in TOML
    "my_methods.py:inverse:power=2.0"       a function or a `Method` of yours, perhaps with settings
    RISE(num_samples=1000)                  its settings, whose type says which method it is
    a function, or a `Method`               of the contract `types.ExplainFunction`

`configure` makes one `ConfiguredMethod` of each."""

from __future__ import annotations

import dataclasses
import inspect
import json
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args, get_type_hints

from jax import tree_util

from mdm_jax import hdm, masks, mdm, plugins, renamed_settings
from mdm_jax.baselines import BASELINES
from mdm_jax.config import MDMConfig, PresetName, preset
from mdm_jax.config_files import build, in_file, parse_settings, resolved, schema
from mdm_jax.errors import InputError, find_renamed, unknown
from mdm_jax.hdm import HDMConfig
from mdm_jax.types import ExplainFunction, Method, Node

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("mdm", mdm.explain, MDMConfig, "probability"),
        Method("hdm", hdm.explain, HDMConfig, "probability"),
        *BASELINES,
    )
}
_BY_CONFIG_TYPE = {method.config_type: method for method in METHODS.values()}


def _layers(function: Any) -> list[Any]:
    """A function, and the functions that it wraps, the outermost first."""
    layers = [function]
    while hasattr(layers[-1], "__wrapped__"):
        layers.append(layers[-1].__wrapped__)
    return layers


# Also by the function of its file, which the table's wraps, and which a type checker may wrap.
_BY_FUNCTION = {
    function: method for method in METHODS.values() for function in _layers(method.explain)
}

# Any of the forms above.
MethodLike = Any


class ConfiguredMethod(NamedTuple):
    """A method with its settings."""

    label: str
    """as it was written, or as it would be: it names columns and folders"""
    method: Method
    config: Any = None
    """an instance of the method's config type; None for its default"""

    @property
    def name(self) -> str:
        return self.method.name

    @property
    def explain(self) -> ExplainFunction:
        return self.method.explain

    @property
    def default_node(self) -> str | Node:
        return self.method.default_node

    def with_default_config(self) -> ConfiguredMethod:
        """The same with its default settings written out, where it has some."""
        if self.config is not None or self.method.config_type is None:
            return self
        return self._replace(config=self.method.config_type())


def configure(method: MethodLike, config: Any = None) -> ConfiguredMethod:
    """The method that is meant, with settings from at most one place.

    `config` may be the method's config, or the name of a preset of MDM. Raises InputError for an
    unknown method, for settings that it does not have or that cannot be, and for settings from two
    places."""
    chosen = _find(method)
    if config is None:
        return chosen._replace(config=check_config(chosen.method, chosen.config))
    if chosen.config is not None:
        raise InputError(
            f"the settings of {chosen.label} are given twice: give them with the method or as"
            " config"
        )
    if isinstance(config, str):
        config = preset(config)
    return chosen._replace(config=check_config(chosen.method, config))


def label_of(method: Method, config: Any) -> str:
    """A method with settings in one text: its name, and the settings that are not the default."""
    if config is None or method.config_type is None:
        return method.name
    default, values = resolved(method.config_type()), resolved(config)
    changed = {name: value for name, value in values.items() if value != default.get(name)}
    if not changed:
        return method.name
    written = (f"{name}={_write_value(value)}" for name, value in changed.items())
    return f"{method.name}:{','.join(written)}"


def _write_value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        items = (f"{json.dumps(name)}={_write_value(each)}" for name, each in value.items())
        return f"{{{','.join(items)}}}"
    return json.dumps(value, separators=(",", ":"))


def split_name(text: str) -> tuple[str, str]:
    """The name and the settings in `name:settings`, `file.py:name:settings` or
    `module:name:settings`; "" for no settings.

    What stands before the first colon is a method's name, or the place of something of yours;
    settings hold an equals sign."""
    first, _, rest = text.partition(":")
    second, _, settings = rest.partition(":")
    first = renamed_settings.value_name("method", first)
    if first not in METHODS and plugins.is_reference(f"{first}:{second}"):
        return f"{first}:{second}", settings
    return first, rest


def check_config(method: Method, config: Any) -> Any:
    """A method's config, or None for its default. Raises InputError for that of another method, or
    a value that cannot be."""
    if config is None:
        return None
    kind = method.config_type
    if kind is not None and type(config) is not kind and _is_base_of(config, kind):
        # A base class, such as CAMConfig, is what several methods once shared.
        config = kind(**{name: getattr(config, name) for name in schema(type(config))})  # type: ignore[arg-type]
    if kind is not None and not isinstance(config, kind):
        raise InputError(
            f"config is a {type(config).__name__}: {method.name} takes a {kind.__name__}, or None"
            " for its default"
        )
    if not hasattr(config, "check") and not _is_dataclass_instance(config):
        raise InputError(
            f"config is a {type(config).__name__}: give a preset's name or a config such as"
            " MDMConfig(steps=40)"
        )
    if (
        _is_dataclass_instance(config)
        and type(config).__hash__ is None
        and tree_util.all_leaves([config])
    ):
        raise InputError(
            f"a {type(config).__name__} may be changed: write @dataclass(frozen=True) above it"
        )
    if hasattr(config, "check"):
        config.check()
    if isinstance(config, MDMConfig):
        resolve_start(config)
    return config


def _is_base_of(config: Any, kind: type) -> bool:
    return _is_dataclass_instance(config) and issubclass(kind, type(config))


def _is_dataclass_instance(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def resolve_start(config: Any) -> Any:
    """A config of MDM whose start is a function where it was a method's name; any other config as
    it is. Raises InputError for a name that is neither a start nor a method."""
    start = getattr(config, "start", None)
    if not isinstance(config, MDMConfig) or not isinstance(start, str):
        return config
    start = renamed_settings.value_name("start", start)
    starts = {method.name: method.explain for method in BASELINES}
    # "random" is both, and has always meant the method
    if start in masks.STARTS and start not in starts:
        return config
    if start not in starts:
        raise unknown("start", start, [*masks.STARTS, *starts])
    return dataclasses.replace(config, start=starts[start])


def resolve_references(node: str | Node, config: Any) -> tuple[str | Node, Any]:
    """A node and a config in which names of functions are replaced by the functions: what a
    compiled program must be known by."""
    node, config = plugins.resolve_references((node, config))
    return node, resolve_start(config)


def _find(method: MethodLike) -> ConfiguredMethod:
    if isinstance(method, ConfiguredMethod):
        return method
    if isinstance(method, Method):
        return ConfiguredMethod(method.name, method)
    if isinstance(method, str):
        return _parse(method)
    if isinstance(method, type):
        if method in _BY_CONFIG_TYPE:
            known = _BY_CONFIG_TYPE[method]
            return ConfiguredMethod(known.name, known)
    elif type(method) in _BY_CONFIG_TYPE:
        known = _BY_CONFIG_TYPE[type(method)]
        return ConfiguredMethod(label_of(known, method), known, method)
    elif callable(method):
        own = _BY_FUNCTION.get(method) or _method_of(method, _name_of(method))
        return ConfiguredMethod(own.name, own)
    raise InputError(
        f"{method!r} is no method: give a name, settings such as RISE(num_samples=1000), or a"
        " function of the contract"
    )


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", "method"))


def _parse(text: str) -> ConfiguredMethod:
    """The method and settings that `name` or `name:setting=value,...` says.

    Values are written as in TOML; a bare word is a string. A preset of MDM is a setting too."""
    name, written = split_name(text)
    if name in METHODS:
        method = METHODS[name]
    elif plugins.is_reference(name):
        method = _method_of(plugins.load_reference(name).thing, name)
    else:
        raise unknown("method", name, METHODS)
    if not written:
        return ConfiguredMethod(text, method)
    settings = parse_settings(written, name)
    kind: Any = method.config_type
    if kind is None:
        raise InputError(
            f"{name} takes no settings: give it a config type by a Method record, or leave"
            f" {written} out"
        )
    base = None
    if name == "mdm":
        base = preset(str(settings.pop("preset", "fast")))
    owner = {"kind": f"setting of {name}", "place": f" in {text!r}", "method": name}
    config = build(kind, settings, base=base, **owner)
    return ConfiguredMethod(text, method, config)


def _method_of(thing: Any, name: str) -> Method:
    """The record of a function of yours, or the record that it is, under the name that you use."""
    if isinstance(thing, Method):
        plugins.check_function(thing.explain, name, "method")
        return thing._replace(name=name)
    plugins.check_function(thing, name, "method")
    config_type, node = _annotated_config(thing), _node_parameter(thing)
    if config_type is not None or node != "probability":
        warnings.warn(
            f"{name} says by its signature which settings and node it takes, which will be read no"
            f" more: name a record in its place, mdm_jax.Method({name.rpartition(':')[2]!r},"
            " function, config_type, default_node)",
            DeprecationWarning,
            stacklevel=4,
        )
    return Method(name, thing, config_type, node)


def _annotated_config(function: Any) -> Any:
    """The dataclass that a function's `config` is annotated with; None where there is none."""
    try:
        annotation = get_type_hints(function).get("config")
    except (
        NameError,
        TypeError,
    ):  # a name that only type checkers see, or a callable object
        return None
    kinds = [
        each
        for each in (annotation, *get_args(annotation))
        if dataclasses.is_dataclass(each)
    ]
    return kinds[0] if kinds else None


def _node_parameter(function: Any) -> str | Node:
    try:
        node = inspect.signature(function).parameters.get("node")
    except ValueError:  # a builtin
        return "probability"
    return "probability" if node is None or node.default is node.empty else node.default


# Settings of MDM may also stand outside of their table, as in a file that holds nothing else.
MDM_SETTINGS = in_file(dict[str, Any], "a table [mdm] of settings such as steps = 50") | {
    "adopts": tuple(schema(MDMConfig))
}


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

    def resolve(self) -> ConfiguredMethod:
        """The method with its settings. Raises InputError for what cannot be, and for MDM's
        settings beside another method."""
        if self.method == "mdm":
            config = build(MDMConfig, self.mdm, base=preset(self.preset))
            return configure("mdm", config)
        if self.mdm or self.preset != "fast":
            raise InputError(
                f"the preset and the settings of MDM are not for {self.method}: write settings"
                " with the method, as in mdm:preset=paper,steps=50"
            )
        return configure(self.method).with_default_config()


RENAMED = {"choose": "configure", "Chosen": "ConfiguredMethod"}


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name, RENAMED, globals())
