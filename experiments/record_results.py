"""Writes what an experiment measured to `experiments/results/NAME.json`.

A value is a flat mapping: `value`, perhaps `low` and `high` (a 95 % interval) and `verdict`
(against the reference of its table), and whatever else says what was measured (`network`, `metric`,
...).
`make_tables.py` writes the tables of every page from these files.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import mdm_jax

Value = Mapping[str, Any]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
FIELDS = ("command", "commit", "date", "machine", "versions", "values")
"""what every file has"""
OPTIONAL = ("note", "parts")
"""what a file may have; `parts` says of each part of a check when and where it was measured"""
PACKAGES = ("jax", "flax", "optax", "numpy")


def write(
    name: str,
    values: Iterable[Value],
    command: str | None = None,
    note: str = "",
    parts: Mapping[str, Any] | None = None,
) -> Path:
    """Write `results/NAME.json`; the command is by default that of this process.

    `parts` says of each part when and how it was measured, where some keep values of an earlier
    run.
    """
    content = {
        "command": command or command_line(),
        "commit": commit(),
        "date": today(),
        "machine": machine(),
        "versions": versions(),
        "note": note,
        **({} if parts is None else {"parts": parts}),
        "values": [finite(value) for value in values],
    }
    path = RESULTS / f"{name}.json"
    path.write_text(to_json(content))
    print(
        f"wrote {path.relative_to(ROOT)}; `make tables` brings it into the pages",
        file=sys.stderr,
    )
    return path


def command_line(arguments: Sequence[str] | None = None) -> str:
    """This process as a command, without the folders of this machine."""
    script, *options = sys.argv if arguments is None else arguments
    file = Path(script).resolve()
    shown = file.relative_to(ROOT) if file.is_relative_to(ROOT) else Path(file.name)
    return shlex.join(["python", str(shown), *map(without_folder, options)])


def without_folder(option: str) -> str:
    """An option whose absolute path is cut to its last part: the rest names this machine."""
    head, separator, tail = option.rpartition("=")
    prefix, colon, place = tail.rpartition(":")
    if not place.startswith(("/", "~")):
        return option
    return f"{head}{separator}{prefix}{colon}{Path(place).name}"


def commit() -> str:
    """The commit of the working tree, with `-dirty` where files differ from it."""
    return git("rev-parse", "HEAD") + (
        "-dirty" if git("status", "--porcelain", "-uno") else ""
    )


def today() -> str:
    """The date as ISO 8601 has it."""
    return datetime.date.today().isoformat()


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """The kind of machine: never its name."""
    import jax

    return {
        "cores": os.cpu_count(),
        "processor": processor(),
        "device": jax.local_devices()[0].device_kind,
    }


def processor() -> str:
    """The processor's model where Linux tells it, else its architecture."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [
        line.partition(":")[2].strip() for line in lines if line.startswith("model name")
    ]
    return models[0] if models else platform.machine()


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "mdm_jax": mdm_jax.__version__} | {
        name: metadata.version(name) for name in PACKAGES
    }


def finite(value: Value) -> dict[str, Any]:
    """A value as JSON has it: numpy's numbers become Python's, NaN becomes null."""
    plain = {
        key: item.item() if hasattr(item, "item") else item for key, item in value.items()
    }
    return {
        key: None if isinstance(item, float) and not math.isfinite(item) else item
        for key, item in plain.items()
    }


def to_json(content: Mapping[str, Any]) -> str:
    """JSON with one value a line, so that a change of one is one line of a diff."""
    head = {key: item for key, item in content.items() if key != "values"}
    lines = ",\n".join(f"    {json.dumps(value)}" for value in content["values"])
    opened = json.dumps(head, indent=2).removesuffix("\n}")
    return f'{opened},\n  "values": [\n{lines}\n  ]\n}}\n'
