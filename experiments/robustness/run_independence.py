"""What else than its image decides an image's masks? Chunks, order, devices, processes, threads.

    python experiments/robustness/run_independence.py       # 64 digits, 2 networks: 8 minutes
    python experiments/robustness/run_independence.py --networks vit --images 16

Every setting is a run; its mask vectors are compared, image by image, with those of the first one
(one chunk, one problem at a time, one device, one process). All processes have 8 threads (NPROC=8),
the fewest that XLA takes for 8 devices, but for the one setting that asks what their number
changes. Devices are simulated ones of the CPU.

Results: `experiments/results/run_independence.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments.record_results import write

THREADS = 8
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Config:
    """What is compared."""

    networks: tuple[str, ...] = ("resnet", "vit")
    images: int = 64
    results: str = "run_independence"
    """name of the file in experiments/results that is written; none when empty"""


@dataclass(frozen=True)
class Setting:
    """A way to do the same run."""

    label: str
    how: dict[str, Any] = field(default_factory=dict)
    """fields of `RunConfig`, and "reverse" """
    devices: int = 1
    processes: int = 1
    threads: int = THREADS


SETTINGS = [
    Setting("one chunk, one at a time"),
    Setting("the same again"),
    Setting("chunks of 1", {"chunk": 1}),
    Setting("chunks of 7", {"chunk": 7}),
    Setting("order reversed, chunks of 7", {"chunk": 7, "reverse": True}),
    Setting("slots, one on the device", {"slots": True}),
    Setting("2 devices", devices=2),
    Setting("8 devices", devices=8),
    Setting("8 devices, chunks of 7", {"chunk": 7}, devices=8),
    Setting("2 processes, chunks of 7", {"chunk": 7}, processes=2),
    Setting("slots, 7 on the device", {"slots": True, "micro_batch": 7}),
    Setting("micro-batch 7", {"micro_batch": 7}),
    Setting("micro-batch 7, order reversed", {"micro_batch": 7, "reverse": True}),
    Setting("micro-batch 64", {"micro_batch": 64}),
    Setting("2 threads", threads=2),
]
"""the first is what the others are compared with; those before micro-batches compile the same
shapes"""


@dataclass(frozen=True)
class First:
    """The first items of a source, perhaps from the last one of them on."""

    source: Any
    count: int
    reverse: bool

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.source[self.count - 1 - index if self.reverse else index]


def run_in_this_process(
    network: str, images: int, index: int, todo: list[tuple[dict[str, Any], str, int]]
) -> None:
    """Runs of one process, each as (how, where, of how many processes)."""
    import mdm_jax
    from mdm_jax.data import Digits

    classifier = mdm_jax.load_model(network)
    for how, place, processes in todo:
        source = First(Digits("test"), images, how.pop("reverse", False))
        mdm_jax.run(
            classifier, source, place, mdm_jax.RunConfig(**how), share=(index, processes)
        )


def read_masks(place: Path) -> dict[str, np.ndarray]:
    """All mask values of an image, by its id."""
    import mdm_jax

    run = mdm_jax.open_run(place)
    arrays = [np.asarray(array[...]) for array in run.mask_vectors]
    return {
        id: np.concatenate([array[row].ravel() for array in arrays])
        for row, id in enumerate(run.records["id"].to_pylist())
    }


def run_settings(network: str, images: int, folder: Path) -> list[Path]:
    """Do every setting; those with the same devices, threads and processes share a process, and so
    what is compiled."""
    places = [folder / network / str(number) for number in range(len(SETTINGS))]
    kinds = dict.fromkeys((each.devices, each.threads, each.processes) for each in SETTINGS)
    for devices, threads, processes in kinds:
        todo = [
            (each.how, str(place), processes)
            for each, place in zip(SETTINGS, places)
            if (each.devices, each.threads, each.processes) == (devices, threads, processes)
        ]
        flags = {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "NPROC": str(threads),
        }
        running = []
        for index in range(processes):
            text = json.dumps(
                {"network": network, "images": images, "index": index, "todo": todo}
            )
            process = subprocess.Popen(
                [sys.executable, __file__, "--work"],
                env=os.environ | flags,
                stdin=subprocess.PIPE,
                text=True,
            )
            assert process.stdin is not None
            process.stdin.write(text)
            process.stdin.close()
            running.append(process)
        if any([process.wait() for process in running]):  # noqa: C419 (wait for all)
            raise SystemExit("a process failed, see above")
    return places


def main(config: Config) -> None:
    console, recorded = Console(width=120), []
    for network in config.networks:
        table = Table(box=None, title=f"{network}, {config.images} digits")
        for column in (
            "run",
            "largest difference",
            f"images beyond {TOLERANCE:g}",
            "same bits",
        ):
            table.add_column(column, justify="left" if column == "run" else "right")
        with tempfile.TemporaryDirectory() as folder:
            places = run_settings(network, config.images, Path(folder))
            first = read_masks(places[0])
            for setting, place in zip(SETTINGS, places):
                found = read_masks(place)
                assert found.keys() == first.keys()
                differences = np.asarray(
                    [np.abs(found[id] - first[id]).max() for id in first]
                )
                beyond = f"{(differences > TOLERANCE).sum()}"
                what = {"network": network, "run": setting.label, "images": len(first)}
                largest, count = differences.max(), (differences > TOLERANCE).sum()
                recorded.append(what | {"quantity": "largest difference", "value": largest})
                recorded.append(
                    what | {"quantity": f"images beyond {TOLERANCE:g}", "value": count}
                )
                table.add_row(
                    setting.label,
                    f"{differences.max():.1e}",
                    beyond,
                    "no" if differences.any() else "yes",
                )
        console.print(table)
    if config.results:
        write(config.results, recorded)


if __name__ == "__main__":
    if sys.argv[1:] == ["--work"]:
        run_in_this_process(**json.load(sys.stdin))
    else:
        main(tyro.cli(Config))
