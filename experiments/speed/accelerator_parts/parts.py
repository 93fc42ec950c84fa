"""The parts of the accelerator check: what each needs, how much of the time it gets, and what its
values must hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

HERE = "experiments.speed.accelerator_parts"
CORE = ("numpy", "jax", "flax", "optax", "jaxtyping", "dacite", "safetensors")
JAX = (*CORE, "huggingface_hub", "psutil", "PIL", "scipy")
TORCH = ("numpy", "torch", "torchvision")
OPTIONAL = ("sklearn", "grain", "pyarrow", "tensorstore", "orbax", "filelock", "captum")
"""packages without which some cases are left out"""


@dataclass(frozen=True)
class Part:
    """One part: measured in a process of its own."""

    letter: str
    function: str
    """MODULE:FUNCTION, (settings, clock) -> values"""
    seconds: float
    """of eight minutes"""
    needs: tuple[str, ...]
    """packages without which it is skipped"""
    properties: tuple[str, ...]
    """what each of its values says, beside the quantity"""
    quantities: tuple[str, ...]
    """those that it has when it is done"""

    def lacking(self) -> list[str]:
        return lacking(self.needs)


def lacking(packages: Iterable[str]) -> list[str]:
    """Those of some packages that are not installed."""
    return [package for package in packages if find_spec(package) is None]


RATES = ("evaluations/s", "forward passes/s", "evaluation / forward")
PARTS: dict[str, Part] = {
    "evaluations": Part(
        "a",
        f"{HERE}.evaluations:measure",
        110,
        JAX,
        ("dtype",),
        (*RATES, "matrix product TFLOP/s", "TFLOP/s", "share of bfloat16 peak"),
    ),
    "steps": Part(
        "b",
        f"{HERE}.steps:measure",
        60,
        JAX,
        ("network", "dtype", "batch"),
        ("step / gradient", "step in scan / gradient"),
    ),
    "images": Part(
        "c",
        f"{HERE}.images:measure",
        90,
        JAX,
        ("network", "dtype", "batch"),
        (
            "explain, images/s",
            "explain, batched / one by one",
            "mdm run, images/s",
            "mdm run, idle share of the device",
            "mdm run, minutes for 50,000 images",
            "masks in flight",
            "masks in flight, evaluations/s",
        ),
    ),
    "agreement": Part(
        "e",
        f"{HERE}.agreement:measure",
        50,
        JAX,
        ("network", "way", "images"),
        ("Spearman, median", "Spearman, minimum"),
    ),
    "methods": Part(
        "g",
        f"{HERE}.methods:measure",
        45,
        JAX,
        ("method", "library", "batch", "evaluations"),
        ("evaluations/s", "images/s"),
    ),
    "torch_networks": Part(
        "f",
        f"{HERE}.torch_networks:measure",
        75,
        TORCH,
        ("network", "dtype", "batch", "mode"),
        RATES,
    ),
    "torch_methods": Part(
        "g",
        f"{HERE}.torch_methods:measure",
        30,
        TORCH,
        ("method", "library", "batch", "evaluations"),
        ("evaluations/s", "images/s"),
    ),
    "memory": Part(
        "d",
        f"{HERE}.memory:measure",
        20,
        JAX,
        ("network", "program", "batch"),
        ("compiled, MB",),
    ),
}
"""in the order in which they are measured; 480 seconds together"""

STATUSES = ("done", "partial", "skipped", "failed")


def chosen(names: Iterable[str]) -> dict[str, Part]:
    """Parts by letter or name. Raises KeyError for another."""
    wanted = list(names)
    known = {*PARTS, *(part.letter for part in PARTS.values())}
    for name in wanted:
        if name not in known:
            raise KeyError(name)
    return {name: part for name, part in PARTS.items() if {name, part.letter} & set(wanted)}


def problems(content: Mapping[str, Any]) -> list[str]:
    """What a file of results lacks, as sentences; none where it is as it must be."""
    found = []
    for name, state in content["parts"].items():
        if state["status"] not in STATUSES:
            found.append(f"{name} has the status {state['status']}")
        part = PARTS.get(name)
        values = [value for value in content["values"] if value["part"] == name]
        if part is None:
            continue
        for value in values:
            for key in (*part.properties, "quantity", "value"):
                if key not in value:
                    found.append(f"a value of {name} does not say its {key}: {value}")
        there = {value["quantity"] for value in values}
        if state["status"] == "done":
            for quantity in set(part.quantities) - there:
                found.append(f"{name} is done and has no {quantity}")
        elif state["status"] != "skipped" and not state["missed"] and not state["reason"]:
            found.append(f"{name} is {state['status']} and does not say why")
    for value in content["values"]:
        if value["part"] not in content["parts"]:
            found.append(f"a value is of no part: {value}")
    return found
