"""How large the accelerator check is: whole networks, or tiny ones that rehearse it on a CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Settings:
    """What every part measures; the defaults are for one large GPU."""

    tiny: bool = False
    """tiny networks, on whatever device there is; else the device must be an accelerator"""
    networks: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {
            "resnet50": {},
            "densenet169": {},
            "vit_base_patch16_224": {},
        }
    )
    """our networks, with arguments where they are not the published ones"""
    explained: tuple[str, ...] = ("resnet50", "vit_base_patch16_224", "densenet169")
    """of them, those that explain images, what takes longest to compile last"""
    torch_networks: tuple[str, ...] = ("resnet50", "vit_b_16", "densenet169")
    """the same in torchvision"""
    torch_dtype: str = "bfloat16"
    side: int = 224
    """pixels a side"""
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    batches: tuple[int, ...] = (64, 256, 16)
    """images in an evaluation, the most telling first"""
    matmul: int = 8192
    """rows and columns of the matrices whose product tells the peak"""
    matmuls: int = 20
    """products that are timed together"""
    repeats: int = 15
    """times that a compiled program is timed"""
    batch: int = 64
    """images that are explained at a time"""
    images: int = 256
    """images that are explained and run"""
    one_by_one: int = 8
    """images that are explained one at a time"""
    masks: int = 4096
    """masks in flight at once"""
    flight_steps: int = 4
    """steps that they take, one for each size of mask"""
    memory_batches: tuple[int, ...] = (1, 16, 64, 256)
    digits: int = 64
    """digits whose maps are compared, by each embedded network"""
    agreement_images: int = 8
    """random images whose maps are compared"""
    agreement_networks: tuple[str, ...] = ("resnet", "densenet", "vit")
    agreement_steps: int = 14
    """steps of the default preset"""
    method_images: int = 16
    """images that the methods explain, at a time and one by one"""
    evaluations: int = 48
    """gradients that each method takes for an image"""
    torch_compile: bool = True
    workers: int = 8
    """programs that are compiled at the same time"""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        content: dict[str, Any] = json.loads(text)
        for name, value in content.items():
            content[name] = tuple(value) if isinstance(value, list) else value
        return cls(**content)


def tiny() -> Settings:
    """Every part in seconds on two cores; its numbers mean nothing. The embedded networks, whose
    programs take ten seconds each to compile, are left out of part (e)."""
    return Settings(
        tiny=True,
        networks={
            "resnet": {"widths": [8, 16], "depths": [1, 1]},
            "densenet": {"growth": 4, "initial": 8, "blocks": [1, 1]},
            "vit": {"width": 16, "depth": 1, "heads": 2},
        },
        explained=("resnet",),
        torch_networks=("resnet18",),
        torch_dtype="float32",
        side=32,
        batches=(2,),
        matmul=256,
        matmuls=2,
        repeats=3,
        batch=4,
        images=8,
        one_by_one=2,
        masks=24,
        memory_batches=(1, 4),
        digits=2,
        agreement_images=2,
        agreement_networks=(),
        agreement_steps=3,
        method_images=2,
        evaluations=4,
        torch_compile=False,
        workers=2,
    )
