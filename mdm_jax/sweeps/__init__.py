"""Sweeps: many settings of MDM on the same images, scored alike; numbers are swept inside one
compiled program.

Nothing is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdm_jax.sweeps.loop import sweep as sweep
    from mdm_jax.sweeps.result import Sweep as Sweep
    from mdm_jax.sweeps.search_space import grid as grid
    from mdm_jax.sweeps.search_space import sample as sample

# Public names and the files that they come from.
LATE = {
    "Sweep": "result",
    "grid": "search_space",
    "sample": "search_space",
    "sweep": "loop",
}


def __getattr__(name: str) -> Any:
    if name in LATE:
        return getattr(import_module(f"{__name__}.{LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
