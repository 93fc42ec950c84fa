"""Part (a): evaluations per second, and the share of what the card's matrix products reach.

An evaluation is a forward pass and the gradient with respect to the images. The peak is a measured
product of two bfloat16 matrices of random numbers. Operations are those of the network as JAX
counts them before XLA rewrites the program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed.accelerator_parts import networks
from experiments.speed.accelerator_parts.record import Clock, Value, measured
from experiments.speed.accelerator_parts.settings import Settings
from experiments.speed.measuring import alternate, compile_together, evaluation, forward

HIGHEST = jax.lax.Precision.HIGHEST


def measure(settings: Settings, clock: Clock) -> Iterator[Value]:
    networks.require_accelerator(settings)
    peak, flops = float("nan"), Operations()
    with clock.case("matrix products"):
        for value in matrix_products(settings):
            yield value
            if value["dtype"] == "bfloat16":
                peak = value["value"]
    # a wave holds all networks, whose programs are compiled at the same time
    waves = [(dtype, settings.batches[0]) for dtype in settings.dtypes]
    waves += [(dtype, size) for size in settings.batches[1:] for dtype in settings.dtypes]
    for dtype, size in waves:
        wave = f"{dtype}, batch {size}"
        if clock.has_time(wave):
            with clock.case(wave):
                yield from measure_wave(settings, dtype, size, peak, flops)


def matrix_products(settings: Settings) -> Iterator[Value]:
    """TFLOP/s of square products; and the relative error of the default one in float32, which
    tells whether it is rounded (TensorFloat-32: about 3e-4; float32: below 1e-5)."""
    n = settings.matmul
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, n), np.float32) for _ in range(2))
    kinds: dict[str, tuple[Any, Any]] = {
        "bfloat16": (jnp.bfloat16, None),
        "float32, default precision": (jnp.float32, None),
        "float32, highest precision": (jnp.float32, HIGHEST),
    }
    few = slice(0, 64)
    exact = a[few].astype(np.float64) @ b[:, few].astype(np.float64)
    for name, (dtype, precision) in kinds.items():
        product = jax.jit(lambda a, b, p=precision: jnp.matmul(a, b, precision=p))
        x, y = jnp.asarray(a, dtype), jnp.asarray(b, dtype)

        def several(product: Any = product, x: Any = x, y: Any = y) -> Any:
            return [product(x, y) for _ in range(settings.matmuls)]

        seconds = alternate({"several": several}, settings.repeats)["several"]
        rates = 2 * n**3 * settings.matmuls / seconds / 1e12
        yield measured("matrix product TFLOP/s", rates, dtype=name)
        found = np.asarray(product(x, y)[few, few], np.float64)
        error = np.abs(found - exact).max() / np.abs(exact).max()
        yield measured("matrix product, relative error", error, dtype=name)


class Operations:
    """Floating-point operations of an evaluation of one image, by network; counted once each."""

    def __init__(self) -> None:
        self.counted: dict[str, float] = {}

    def of(self, name: str, network: Any, images: jax.Array) -> float:
        """NaN where JAX does not count them, as on a GPU: the CPU's program is counted."""
        if name not in self.counted:
            shapes = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (network, images)
            )
            with jax.default_device(jax.devices("cpu")[0]):
                costs: Any = jax.jit(evaluation).lower(*shapes).cost_analysis() or {}
            self.counted[name] = float(costs.get("flops", float("nan"))) / len(images)
        return self.counted[name]


def measure_wave(
    settings: Settings, dtype: str, size: int, peak: float, flops: Operations
) -> Iterator[Value]:
    """All networks at one dtype and batch: compiled together, timed one after the other."""
    built = {name: networks.network(name, settings, dtype) for name in settings.networks}
    shape = (size, settings.side, settings.side, 3)
    images = jax.random.normal(jax.random.key(0), shape, jnp.dtype(dtype))
    calls = {}
    for name, net in built.items():
        calls[f"{name} forward"] = (jax.jit(forward), (net, images))
        calls[f"{name} evaluation"] = (jax.jit(evaluation), (net, images))
    compiled = compile_together(calls, settings.workers)
    for name in built:
        seconds = alternate(
            {kind: compiled[f"{name} {kind}"] for kind in ("forward", "evaluation")},
            settings.repeats,
        )
        rate = size * flops.of(name, built[name], images) / seconds["evaluation"] / 1e12
        what = {"network": name, "dtype": dtype, "batch": size}
        yield measured("evaluations/s", size / seconds["evaluation"], **what)
        yield measured("forward passes/s", size / seconds["forward"], **what)
        ratio = seconds["evaluation"] / seconds["forward"]
        yield measured("evaluation / forward", ratio, **what)
        yield measured("TFLOP/s", rate, **what)
        yield measured("share of bfloat16 peak", rate / peak, **what)
