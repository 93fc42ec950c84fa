"""The ids of the functions that settings may hold: what stored folders call them.

An id stays when its function is renamed or moved. Where it must change all the same, the old one
goes into `renamed_settings.VALUES`."""

from __future__ import annotations

import dataclasses
import inspect
from functools import cache
from typing import Any

import jax.numpy as jnp
import optax

from mdm_jax import fills, nodes, objectives
from mdm_jax.storage import identity


@cache
def part_names() -> dict[Any, str]:
    """The id of every function of ours, and of optax, that may stand in a config."""
    found: dict[Any, str] = {}
    for package in (optax.contrib, optax):
        for name, thing in sorted(vars(package).items()):
            if inspect.isfunction(thing):
                found[thing] = name
    found |= {jnp.argmax: "argmax", jnp.argmin: "argmin", nodes.Entry: "entry"}
    found |= {fill: name for name, fill in fills.FUNCTIONS.items()}
    found |= {node: name for name, node in nodes.NODES.items() if inspect.isfunction(node)}
    found |= {term: name for name, term in objectives.TERMS.items()}
    return found


def describe(value: Any) -> Any:
    """A setting in plain values that identify it; see `identity`."""
    return identity.describe(value, part_names())


def defaults_of(config: Any, prefix: str = "") -> dict[str, Any]:
    """The defaults of a config's fields, described, by name after a prefix: what a record that was
    written before there was such a field means."""
    if not dataclasses.is_dataclass(config):
        return {}
    found = {}
    for field in dataclasses.fields(config):
        if field.default is not dataclasses.MISSING:
            found[prefix + field.name] = describe(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[prefix + field.name] = describe(field.default_factory())
    return found
