"""The process that measures one part: `python -m experiments.speed.accelerator_parts.child ...`,
started by `accelerator.py`."""

from __future__ import annotations

import argparse
import pkgutil
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.speed.accelerator_parts.record import Clock, Report
from experiments.speed.accelerator_parts.settings import Settings

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "captum")


def about() -> dict[str, Any]:
    """Device and versions, as the library that was used tells them."""
    found: dict[str, Any] = {"versions": {"python": platform.python_version()}}
    for name in PACKAGES:
        try:
            found["versions"][name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    ours = sys.modules.get("mdm_jax")
    if ours is not None:
        found["versions"]["mdm_jax"] = ours.__version__
    jax, torch = sys.modules.get("jax"), sys.modules.get("torch")
    if jax is not None:
        found["device"] = jax.local_devices()[0].device_kind
    elif torch is not None:
        is_gpu = torch.cuda.is_available()
        found["device"] = torch.cuda.get_device_name() if is_gpu else "cpu"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("function", help="MODULE:FUNCTION that measures the part")
    parser.add_argument("--settings", type=Settings.from_json, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--deadline", type=float, required=True)
    asked = parser.parse_args()
    clock = Clock(asked.deadline)
    report = Report(asked.report, clock)

    def values() -> Any:
        measure = pkgutil.resolve_name(asked.function)
        yield from measure(asked.settings, clock)

    report.fill(values(), about)
    sys.exit(1 if report.status == "failed" else 0)


if __name__ == "__main__":
    main()
