"""The settings of JAX under which all that is ours is computed, whatever those of the process are.

Results then do not depend on them: float32, the same draws, and a NaN that is a `Status` and no
error. What is changed is changed for the current thread and until the call returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

import jax


class _Setting(NamedTuple):
    name: str
    """of `jax.config`"""
    value: Any
    """JAX's default, which is ours"""
    context: Callable[[Any], AbstractContextManager[Any]]


SETTINGS = (
    # other random draws, and loops whose types differ from step to step
    _Setting("jax_enable_x64", False, jax.enable_x64),
    # meant for the code of whoever sets them
    _Setting("jax_numpy_dtype_promotion", "standard", jax.numpy_dtype_promotion),
    _Setting("jax_numpy_rank_promotion", "allow", jax.numpy_rank_promotion),
    _Setting("jax_debug_key_reuse", False, jax.debug_key_reuse),
    # a network that gives NaN has the status NOT_FINITE, and the other images their maps
    _Setting("jax_debug_nans", False, jax.debug_nans),
    _Setting("jax_debug_infs", False, jax.debug_infs),
    # networks are traced, so there is nothing to step through, and every operation takes long
    _Setting("jax_disable_jit", False, jax.disable_jit),
)

# Arrays of the host are what our functions take and give.
TRANSFERS = (
    "jax_transfer_guard",
    "jax_transfer_guard_host_to_device",
    "jax_transfer_guard_device_to_device",
    "jax_transfer_guard_device_to_host",
)


@contextmanager
def own_settings() -> Iterator[None]:
    """Inside, JAX computes as it does by default; as a decorator, `@own_settings()`.

    Where that is so anyway nothing is touched, and no program is another one."""
    with ExitStack() as stack:
        for name, value, context in SETTINGS:
            if getattr(jax.config, name) != value:
                stack.enter_context(context(value))
        if any(getattr(jax.config, name) not in (None, "allow") for name in TRANSFERS):
            stack.enter_context(jax.transfer_guard("allow"))
        yield
