"""Prototype networks: training's stages, prototype search, and "this looks like that" as figures
and pages.

Nothing is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdm_jax.prototypes.comparison import compare as compare
    from mdm_jax.prototypes.reasoning import reason as reason
    from mdm_jax.prototypes.regions import REGIONS as REGIONS
    from mdm_jax.prototypes.regions import applicable as applicable
    from mdm_jax.prototypes.search import activations as activations
    from mdm_jax.prototypes.search import find as find

LATE = {
    "REGIONS": "regions",
    "activations": "search",
    "applicable": "regions",
    "compare": "comparison",
    "find": "search",
    "reason": "reasoning",
}
"""public names and the files that they come from"""


def __getattr__(name: str) -> Any:
    if name in LATE:
        return getattr(import_module(f"{__name__}.{LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
