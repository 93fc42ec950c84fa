"""Part (f): the same networks in torch, as the peer: bfloat16, channels last, compiled.

torchvision's, random weights, in inference mode, batch norms folded into convolutions where
torch.fx can. An evaluation is a forward pass and the gradient of one probability with respect to
the images, parameters without gradients. Imports no JAX."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.fx.experimental.optimization
import torchvision

from experiments.speed.accelerator_parts.record import Clock, Skipped, Value, measured
from experiments.speed.accelerator_parts.settings import Settings

COMPILING = 25.0
"""seconds without which no compilation is begun"""


def measure(settings: Settings, clock: Clock) -> Iterator[Value]:
    device = device_for(settings)
    torch.backends.cudnn.benchmark = True
    modes = ("eager", "compiled") if settings.torch_compile else ("eager",)
    for mode in modes:
        for name in settings.torch_networks:
            for size in settings.batches[:2]:
                case = f"{name}, {mode}, batch {size}"
                if clock.has_time(case, COMPILING if mode == "compiled" else 0.0):
                    with clock.case(case):
                        yield from rates(name, mode, size, device, settings)
    if not settings.torch_compile:
        clock.missed["compiled"] = "left out of the rehearsal"


def device_for(settings: Settings) -> torch.device:
    """The GPU. Raises Skipped where there is none and more than a rehearsal is asked for."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if not settings.tiny:
        raise Skipped("torch sees no GPU")
    torch.set_num_threads(
        1
    )  # threads that wait for each other on busy cores take far longer
    return torch.device("cpu")


def network(name: str, device: torch.device, dtype: torch.dtype) -> Any:
    """A network in inference mode with random weights."""
    torch.manual_seed(0)
    made = torchvision.models.get_model(name, weights=None).eval()
    for parameter in made.parameters():
        if parameter.ndim > 1 and not parameter.any():
            # A Transformer's head starts at zero, and products with zeros are faster.
            torch.nn.init.normal_(parameter, std=0.02)
    try:
        made = torch.fx.experimental.optimization.fuse(made)
    except Exception as error:  # what torch.fx cannot trace stays as it is
        print(
            f"  {name}: batch norms are not folded ({type(error).__name__})",
            file=sys.stderr,
        )
    made = made.requires_grad_(False).to(device, dtype)
    return made.to(memory_format=torch.channels_last)


def rates(
    name: str, mode: str, size: int, device: torch.device, settings: Settings
) -> Iterator[Value]:
    dtype = getattr(torch, settings.torch_dtype)
    net = network(name, device, dtype)
    if mode == "compiled":
        torch.compiler.reset()
        net = torch.compile(net, dynamic=False)
    images = torch.rand(size, 3, settings.side, settings.side, device=device, dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last)

    def forward() -> Any:
        with torch.no_grad():
            return net(images)

    def evaluation() -> Any:
        x = images.detach().requires_grad_(True)
        score = torch.softmax(net(x).float(), dim=1)[:, 17].sum()
        return torch.autograd.grad(score, x)[0]

    what = {"network": name, "dtype": settings.torch_dtype, "batch": size, "mode": mode}
    taken = {}
    for quantity, function in (
        ("evaluations/s", evaluation),
        ("forward passes/s", forward),
    ):
        taken[quantity] = seconds_of(function, settings.repeats, device)
        yield measured(quantity, [size / each for each in taken[quantity]], **what)
    ratios = [a / b for a, b in zip(taken["evaluations/s"], taken["forward passes/s"])]
    yield measured("evaluation / forward", ratios, **what)


def seconds_of(
    function: Callable[[], Any], repeats: int, device: torch.device
) -> list[float]:
    """Seconds of some calls, each waited for, after two that warm up."""
    found = []
    for number in range(repeats + 2):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 2:
            found.append(time.perf_counter() - start)
    return found
