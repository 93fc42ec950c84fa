"""Part (g), torch's side: integrated gradients and two mask optimizations, ResNet in bfloat16.

Captum's and our own loop of integrated gradients; the loops of extremal perturbations (Fong,
Patrick, Vedaldi, arXiv 1910.08485) and of meaningful perturbations (Fong, Vedaldi, arXiv
1704.03296), written from the equations with the same constants as ours, image by image, as public
code runs them, and batched. The network is not compiled, as in public code.
Imports no JAX."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn import functional

from experiments.speed.accelerator_parts.record import Clock, Value, measured
from experiments.speed.accelerator_parts.settings import Settings
from experiments.speed.accelerator_parts.torch_networks import (
    device_for,
    network,
    seconds_of,
)

REFERENCE_SIDE = 224
TIMES = 3
Method = Callable[[Any, torch.Tensor, torch.Tensor, int], torch.Tensor]
"""(network, images [n, 3, h, w], targets [n], evaluations) -> maps [n, h, w]"""


def measure(settings: Settings, clock: Clock) -> Iterator[Value]:
    device = device_for(settings)
    name = settings.torch_networks[0]
    dtype = getattr(torch, settings.torch_dtype)
    inner = network(name, device, dtype)

    def net(x: torch.Tensor) -> torch.Tensor:
        x = x.to(dtype, memory_format=torch.channels_last)
        return inner(x).float()

    torch.manual_seed(0)
    shape = (settings.method_images, 3, settings.side, settings.side)
    images = torch.rand(shape, device=device)
    targets = net(images).argmax(dim=1)
    for method, function in METHODS.items():
        for size in (settings.method_images, 1):
            case = f"{method}, {size} at a time"
            if method == "integrated gradients, captum" and find_spec("captum") is None:
                clock.missed[case] = "needs captum"
            elif clock.has_time(case):
                with clock.case(case):
                    some = (images[:size], targets[:size])
                    yield from rates(method, function, net, some, settings)


def rates(
    method: str, function: Method, net: Any, some: Any, settings: Settings
) -> Iterator[Value]:
    images, targets = some
    n, count = len(images), settings.evaluations
    taken = seconds_of(lambda: function(net, images, targets, count), TIMES, images.device)
    what = {"method": method, "library": "torch", "batch": n, "evaluations": count}
    yield measured("evaluations/s", [n * count / seconds for seconds in taken], **what)
    yield measured("images/s", [n / seconds for seconds in taken], **what)


def integrated_gradients(
    net: Any, images: torch.Tensor, targets: torch.Tensor, steps: int
) -> torch.Tensor:
    """(x - 0) * mean of the gradients at the middles of `steps` equal parts of the way."""
    total = torch.zeros_like(images)
    for step in range(steps):
        x = (images * ((step + 0.5) / steps)).requires_grad_(True)
        score = net(x).gather(1, targets[:, None]).sum()
        total += torch.autograd.grad(score, x)[0]
    return (images * total / steps).mean(dim=1)


def captum_integrated_gradients(
    net: Any, images: torch.Tensor, targets: torch.Tensor, steps: int
) -> torch.Tensor:
    from captum.attr import IntegratedGradients

    size = max(len(images), 16)
    found = IntegratedGradients(net).attribute(
        images, target=targets, n_steps=steps, internal_batch_size=size
    )
    return found.mean(dim=1)


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur, zero beyond the border."""
    if sigma <= 0:
        return images
    reach = math.ceil(4 * sigma)
    x = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
    channels = images.shape[1]
    images = functional.conv2d(images, kernel, padding=(0, reach), groups=channels)
    kernel = kernel.transpose(2, 3)
    return functional.conv2d(images, kernel, padding=(reach, 0), groups=channels)


def extremal_perturbation(
    net: Any, images: torch.Tensor, targets: torch.Tensor, steps: int
) -> torch.Tensor:
    """argmax over m of g(m (*) x) - lambda_t mean((sort(m) - r)^2), a tenth of the image kept.

    m is a soft maximum of smooth bumps around parameters every 7 pixels (of 224); m (*) x reads
    each pixel of 8 blurred images at the level that m gives."""
    n, _, height, width = images.shape
    scale = min(height, width) / REFERENCE_SIDE
    levels = [blur(images, 20.0 * scale * (1 - level / 7)) for level in range(8)]
    pyramid = torch.stack(levels, dim=1)
    render, cells = smooth_masks(height, width, scale, images.device)
    parameters = torch.ones(n, 1, *cells, device=images.device, requires_grad=True)
    optimizer = torch.optim.SGD([parameters], lr=0.01, momentum=0.9, dampening=0.9)
    zeros = int(height * width * 0.9)
    wanted = torch.ones(height * width, device=images.device)
    wanted[:zeros] = 0.0
    mask = torch.ones(n, height, width, device=images.device)
    for step in range(steps):
        mask = render(parameters)
        seen = read_pyramid(pyramid, mask)
        seen = seen.flip(3) if step % 2 == 0 else seen
        score = net(seen).gather(1, targets[:, None]).sum()
        ordered = mask.reshape(n, -1).sort(dim=1).values
        error = ((ordered - wanted) ** 2).mean(dim=1).sum()
        optimizer.zero_grad()
        (300.0 * 1.0035**step * error - score).backward()
        optimizer.step()
        with torch.no_grad():
            parameters.clamp_(0.0, 1.0)
    return mask.detach()


def smooth_masks(
    height: int, width: int, scale: float, device: torch.device
) -> tuple[Callable[[torch.Tensor], torch.Tensor], tuple[int, int]]:
    """From parameters [n, 1, cells, cells] to masks [n, h, w]: at each pixel the soft maximum of
    k(distance / sigma) p over the parameters in reach, k(z) = exp(-2 max(0, z - 1/2)^2)."""
    step, sigma = max(1, round(7 * scale)), 21.0 * scale
    reach = 1 + math.ceil(sigma / step)
    window = 2 * reach + 1
    rows, columns = (math.ceil(side / step) for side in (height, width))

    def distances(pixels: int) -> torch.Tensor:
        position = torch.arange(pixels, device=device)
        index = position // step + torch.arange(-reach, reach + 1, device=device)[:, None]
        return position - (step * index + step / 2)

    down, right = distances(rows * step), distances(columns * step)
    distance = torch.hypot(down[:, None, :, None], right[None, :, None, :])
    weights = torch.exp(-2.0 * (distance / sigma - 0.5).clamp(min=0.0) ** 2)
    weights = weights.reshape(window**2, rows * step, columns * step)

    def render(parameters: torch.Tensor) -> torch.Tensor:
        near = functional.unfold(parameters, window, padding=reach)
        near = near.reshape(len(parameters), window**2, rows, columns)
        near = near.repeat_interleave(step, dim=2).repeat_interleave(step, dim=3)
        values = weights * near
        mask = (values * torch.softmax(20.0 * values, dim=1)).sum(dim=1)
        return mask[:, :height, :width].clamp(0.0, 1.0)

    return render, (rows, columns)


def read_pyramid(pyramid: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Every pixel of [n, levels, c, h, w] at level mask * (levels - 1), linearly."""
    levels, channels = pyramid.shape[1:3]
    level = mask * (levels - 1)
    below = level.detach().floor().clamp(max=levels - 2)
    fraction = (level - below)[:, None]
    index = below.long()[:, None, None].expand(-1, 1, channels, -1, -1)
    lower = pyramid.gather(1, index)[:, 0]
    upper = pyramid.gather(1, index + 1)[:, 0]
    return (1 - fraction) * lower + fraction * upper


def meaningful_perturbation(
    net: Any, images: torch.Tensor, targets: torch.Tensor, steps: int
) -> torch.Tensor:
    """1 - argmin over m of g(M x + (1 - M) blur(x)) + 1e-4 sum |1 - m| + 1e-2 sum |grad m|^3, from
    ones by Adam; M is the 28 x 28 mask at the image's size, blurred."""
    n, _, height, width = images.shape
    scale = min(height, width) / REFERENCE_SIDE
    background = blur(images, 10.0 * scale)
    mask = torch.ones(n, 1, 28, 28, device=images.device, requires_grad=True)
    optimizer = torch.optim.Adam([mask], lr=0.1)

    def rendered() -> torch.Tensor:
        wide = functional.interpolate(mask, size=(height, width), mode="nearest")
        return blur(wide, 5.0 * scale)

    for _ in range(steps):
        blended = background + rendered() * (images - background)
        probabilities = torch.softmax(net(blended), dim=1)
        score = probabilities.gather(1, targets[:, None]).sum()
        down, right = mask.diff(dim=2), mask.diff(dim=3)
        square = functional.pad(down, (0, 0, 0, 1)) ** 2
        square = square + functional.pad(right, (0, 1)) ** 2
        variation = (square + 1e-12).pow(1.5).sum()
        area = (1.0 - mask).abs().sum()
        optimizer.zero_grad()
        (score + 1e-4 * area + 1e-2 * variation).backward()
        optimizer.step()
        with torch.no_grad():
            mask.clamp_(0.0, 1.0)
    return 1.0 - rendered()[:, 0].detach()


METHODS: dict[str, Method] = {
    "integrated gradients": integrated_gradients,
    "integrated gradients, captum": captum_integrated_gradients,
    "extremal perturbation": extremal_perturbation,
    "meaningful perturbation": meaningful_perturbation,
}
