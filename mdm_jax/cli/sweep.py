"""`mdm sweep`: try many settings of MDM on the same images, and keep the best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import tyro

from mdm_jax.cli.console import Result, Terminal, finite
from mdm_jax.cli.label_targets import label_targets
from mdm_jax.cli.options import Options, describe_presets, positional
from mdm_jax.config import PRESETS
from mdm_jax.data.network_input import PreparedExample, evenly_spaced, prepare_examples
from mdm_jax.data.source import Source
from mdm_jax.errors import InputError
from mdm_jax.evaluation.formatting import format_estimate
from mdm_jax.models.classifier import Classifier
from mdm_jax.progress import task
from mdm_jax.storage import claims
from mdm_jax.storage.atomic import write_text, write_whole
from mdm_jax.sweeps import export_preset, tables
from mdm_jax.sweeps.axes import varying
from mdm_jax.sweeps.config import SweepConfig
from mdm_jax.sweeps.loop import sweep
from mdm_jax.sweeps.points import label
from mdm_jax.sweeps.quality import Quality, formula
from mdm_jax.sweeps.result import Sweep
from mdm_jax.sweeps.store import SWEEP
from mdm_jax.views import explanation_figures, sweep_figures

# Best points in the table on the screen; the files hold all.
MAX_ROWS = 10


@dataclass(frozen=True, kw_only=True)
class SweepCommand(SweepConfig, Options):
    """Try many settings of MDM on the same images and keep the best.

    FILE is a TOML file with these options and [axes], the values of each setting, or [[points]];
    count draws so many points at random. [quality] has the weight of each metric. tune_on is the
    share of the images that chooses the winner, which is then reported on the others. Settings that
    differ in numbers alone share one compiled program.

    OUT holds a table (table.md, .csv, .parquet), figures and winner.toml, for --config. The same
    command again goes on where it stopped, and more points cost only themselves.

    Examples:
      mdm sweep sweep.toml
      mdm sweep sweep.toml --limit 32 --out runs/sweep
      mdm sweep sweep.toml --count 64 --seed 1 --json
      mdm explain photo.jpg --config mdm-sweep/winner.toml
    """

    file: Annotated[tyro.conf.Positional[Path | None], positional("FILE")] = None
    """TOML file with the settings of SweepConfig; --config does the same"""
    base: Annotated[str, tyro.conf.arg(help=describe_presets(PRESETS))] = "fast"

    def run(self, terminal: Terminal) -> Result:
        """Sweep, then write the tables, the figures and the winner; the best points as rows."""
        if self.file is None and self.config is None:
            raise InputError(
                "no settings: give a TOML file, for example mdm sweep sweep.toml"
            )
        points, metrics = self.resolve()
        out = Path(self.out)
        claims.check(out, SWEEP)
        source = self.open()
        classifier = self.load()
        examples, skipped = _read_examples(self, classifier, source)
        chooses = choosing_images(len(examples), self.tune_on)
        targets = None
        if self.targets == "label":
            targets = label_targets(source, classifier, examples)
        masks = [each.mask for each in examples]
        with (
            task(terminal.progress, "sweeping", len(points)) as advance,
            _says_what_is_kept(out),
        ):
            result = sweep(
                classifier,
                np.stack([each.image for each in examples]),
                [each.settings for each in points],
                targets,
                base=self.base,
                node=self.node,
                metrics=tuple(metrics.values()),
                object_masks=masks if any(mask is not None for mask in masks) else None,
                boxes=[each.boxes for each in examples],
                key=self.seed,
                ids=[each.id for each in examples],
                out=out,
                micro_batch=self.micro_batch,
                on_progress=advance,
            )
        # The winner is judged on images that had no say in it.
        others = [i for i in range(len(result.ids)) if i not in set(chooses)]
        quality = dict(self.quality) or result.default_quality()
        finished = _Finished(
            result,
            result.of_images(chooses),
            result.of_images(others) if others else None,
            quality,
        )
        files = finished.save(out)
        notes = [*finished.notes(), *(f"skipped: {reason}" for reason in skipped)]
        names = list(map(str, files))
        return Result(finished.rows(), finished.describe(), names, out=out, notes=notes)


@contextmanager
def _says_what_is_kept(out: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: every finished point is kept in {out}, and the same command goes on"
            " there"
        ) from None


def choosing_images(count: int, share: float) -> list[int]:
    """The images that choose the winner, spread evenly; every second one for a half. All where the
    share is 1.

    Raises InputError for so few images that one side has none.
    """
    chosen = [
        i for i in range(count) if math.floor((i + 1) * share) > math.floor(i * share)
    ]
    if share < 1 and not 0 < len(chosen) < count:
        raise InputError(
            f"tune_on is {share}, and there are {count} images: give more images, or choose on all"
            " with 1.0"
        )
    return chosen


def _read_examples(
    config: SweepConfig, classifier: Classifier, source: Source
) -> tuple[list[PreparedExample], list[str]]:
    """The images, and a sentence for each that cannot be used."""
    examples: list[PreparedExample] = []
    skipped: list[str] = []
    indices = evenly_spaced(len(source), config.limit)
    for each in prepare_examples(source, indices, classifier.preprocessing):
        if isinstance(each, PreparedExample):
            examples.append(each)
        else:
            skipped.append(each.reason)
    if not examples:
        why = f": {skipped[0]}" if skipped else ""
        raise InputError(
            f"{source.name} gives no image that can be used{why}: check the data"
        )
    return examples, skipped


@dataclass(frozen=True)
class _Finished:
    """A finished sweep, and what is written of it."""

    whole: Sweep
    tuned: Sweep
    """on the images that choose the winner"""
    held_out: Sweep | None
    """on the others"""
    quality: Quality

    def save(self, out: Path) -> list[Path]:
        """Write the tables, the figures and the winner. Raises InputError without a winner."""
        files = self._save_tables(out)
        if not len(self.ranked):
            why = next(
                filter(None, self.whole.notes),
                "no metric has a better side: write [quality]",
            )
            raise InputError(
                f"no point could be ranked, so there is no winner ({why}); {out / 'table.csv'} has"
                " every point"
            )
        figures = {
            "pareto": sweep_figures.pareto(self.tuned, self.quality),
            "parallel": sweep_figures.parallel(self.tuned, self.quality),
        }
        if sum(axis.numeric for axis in varying(self.tuned.entries)) >= 2:
            figures["heatmap"] = sweep_figures.heatmap(self.tuned, quality=self.quality)
        for name, figure in figures.items():
            explanation_figures.save(figure, out / f"{name}.png")
            files.append(out / f"{name}.png")
        best_of = f"the best of {len(self.whole.entries)} settings by {self.formula}"
        winner = self.whole.entries[int(self.ranked[0])]
        files.append(
            export_preset.save(winner, out / "winner.toml", [best_of, self.verdict])
        )
        return files

    @property
    def ranked(self) -> np.ndarray:
        return self.tuned.rank(self.quality) if self.quality else np.zeros(0, int)

    @property
    def formula(self) -> str:
        return formula(self.quality, self.whole.metrics)

    @property
    def verdict(self) -> str:
        """The winner's quality, on the images that chose it and on the others."""
        winner = int(self.ranked[0])
        settings = self.tuned.entries[winner].label
        chosen_on = (
            f"{_estimate(self.tuned, self.quality, winner)} on the {len(self.tuned.ids)}"
        )
        text = f"{settings}: {chosen_on} images that chose it"
        if self.held_out is not None:
            estimate = _estimate(self.held_out, self.quality, winner)
            text += f"; {estimate} on the {len(self.held_out.ids)} others"
        return text

    def describe(self) -> str:
        count = len(self.whole.entries)
        return f"{count} points, {len(self.whole.ids)} images, quality = {self.formula}"

    def notes(self) -> list[str]:
        notes = [f"the best: {self.verdict}"]
        failed = sum(not math.isfinite(value) for value in self.tuned.quality(self.quality))
        if failed:
            notes.append(f"{failed} points could not be ranked, see the notes in table.md")
        return notes

    def rows(self) -> list[dict[str, Any]]:
        """The best points."""
        tuned, qualities = self.tuned, self.tuned.quality(self.quality)
        values = {metric.name: tuned.values(name) for name, metric in tuned.metrics.items()}
        rows = []
        for i in self.ranked[:MAX_ROWS].tolist():
            row: dict[str, Any] = {
                "point": i,
                "settings": label(tuned.points[i]),
                "evaluations": float(tuned.evaluations[i]),
            }
            for name, each in values.items():
                row[name] = finite(float(each[i]))
            row["quality"] = finite(float(qualities[i]))
            rows.append(row)
        return rows

    def _save_tables(self, out: Path) -> list[Path]:
        """table.csv and table.parquet: every point on the images that choose. table.md: these, and
        the best on the others."""
        tuned, held_out, quality = self.tuned, self.held_out, self.quality
        ranked = self.ranked.tolist()
        unranked = [i for i in range(len(tuned.entries)) if i not in set(ranked)]
        text = f"## Every point, on {len(tuned.ids)} images\n\n"
        text += tables.markdown(tuned, quality, [*ranked, *unranked])
        if held_out is not None and ranked:
            best: Sequence[int] = list(
                dict.fromkeys([ranked[0], *tuned.pareto(quality).tolist()])
            )
            text += (
                f"\n## The winner and the front, on the {len(held_out.ids)} images that did"
            )
            text += f" not choose\n\n{tables.markdown(held_out, quality, best)}"
        rows = tuned.table(quality)
        files = [out / f"table.{kind}" for kind in ("md", "csv", "parquet")]
        write_text(files[0], text)
        write_text(files[1], tables.csv(rows))
        write_whole(files[2], lambda file: pq.write_table(rows, file))
        return files


def _estimate(sweep: Sweep, quality: Quality, i: int) -> str:
    value = float(sweep.quality(quality)[i])
    return f"quality {format_estimate(value, sweep.quality_interval(quality, i))}"
