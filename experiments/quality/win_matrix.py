r"""Where MDM is first, tied or loses, and to whom: methods x networks x data x metrics.

    python experiments/quality/win_matrix.py --budget 60
    python experiments/quality/win_matrix.py --budget 600 \
        --place ecssd=DIR imagenet_val300=DIR vit_tiny=DIR resnet18=DIR resnet50=DIR densenet169=DIR

The parts stand in `configs/win_matrix.toml`, cheap ones first: digits with the embedded networks
need no place, all others are skipped while the place of their data or weights is not given. The
budget, in minutes, is shared evenly by the networks that are still to come. The same command again
goes on where it was stopped, and with more minutes takes more images. Tables of each part and the
matrix are written to win-matrix/. A run of some parts keeps what the results file has of others.

Results: `experiments/results/win_matrix.json` and `docs/images/win_matrix.png`, shown in
`docs/measurements.md`.
"""

from __future__ import annotations

import json
import string
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.quality.benchmark_imagenet import write_image_folder
from experiments.quality.benchmark_networks import LoggedBar, read_table
from experiments.record_results import (
    RESULTS,
    ROOT,
    Value,
    command_line,
    commit,
    today,
    write,
)
from mdm_jax.cli.benchmark import model_loaders
from mdm_jax.errors import InputError
from mdm_jax.evaluation import benchmark, table_text, tables, win_matrix, win_matrix_text
from mdm_jax.evaluation.benchmark import Entry, Results
from mdm_jax.evaluation.benchmark_config import BenchmarkConfig
from mdm_jax.evaluation.win_matrix import WinMatrix
from mdm_jax.storage import arrays
from mdm_jax.storage.atomic import write_text
from mdm_jax.views import explanation_figures, win_matrix_figure

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "win_matrix.toml"
PICTURE = ROOT / "docs" / "images" / "win_matrix.png"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Networks on one source of images."""

    name: str
    data: str
    """as for mdm benchmark, or annotated:FOLDER with images/ and annotations.json"""
    split: str
    networks: tuple[str, ...]
    """as the models of mdm benchmark"""
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The parts, and what is the same for all."""

    reference: str
    parts: tuple[Part, ...]
    costly_limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which parts are worked out, and for how long."""

    parts: Path = CONFIG
    """file of the parts"""
    only: tuple[str, ...] = ()
    """parts, as digits, or networks of one, as digits/resnet; all when none is given"""
    place: tuple[str, ...] = ()
    """NAME=FOLDER of the data and weights that the parts ask for"""
    budget: float | None = None
    """minutes for all; every image of every part when not given"""
    costly_limit: int | None = None
    """images for the costly methods, in place of the file's"""
    limit: int | None = None
    """images for each part at most, in place of the file's"""
    methods: tuple[str, ...] = ()
    """in place of the file's"""
    metrics: tuple[str, ...] = ()
    """ids, in place of the file's"""
    metric_micro_batch: int | None = None
    """images measured at a time; on CPU, 4 suit networks of many weights"""
    out: Path = Path("win-matrix")
    """folder of all maps, scores and tables"""
    results: str = "win_matrix"
    """name of the file in experiments/results that is written, and of the figure; none when
    empty"""


@dataclass(frozen=True)
class Unit:
    """One network of a part, whose places are known."""

    part: Part
    data: str
    network: str


def read_plan(path: Path) -> Plan:
    """The parts in a file. Raises InputError for one that cannot be read or has other settings."""
    try:
        content = tomllib.loads(path.read_text())
        shared = {name: tuple(content.pop(name)) for name in ("methods", "metrics")}
        parts = []
        for settings in content.pop("parts"):
            own: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in settings.items()
            }
            # more of a part's own are added to those of all
            for name in shared:
                own[name] = shared[name] + own.pop(f"more_{name}", ())
            parts.append(Part(**own))
        return Plan(parts=tuple(parts), **content)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} holds no parts as win_matrix.toml has them: {error!r}"
        ) from error


def find_units(config: Config, plan: Plan) -> Iterator[Unit | str]:
    """Each network of each part; a sentence for one that is skipped."""
    places = dict(each.split("=", 1) for each in config.place if "=" in each)
    for part in plan.parts:
        labels = [network.partition("=")[0] for network in part.networks]
        names = {part.name, *(f"{part.name}/{label}" for label in labels)}
        if config.only and not names.intersection(config.only):
            continue
        missing = [name for name in asked(part.data) if name not in places]
        if missing:
            yield f"{part.name} is skipped: give --place {missing[0]}=FOLDER"
            continue
        data = part.data.format(**places)
        for label, network in zip(labels, part.networks):
            wanted = {part.name, f"{part.name}/{label}"}.intersection(config.only)
            if config.only and not wanted:
                continue
            missing = [name for name in asked(network) if name not in places]
            if missing:
                yield f"{part.name}, {label} is skipped: give --place {missing[0]}=FOLDER"
            else:
                yield Unit(part, data, network.format(**places))


def asked(text: str) -> list[str]:
    """The places that a text of the file asks for."""
    return [name for _, name, _, _ in string.Formatter().parse(text) if name]


def work(unit: Unit, config: Config, plan: Plan, minutes: float | None) -> Results:
    """The benchmark of one network of a part, in its share of the time."""
    out = config.out / arrays.file_name(unit.part.name)
    data = unit.data
    kind, _, folder = data.partition(":")
    if kind == "annotated":
        write_image_folder(Path(folder), out / "data", unit.part.split)
        data = f"folder:{out / 'data'}"
    settings = BenchmarkConfig(
        data=data,
        split=unit.part.split,
        limit=config.limit or unit.part.limit,
        models=(unit.network,),
        methods=config.methods or unit.part.methods,
        metrics=config.metrics or unit.part.metrics,
        reference=plan.reference,
        budget=minutes,
        costly_limit=config.costly_limit or plan.costly_limit,
        metric_micro_batch=config.metric_micro_batch,
        out=out,
    )
    return benchmark.run(
        settings,
        model_loaders(settings.models, None),
        settings.open(),
        # the folder of the data may lie elsewhere the next time
        data=f"{unit.part.name}:{unit.part.split}",
        progress=LoggedBar(),
    )


def main(config: Config) -> int:
    """Work out all parts; returns the exit code, as `mdm` does."""
    try:
        plan = read_plan(config.parts)
        found = list(find_units(config, plan))
        units = [each for each in found if isinstance(each, Unit)]
        for sentence in found:
            if isinstance(sentence, str):
                print(sentence, file=sys.stderr)
        if not units:
            raise InputError(
                "no part is left: give places (--place) or other parts (--only)"
            )
        all_results = work_all(units, config, plan)
        finish(units, all_results, config, plan.reference)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr)
        return 130
    return 0


def work_all(units: Sequence[Unit], config: Config, plan: Plan) -> list[Results]:
    """Every unit in turn; what one leaves of its time is the others'."""
    start = time.monotonic()
    all_results = []
    for number, unit in enumerate(units):
        minutes = None
        if config.budget is not None:
            left = config.budget - (time.monotonic() - start) / 60
            # what is stored is read even when the time is over
            minutes = max(left / (len(units) - number), 0.01)
        results = work(unit, config, plan, minutes)
        for note in results.notes:
            print(f"{unit.part.name}, {note}", file=sys.stderr)
        table = tables.build(results, plan.reference)
        folder = folder_of(config, unit, results.entries[0].model)
        write_text(folder / "table.md", table_text.markdown(table))
        write_text(folder / "table.csv", table_text.to_csv(table))
        all_results.append(results)
    return all_results


def folder_of(config: Config, unit: Unit, network: str) -> Path:
    """The folder of one network of a part."""
    return config.out / arrays.file_name(unit.part.name) / arrays.file_name(network)


def finish(
    units: Sequence[Unit], all_results: Sequence[Results], config: Config, reference: str
) -> None:
    """Write the matrix to `out`, and as results and a figure of the pages."""
    matrices = [
        make_matrix(units, all_results, reference, cost_limit)
        for cost_limit in (None, win_matrix.SIMILAR_COST)
    ]
    write_text(config.out / "win_matrix.md", win_matrix_text.document(matrices))
    write_text(config.out / "win_matrix.csv", win_matrix_text.to_csv(matrices))
    for matrix in matrices:
        print(win_matrix_text.describe_counts(matrix))
    figure = win_matrix_figure.draw(matrices[0])
    explanation_figures.save(figure, config.out / "win_matrix.png")
    if config.results:
        values: list[Value] = []
        for matrix in matrices:
            values += win_matrix_text.to_records(matrix)
        for unit, results in zip(units, all_results):
            data, network = unit.part.name, results.entries[0].model
            values += costs(data, results.entries)
            scores = read_table(folder_of(config, unit, network) / "table.csv")
            values += [{"data": data, **score} for score in scores]
        write_results(config.results, values)


def write_results(name: str, values: Sequence[Value]) -> None:
    """Write the results and their figure, with what is stored of other networks and data."""
    measured = dict.fromkeys((value["data"], value["network"]) for value in values)
    kept: list[Value] = []
    parts: dict[str, Any] = {}
    path = RESULTS / f"{name}.json"
    if path.exists():
        stored = json.loads(path.read_text())
        kept = [
            value
            for value in stored["values"]
            if (value["data"], value["network"]) not in measured
        ]
        parts = stored.get("parts", {})
    this_run = {"command": command_line(), "commit": commit(), "date": today()}
    for data, network in measured:
        parts[f"{data}, {network}"] = this_run
    values = [*kept, *values]
    write(name, values, parts=parts)
    matrix = win_matrix_text.from_records(values)
    explanation_figures.save(win_matrix_figure.draw(matrix), PICTURE.with_stem(name))


def make_matrix(
    units: Sequence[Unit],
    all_results: Sequence[Results],
    reference: str,
    cost_limit: float | None,
) -> WinMatrix:
    """The matrix of all units."""
    matrices = [
        win_matrix.compare(
            results.entries,
            results.metrics,
            reference,
            data=unit.part.name,
            cost_limit=cost_limit,
        )
        for unit, results in zip(units, all_results)
    ]
    return win_matrix.join(matrices)


def costs(data: str, entries: Sequence[Entry]) -> list[Value]:
    """What each method cost, and on how many images."""
    values: list[Value] = []
    for entry in entries:
        if entry.cost is None or entry.scores is None:
            continue
        value = {
            "data": data,
            "network": entry.model,
            "method": entry.method,
            "quantity": "seconds",
            "value": entry.cost.seconds,
            "evaluations": entry.cost.evaluations,
            "forwards": entry.cost.forwards,
            "images": len(entry.scores.ids),
        }
        values.append(value)
    return values


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
