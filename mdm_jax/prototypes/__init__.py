"""Prototype networks: what a prototype looks at, and how prototypes add up to a decision."""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdm_jax.prototypes.comparison import PairAnnotations as PairAnnotations
    from mdm_jax.prototypes.comparison import compare_regions as compare_regions
    from mdm_jax.prototypes.reasoning import explain_decision as explain_decision
    from mdm_jax.prototypes.regions import REGIONS as REGIONS
    from mdm_jax.prototypes.regions import applicable_regions as applicable_regions
    from mdm_jax.prototypes.search import activations as activations
    from mdm_jax.prototypes.search import find_regions as find_regions

# Public names and the files they come from; a file is imported when its name is first used.
FILES = {
    "PairAnnotations": "comparison",
    "REGIONS": "regions",
    "activations": "search",
    "applicable_regions": "regions",
    "compare_regions": "comparison",
    "explain_decision": "reasoning",
    "find_regions": "search",
}

# Older names, still accepted with a warning.
RENAMED = {
    "applicable": "applicable_regions",
    "compare": "compare_regions",
    "find": "find_regions",
    "reason": "explain_decision",
}

__all__ = [
    "REGIONS",
    "PairAnnotations",
    "activations",
    "applicable_regions",
    "compare_regions",
    "explain_decision",
    "find_regions",
]


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        new = RENAMED[name]
        warnings.warn(
            f"mdm_jax.prototypes.{name} is now mdm_jax.prototypes.{new}",
            DeprecationWarning,
            stacklevel=2,
        )
        if name == "compare":  # it took other arguments
            return import_module(f"{__name__}.comparison").compare
        name = new
    if name in FILES:
        return getattr(import_module(f"{__name__}.{FILES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
