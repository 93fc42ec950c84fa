"""What the scripts on speed share: networks with random weights, and times of compiled functions.

Needs neither tyro nor rich: `accelerator.py` also runs where these are missing."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mdm_jax import PRESETS, mdm, solver
from mdm_jax.models import weights
from mdm_jax.models.architectures import build_shapes
from mdm_jax.models.fold_batch_norm import fold_batch_norms

INNER = 5
"""steps of a loop that is timed"""

Call = tuple[Any, tuple[Any, ...]]
"""a jitted function and its arguments"""


def random_network(
    name: str,
    side: int = 224,
    dtype: str = "float32",
    *,
    fold: bool = True,
    remat: bool = False,
    **arguments: Any,
) -> Any:
    """A network of the published sizes with random weights, which are not slow to draw.

    `arguments` are those of the network; `remat` computes a Transformer's blocks again in the
    backward pass."""
    if remat and name.startswith(("vit", "deit")):
        arguments["remat"] = True
    blank = build_shapes(name, num_classes=1000, size=(side, side), **arguments)
    rng, arrays = np.random.default_rng(0), {}
    for entry, (path, leaf) in weights.places(blank).items():
        shape = weights.torch_shape(leaf.shape, path[-1])
        noise = rng.standard_normal(shape, np.float32)
        positive = entry.endswith("running_var") or (
            entry.endswith("weight") and len(shape) == 1
        )
        arrays[entry] = (
            1 + 0.1 * np.abs(noise) if positive else noise / math.sqrt(math.prod(shape[1:]))
        )
    network = weights.fill(blank, arrays)
    network = fold_batch_norms(network) if fold else network
    network = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), network)
    return nnx.view(
        network, deterministic=True, use_running_average=True, raise_if_not_found=False
    )


def forward(network: Any, images: jax.Array) -> jax.Array:
    return network(images)[0].astype(jnp.float32)


def evaluation(network: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Value and input gradient: the evaluation that MDM makes at each step."""
    return jax.value_and_grad(
        lambda images: jax.nn.softmax(forward(network, images))[:, 17].sum()
    )(images)


def alternate(
    functions: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, np.ndarray]:
    """Seconds of each function, taken in turn so that a drift of the machine meets all of them
    alike."""
    for function in functions.values():
        jax.block_until_ready(function())
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name].append(time.perf_counter() - start)
    return {name: np.asarray(values) for name, values in seconds.items()}


def compile_together(
    calls: Mapping[str, Call], workers: int = 1
) -> dict[str, Callable[[], Any]]:
    """Every jitted function compiled for its arguments, several at a time, ready to be called."""

    def compiled(call: Call) -> Callable[[], Any]:
        function, arguments = call
        return partial(function.lower(*arguments).compile(), *arguments)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        return dict(zip(calls, pool.map(compiled, calls.values())))


def step_calls(network: Any, images: jax.Array) -> dict[str, Call]:
    """An MDM step and a bare value-and-gradient of the same network on the same batch, each alone
    and in a scan of `INNER`."""
    config, key = PRESETS["fast"], jax.random.key(0)

    @jax.jit
    def start(network: Any, images: jax.Array) -> Any:
        def one(image: jax.Array) -> Any:
            problem = mdm.begin(
                network, image, None, node="probability", key=key, fill=config.fill
            )
            made = mdm.make_solver(network, problem, node="probability", config=config)
            return problem, made.init(mdm.first_parameters(problem, config))

        return jax.vmap(one)(images)

    def mdm_step(network: Any, problems: Any, states: Any) -> Any:
        def one(problem: mdm.Problem, state: solver.State) -> solver.State:
            return mdm.make_solver(
                network, problem, node="probability", config=config
            ).step(state, key)[0]

        return jax.vmap(one)(problems, states)

    def gradient(network: Any, images: jax.Array, targets: jax.Array) -> Any:
        def score(images: jax.Array) -> jax.Array:
            return jnp.take_along_axis(
                jax.nn.softmax(network(images)[0]), targets[:, None], axis=1
            ).sum()

        return jax.value_and_grad(score)(images)

    @jax.jit
    def scanned_step(network: Any, problems: Any, states: Any) -> Any:
        return jax.lax.scan(
            lambda s, _: (mdm_step(network, problems, s), None), states, None, length=INNER
        )[0]

    @jax.jit
    def scanned_gradient(network: Any, images: jax.Array, targets: jax.Array) -> Any:
        def body(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return x - 1e-6 * gradient(network, x, targets)[1], None

        return jax.lax.scan(body, images, None, length=INNER)[0]

    problems, states = start(network, images)
    bare, step = (network, images, problems.target), (network, problems, states)
    return {
        "gradient": (jax.jit(gradient), bare),
        "step": (jax.jit(mdm_step), step),
        "gradient in scan": (scanned_gradient, bare),
        "step in scan": (scanned_step, step),
    }


def step_against_gradient(
    network: Any, images: jax.Array, repeats: int
) -> dict[str, float]:
    """Seconds of a bare gradient and of an MDM step on the same batch, alone and in a scan; median
    ratios."""
    seconds = alternate(compile_together(step_calls(network, images)), repeats)
    per_call = {
        name: float(np.median(s)) / (INNER if "scan" in name else 1)
        for name, s in seconds.items()
    }
    ratios = step_ratios(seconds)
    return per_call | {name: float(np.median(ratio)) for name, ratio in ratios.items()}


def step_ratios(seconds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Ratios of the times of `step_calls`, round by round; of those that were taken."""
    bare = seconds["gradient"]
    found = {
        "step / gradient": seconds["step"] / bare,
        "step in scan / gradient": seconds["step in scan"] / INNER / bare,
    }
    if "gradient in scan" in seconds:
        plain = seconds["gradient in scan"] / INNER / bare
        found["plain gradient in scan / gradient"] = plain
    return found


def peak_memory() -> float:
    """Peak bytes in use: of the device where it tells, else of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get(
        "peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
