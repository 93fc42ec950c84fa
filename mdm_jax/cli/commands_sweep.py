"""What `mdm sweep` does, without the command line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from mdm_jax import images
from mdm_jax.cli.explain import Result, finite
from mdm_jax.data import open_source
from mdm_jax.data.class_mapping import class_number, class_numbers
from mdm_jax.data.network_input import PreparedExample, evenly_spaced, prepare_examples
from mdm_jax.errors import InputError
from mdm_jax.evaluation.formatting import format_estimate
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.pretrained import load_model
from mdm_jax.progress import Progress, task
from mdm_jax.storage.atomic import check_writable, write_whole
from mdm_jax.sweeps import export_preset, tables
from mdm_jax.sweeps.axes import varying
from mdm_jax.sweeps.config import SweepConfig
from mdm_jax.sweeps.loop import sweep
from mdm_jax.sweeps.points import label
from mdm_jax.sweeps.quality import Quality, formula
from mdm_jax.sweeps.result import Sweep
from mdm_jax.views import explanation_figures, sweep_figures

PRINTED = 10
"""best points in the table on the screen; the files hold all"""


def run_sweep(config: SweepConfig, progress: Progress) -> Result:
    """Sweep, then write the tables, the figures and the winner into the config's `out`; the best
    points as rows."""
    points, asked = config.resolve()
    out = Path(config.out)
    check_writable(out)
    source = open_source(config.data, config.split)
    classifier = load_model(
        config.model, weights=config.weights, image_size=config.image_size, dtype=config.dtype
    )
    used, skipped = _images(config, classifier, source)
    tuning = chosen_share(len(used), config.tune_on)
    with task(progress, "sweeping", len(points)) as advance, _told_what_is_kept(out):
        whole = sweep(
            classifier,
            np.stack([each.image for each in used]),
            [each.settings for each in points],
            _targets(config, classifier, source, used),
            base=config.base,
            node=config.node,
            metrics=tuple(asked.values()),
            object_masks=(
                [each.mask for each in used]
                if any(each.mask is not None for each in used)
                else None
            ),
            boxes=[each.boxes for each in used],
            key=config.seed,
            ids=[each.id for each in used],
            out=out,
            micro_batch=config.micro_batch,
            on_progress=advance,
        )
    return _reported(whole, config, tuning, out, skipped)


@contextmanager
def _told_what_is_kept(out: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: every finished point is kept in {out}, and the same command goes on"
            " there"
        ) from None


def chosen_share(count: int, share: float) -> list[int]:
    """The images that choose the winner, spread evenly; every second one for a half. All where the
    share is 1.

    Raises InputError for so few images that one side has none.
    """
    chosen = [i for i in range(count) if math.floor((i + 1) * share) > math.floor(i * share)]
    if share < 1 and not 0 < len(chosen) < count:
        raise InputError(
            f"tune_on is {share}, and there are {count} images: give more images, or choose on all"
            " with 1.0"
        )
    return chosen


def _images(
    config: SweepConfig, classifier: Classifier, source: Any
) -> tuple[list[PreparedExample], list[str]]:
    read = list(
        prepare_examples(source, evenly_spaced(len(source), config.limit), classifier.preprocessing)
    )
    used = [each for each in read if isinstance(each, PreparedExample)]
    skipped = [each.reason for each in read if not isinstance(each, PreparedExample)]
    if not used:
        raise InputError(
            f"{source.name} gives no image that can be used{': ' + skipped[0] if skipped else ''}:"
            " check the data"
        )
    return used, skipped


def _targets(
    config: SweepConfig, classifier: Classifier, source: Any, used: Sequence[PreparedExample]
) -> np.ndarray | None:
    if config.targets == "prediction":
        return None
    numbers = class_numbers(source.class_names, classifier.class_names)
    targets = np.asarray([class_number(numbers, each.label) for each in used])
    if (targets < 0).any():
        lacking = used[int(np.flatnonzero(targets < 0)[0])]
        raise InputError(
            f'the network has no class for the label of {lacking.id}: write targets = "prediction"'
        )
    return targets


def _reported(
    whole: Sweep, config: SweepConfig, tuning: Sequence[int], out: Path, skipped: Sequence[str]
) -> Result:
    """Everything that is written of a finished sweep."""
    tuned = whole.of_images(tuning)
    others = [i for i in range(len(whole.ids)) if i not in set(tuning)]
    held = whole.of_images(others) if others else None
    quality = dict(config.quality) or whole.default_quality()
    ranked = tuned.rank(quality) if quality else np.zeros(0, int)
    files = _write_tables(tuned, held, quality, ranked, out)
    if not len(ranked):
        why = next(filter(None, whole.notes), "no metric has a better side: write [quality]")
        raise InputError(
            f"no point could be ranked, so there is no winner ({why}); {out / 'table.csv'} has"
            " every point"
        )
    winner = int(ranked[0])
    judged = (
        f"{tuned.entries[winner].label}: {_told(tuned, quality, winner)} on the {len(tuned.ids)}"
        " images that chose it"
    )
    if held is not None:
        judged += f"; {_told(held, quality, winner)} on the {len(held.ids)} others"
    drawn: dict[str, Figure] = {
        "pareto": sweep_figures.pareto(tuned, quality),
        "parallel": sweep_figures.parallel(tuned, quality),
    }
    if sum(axis.numeric for axis in varying(tuned.entries)) >= 2:
        drawn["heatmap"] = sweep_figures.heatmap(tuned, quality=quality)
    for name, figure in drawn.items():
        explanation_figures.save(figure, out / f"{name}.png")
        files.append(out / f"{name}.png")
    comments = [
        f"the best of {len(whole.entries)} settings by {formula(quality, whole.metrics)}",
        judged,
    ]
    files.append(export_preset.save(whole.entries[winner], out / "winner.toml", comments))
    failed = sum(not math.isfinite(value) for value in tuned.quality(quality))
    summary = (
        f"{len(whole.entries)} points, {len(whole.ids)} images, quality ="
        f" {formula(quality, whole.metrics)}"
    )
    summary += f"\nthe best: {judged}"
    summary += (
        f"\n  {failed} points could not be ranked, see the notes in table.md" if failed else ""
    )
    summary += "".join(f"\n  skipped: {reason}" for reason in skipped)
    return Result(
        _rows(tuned, quality, ranked[:PRINTED].tolist()),
        summary,
        [images.printable(file) for file in files],
    )


def _write_tables(
    tuned: Sweep, held: Sweep | None, quality: Quality, ranked: np.ndarray, out: Path
) -> list[Path]:
    """table.csv and table.parquet: every point on the images that choose. table.md: these, and the
    best on the others."""
    rows = tuned.table(quality)
    order = [
        *ranked.tolist(),
        *(i for i in range(len(tuned.entries)) if i not in set(ranked.tolist())),
    ]
    text = f"## Every point, on {len(tuned.ids)} images\n\n{tables.markdown(tuned, quality, order)}"
    if held is not None and len(ranked):
        best = list(dict.fromkeys([int(ranked[0]), *tuned.pareto(quality).tolist()]))
        text += (
            f"\n## The winner and the front, on the {len(held.ids)} images that did not choose\n\n"
        )
        text += tables.markdown(held, quality, best)
    files = [out / f"table.{kind}" for kind in ("md", "csv", "parquet")]
    write_whole(files[0], lambda file: file.write(text.encode()))
    write_whole(files[1], lambda file: file.write(tables.csv(rows).encode()))
    write_whole(files[2], lambda file: pq.write_table(rows, file))
    return files


def _told(sweep: Sweep, quality: Quality, i: int) -> str:
    value = float(sweep.quality(quality)[i])
    return f"quality {format_estimate(value, sweep.quality_interval(quality, i))}"


def _rows(sweep: Sweep, quality: Quality, points: Sequence[int]) -> list[dict[str, Any]]:
    found = sweep.quality(quality)
    values = {name: sweep.values(name) for name in sweep.metrics}
    return [
        {
            "point": int(i),
            "settings": label(sweep.points[i]),
            "evaluations": float(sweep.evaluations[i]),
        }
        | {sweep.metrics[name].name: finite(float(each[i])) for name, each in values.items()}
        | {"quality": finite(float(found[i]))}
        for i in points
    ]
