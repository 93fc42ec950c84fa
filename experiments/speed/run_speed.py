r"""What a run costs beside the compiled step: how long devices wait, and what slots gain.

    python experiments/speed/run_speed.py starvation --model vit_tiny_patch16_224 \
        --weights WEIGHTS --data files:photos
    python experiments/speed/run_speed.py slots

`starvation` runs MDM over images and times the bare compiled program, before and after, on as many:
the share of the run's wall time (compilation not counted) that the bare program would have taken.

`slots` explains digits until converged, in slots and in batches that wait for their slowest, and
with fixed numbers of steps; the fixed number that reaches the same mean objective is what the slots
are compared with.

Results: `experiments/results/run_speed_*.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments.record_results import write
from mdm_jax import MDMConfig, RunConfig, explain, load_model
from mdm_jax.config import PRESETS
from mdm_jax.data import open_source
from mdm_jax.data.digits import Digits
from mdm_jax.data.network_input import evenly_spaced
from mdm_jax.progress import NullProgress
from mdm_jax.runs.batching import QueuedRow, fetch, stack_requests
from mdm_jax.runs.compiled import ExplainRequest
from mdm_jax.runs.loop import RunSummary, run_plan
from mdm_jax.runs.plan import RunPlan, prepare
from mdm_jax.runs.reader import open_run
from mdm_jax.runs.store import open_store


@dataclass(frozen=True)
class Starvation:
    """The share of a run that is inside the compiled step."""

    model: str | None = None
    weights: str | None = None
    data: str = "digits"
    limit: int = 48
    steps: int = 5
    """of MDM; the fewer, the less there is to hide the reading and the writing behind"""
    chunk: int = 8
    results: str = "run_speed_starvation"
    """name of the file in experiments/results that is written; none when empty"""

    def run(self, console: Console) -> None:
        asked = RunConfig(
            config=MDMConfig(steps=self.steps), limit=self.limit, chunk=self.chunk
        )
        job = prepare(
            load_model(self.model, weights=self.weights),
            open_source(self.data, "test"),
            asked,
        )
        before = bare_seconds(job)
        ended = run_in_temporary_folder(job)
        bare = (before + bare_seconds(job)) / 2
        console.print(
            f"{ended.rows} images, {ended.timing.running / ended.rows:.3f} s each; bare program"
            f" {bare:.3f} s"
        )
        console.print(
            "share of the wall time inside the compiled step:"
            f" {bare * ended.rows / ended.timing.running:.3f}"
        )
        if self.results:
            quantities = {
                "seconds an image": ended.timing.running / ended.rows,
                "seconds an image, bare program": bare,
                "share": bare * ended.rows / ended.timing.running,
            }
            write(
                self.results, [{"quantity": q, "value": v} for q, v in quantities.items()]
            )


def bare_seconds(job: RunPlan, repeats: int = 12) -> float:
    """Seconds an image of the compiled program, on images that lie on the device."""
    program = job.programs[0]
    image = next(read.image for read in job.items([0]) if read.image is not None)
    row = QueuedRow(0, ExplainRequest(image, np.int32(-1), np.uint32(0)))
    batch = program.shard(stack_requests([row], job.micro_batch))
    fetch(program(batch))
    start = time.perf_counter()
    jax.block_until_ready([program(batch) for _ in range(repeats)])
    return (time.perf_counter() - start) / repeats / job.micro_batch


def run_in_temporary_folder(
    job: RunPlan, then: Callable[[str], None] = lambda folder: None
) -> RunSummary:
    """A run in a folder that is removed, after `then` has looked at it."""
    with tempfile.TemporaryDirectory() as folder:
        ended = run_plan(job, open_store(folder), NullProgress())
        then(folder)
        return ended


class Case(NamedTuple):
    name: str
    config: MDMConfig
    """until converged"""


def cases() -> list[Case]:
    """Both presets to where they converge, and with longer steps, with which images differ more in
    how many they need."""
    fast, paper = PRESETS["fast"], dataclasses.replace(PRESETS["paper"], schedule="joint")
    rules: dict[str, tuple[MDMConfig, dict[str, Any]]] = {
        "fast, early": (fast, {"tolerance": 3e-3}),
        "fast": (fast, {"tolerance": 1e-4, "patience": 15}),
        "fast, rate 1": (fast, {"tolerance": 2e-4, "patience": 10, "learning_rate": 1.0}),
        "paper, joint": (paper, {"patience": 8}),
        "paper, joint, rate 0.3": (paper, {"tolerance": 5e-3, "learning_rate": 0.3}),
    }
    return [
        Case(name, dataclasses.replace(base, until_converged=True, steps=250, **rule))
        for name, (base, rule) in rules.items()
    ]


@dataclass(frozen=True)
class SlotGain:
    """What slots gain over fixed steps and over batches that wait for their slowest."""

    digits: int = 64
    micro_batch: int = 8
    repeats: int = 2
    results: str = "run_speed_slots"
    """name of the file in experiments/results that is written; none when empty"""

    def run(self, console: Console) -> None:
        source, classifier = Digits("test"), load_model()
        images = np.stack(
            [source[i].image for i in evenly_spaced(len(source), self.digits)]
        )
        columns = (
            "objective",
            "steps",
            "fixed steps",
            "slots/s",
            "batches/s",
            "fixed/s",
            "slots/fixed",
            "slots/batches",
        )
        table, recorded = Table("settings", *columns, box=None), []
        for case in cases():
            objective, steps = 0.0, 0.0

            def look(folder: str) -> None:
                nonlocal objective, steps
                records = open_run(folder).records
                objective, steps = (
                    float(np.mean(records[name].to_numpy()))
                    for name in ("objective", "steps")
                )

            slots = self.speed(classifier, source, case.config, slots=True, look=look)
            wanted, reached = objective, steps
            batches = self.speed(classifier, source, case.config, slots=False)
            fixed_config = dataclasses.replace(case.config, until_converged=False)
            explanation = explain(
                classifier,
                images,
                config=fixed_config,
                trace=True,
                micro_batch=self.micro_batch,
            )
            assert explanation.trace is not None
            means = np.asarray(explanation.trace.objective).mean(axis=0)
            enough = np.flatnonzero(means <= wanted)
            number = int(enough[0]) + 1 if len(enough) else len(means)
            fixed = self.speed(
                classifier,
                source,
                dataclasses.replace(fixed_config, steps=number),
                slots=False,
            )
            found = (
                f"{wanted:.4f}",
                f"{reached:.1f}",
                f"{number}" if len(enough) else f">{number}",
            )
            rates = (slots, batches, fixed, slots / fixed, slots / batches)
            table.add_row(case.name, *found, *(f"{rate:.2f}" for rate in rates))
            values = (wanted, reached, number if len(enough) else None, *rates)
            for quantity, value in zip(columns, values):
                what = {"settings": case.name, "quantity": quantity}
                recorded.append(what | {"value": value})
        Console(width=130).print(table)
        if self.results:
            write(self.results, recorded)

    def speed(
        self,
        classifier: object,
        source: Digits,
        config: MDMConfig,
        *,
        slots: bool,
        look: Callable[[str], None] = lambda folder: None,
    ) -> float:
        """Images a second, the best of some runs."""
        asked = RunConfig(
            config=config,
            limit=self.digits,
            micro_batch=self.micro_batch,
            slots=slots,
            chunk=self.digits,
        )
        runs = [
            run_in_temporary_folder(prepare(classifier, source, asked), look)
            for _ in range(self.repeats)
        ]
        return max(ended.rows / ended.timing.running for ended in runs)


if __name__ == "__main__":
    chosen = tyro.extras.subcommand_cli_from_dict(
        {"starvation": Starvation, "slots": SlotGain}
    )
    chosen.run(Console())
