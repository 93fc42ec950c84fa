"""A process that does runs, perhaps dies in one, and tells what it saw; test_run_processes.py
starts it.

Standard input holds a JSON list of tasks, each with the name of a function below ("do") and its
arguments; standard output gets one line of JSON for each."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

import mdm_jax
from mdm_jax import MDMConfig, RunConfig
from mdm_jax.cli.run import find_share
from mdm_jax.data.source import Example
from mdm_jax.progress import NullProgress
from mdm_jax.runs import compiled, continuous_batching
from mdm_jax.runs import store as store_module
from mdm_jax.runs.batching import QueuedRow
from mdm_jax.runs.compiled import ExplainRequest
from mdm_jax.runs.loop import WHOLE_RUN
from mdm_jax.runs.plan import prepare

CONFIG = MDMConfig(sizes=(4, 8), steps=4)
ASKED = RunConfig(config=CONFIG, chunk=4)
COLLECTIVE = re.compile(
    r"all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter"
)


def kinked_network(images: Any) -> Any:
    """Three logits by a convolution with ReLU, which tells apart even sums of another order; quick
    to compile."""
    kernel, head = (
        np.asarray(np.random.default_rng(1).normal(size=size), np.float32)
        for size in ((3, 3, 3, 8), (8, 3))
    )
    layout = ("NHWC", "HWIO", "NHWC")
    features = jax.lax.conv_general_dilated(
        images, kernel / 3, (2, 2), "SAME", dimension_numbers=layout
    )
    return jax.nn.relu(features).mean((1, 2)) @ (head * 4)


def smooth_network(images: Any) -> Any:
    """Three logits without a kink."""
    weights = np.asarray(np.random.default_rng(7).normal(size=(3072, 3)), np.float32) / 20
    return jnp.tanh(images.reshape(len(images), -1) @ weights) * 4.0


@dataclass(frozen=True)
class Drawn:
    """Gray images, bright in one place."""

    count: int = 22
    name: str = "drawn"
    class_names: tuple[str, ...] = ("left", "right", "none")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng(index)
        image = rng.uniform(0.0, 0.3, (32, 32, 3)).astype(np.float32)
        y, x = rng.integers(0, 24, 2)
        image[y : y + 8, x : x + 8] += 0.6
        return Example(f"image-{index}", image, int(index % 3), None, None)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal(NullProgress):
    """Kills the process when so many rows are explained."""

    def __init__(self, rows: int | None) -> None:
        self.left = rows

    def advance(self, done: int, **measures: float) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                die()


def kill_before_record(number: int) -> None:
    """Kill the process when the arrays of its `number`-th chunk and its record are written, and the
    record is not in place."""
    left, replace_file = number, os.replace

    def mortal(source: Any, target: Any) -> None:
        nonlocal left
        left -= str(target).endswith(".parquet")
        if left == 0:
            die()
        replace_file(source, target)

    store_module.os.replace = mortal  # type: ignore[attr-defined]


def join(coordinator: str, shard: str) -> list[int]:
    """Find the other processes, and with them the own share."""
    return list(find_share(shard, distributed=False, coordinator=coordinator))


def run(
    out: str,
    share: list[int] | None = None,
    die_after_rows: int | None = None,
    die_before_record: int | None = None,
) -> int:
    """A run with the kinked network; the rows that were explained."""
    if die_before_record is not None:
        kill_before_record(die_before_record)
    index, count = share or WHOLE_RUN
    return mdm_jax.run(
        kinked_network,
        Drawn(),
        out,
        ASKED,
        share=(index, count),
        progress=Mortal(die_after_rows),
    ).rows


def collectives(out: str) -> dict[str, Any]:
    """Runs on all devices as one team, as accelerators are, beside one on a single device; which
    collectives were compiled."""
    groups = compiled.device_groups()
    mesh = jax.make_mesh(
        (jax.device_count(),), (compiled.DEVICES,), axis_types=(AxisType.Auto,)
    )
    compiled.device_groups = lambda: groups[:1]
    mdm_jax.run(smooth_network, Drawn(), Path(out) / "alone", ASKED)
    compiled.device_groups = lambda: [mesh]
    mdm_jax.run(smooth_network, Drawn(), Path(out) / "together", ASKED)
    mdm_jax.run(smooth_network, Drawn(), Path(out) / "slots", replace(ASKED, slots=True))

    program = prepare(smooth_network, Drawn(), ASKED).programs[0]
    images = np.stack([Drawn()[i].image for i in range(program.devices)])
    ahead = ExplainRequest(
        images, np.full(len(images), -1, np.int32), np.arange(len(images), dtype=np.uint32)
    )
    pool = continuous_batching.SlotPool(program, 1)
    pool.fill(QueuedRow(i, ExplainRequest(*each)) for i, each in enumerate(zip(*ahead)))
    places = pool._on_devices(range(program.devices))
    quorum, questions = (
        program.shard(np.ones(program.devices, np.int32)),
        program.shard(ahead),
    )
    recipe, arrays, key = program
    lowered = {
        "explain_rows": compiled.explain_rows.lower(recipe, arrays, key, questions),
        "enter": continuous_batching.enter.lower(
            recipe, arrays, key, pool.slots, places, questions
        ),
        "advance": continuous_batching.advance.lower(recipe, arrays, pool.slots, quorum),
        "leave": continuous_batching.leave.lower(recipe, arrays, pool.slots, places),
        "a sum over all devices": (
            jax.jit(
                jax.shard_map(
                    lambda x: jax.lax.psum(x, compiled.DEVICES),
                    mesh=mesh,
                    in_specs=compiled.SHARDED,
                    out_specs=PartitionSpec(),
                )
            ).lower(program.shard(np.ones(program.devices, np.float32)))
        ),
    }
    found = {
        name: sorted(set(COLLECTIVE.findall(each.compile().as_text())))
        for name, each in lowered.items()
    }
    return {"groups": len(groups), "devices": program.devices, "found": found}


if __name__ == "__main__":
    for task in json.load(sys.stdin):
        print(json.dumps(globals()[task.pop("do")](**task)), flush=True)
