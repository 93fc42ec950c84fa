"""`mdm benchmark`: compare methods on networks and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from mdm_jax import metrics
from mdm_jax.cli.console import Result, Terminal
from mdm_jax.cli.options import Options
from mdm_jax.errors import InputError, unknown
from mdm_jax.evaluation import benchmark, table_text, tables, win_matrix, win_matrix_text
from mdm_jax.evaluation.benchmark import Results
from mdm_jax.evaluation.benchmark_config import BenchmarkConfig
from mdm_jax.metrics import Metric
from mdm_jax.models.architectures import is_known
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.pretrained import load_model
from mdm_jax.storage import arrays
from mdm_jax.storage.atomic import write_text
from mdm_jax.views import benchmark_figures, explanation_figures, win_matrix_figure

# Images; a PNG holds no more rows than 2^16 pixels.
MAX_GRID = 100


@dataclass(frozen=True, kw_only=True)
class BenchmarkCommand(BenchmarkConfig, Options):
    """Compare methods on networks and images.

    OUT holds a table with intervals, figures, and every map and score. The same command again goes
    on where it was stopped; a method, a metric or more images cost only themselves. An unknown name
    in --methods or --metrics lists what may be chosen.

    Examples:
      mdm benchmark --models resnet vit --limit 100 --metrics insertion deletion energy
      mdm benchmark --models resnet50=timm/resnet50.tv_in1k --data folder:photos --split val
      mdm benchmark --methods mdm mdm:preset=paper rise:num_samples=1000 --reference mdm
      mdm benchmark --models vit=runs/vit --data tfds:mnist --only-correct --out compared
      mdm benchmark --methods mdm grad_cam rise --win-matrix --budget 90 --costly-limit 20
    """

    win_matrix: bool = False
    """also write where the reference is first, tied or lost, and to whom (win_matrix.md, .csv and
    .png)"""

    def run(self, terminal: Terminal) -> Result:
        """Compute what is missing, then write table.md, table.csv, and for each network a table, a
        figure and a grid of maps."""
        self.resolve()
        judge = self._judge()
        results = benchmark.run(
            self,
            model_loaders(self.models, self.image_size),
            self.open(),
            data=f"{self.data}:{self.split}",
            progress=terminal.progress,
        )
        table = tables.build(results, self.reference)
        files = [self.out / "table.md", self.out / "table.csv"]
        for path, text in zip(
            files, (table_text.markdown(table), table_text.to_csv(table))
        ):
            write_text(path, text)
        for model in table.models:
            files += self._save_figures(results, table, model, judge)
        notes = [*table.notes, *table_text.missing(table)]
        if self.win_matrix:
            counts, written = self._write_win_matrix(results, table.reference)
            notes += counts
            files += written
        records = table_text.to_records(table)
        return Result(records, "", list(map(str, files)), out=self.out, notes=notes)

    def _write_win_matrix(
        self, results: Results, reference: str
    ) -> tuple[list[str], list[Path]]:
        """Write the win matrix against all rivals and against those of a similar cost; its counts
        in words, and its files."""
        matrices = [
            win_matrix.compare(
                results.entries, results.metrics, reference, cost_limit=cost_limit
            )
            for cost_limit in (None, win_matrix.SIMILAR_COST)
        ]
        files = [self.out / f"win_matrix.{kind}" for kind in ("md", "csv", "png")]
        write_text(files[0], win_matrix_text.document(matrices))
        write_text(files[1], win_matrix_text.to_csv(matrices))
        explanation_figures.save(win_matrix_figure.draw(matrices[0]), files[2])
        return [win_matrix_text.describe_counts(each) for each in matrices], files

    def _judge(self) -> Metric | None:
        """The metric of --worst. Raises InputError for what the figures cannot show."""
        if self.reference is not None and self.reference not in self.methods:
            raise unknown("reference", self.reference, self.methods)
        if not 0 <= self.grid <= MAX_GRID:
            raise InputError(f"--grid is {self.grid}: give 0 to {MAX_GRID} images")
        if self.worst is None:
            return None
        judge = metrics.find(self.worst)
        measured = {metrics.find(each).id for each in self.metrics}
        if judge.id not in measured or judge.better == "none":
            raise InputError(
                f"--worst is {self.worst!r}: give one of the metrics that are measured, which has a"
                " better and a worse"
            )
        return judge

    def _save_figures(
        self, results: Results, table: tables.Table, model: str, judge: Metric | None
    ) -> list[Path]:
        """Draw a network's figures; their files."""
        figures: dict[str, Figure | None] = {
            "table": benchmark_figures.picture(table, model),
            "cost": benchmark_figures.quality_against_cost(table, model),
        }
        if self.grid:
            figures["maps"] = benchmark_figures.map_grid(results, model, self.grid)
        if self.grid and judge is not None:
            worst = (table.reference, judge.id)
            figures["worst"] = benchmark_figures.map_grid(results, model, self.grid, worst)
        files = []
        for name, figure in figures.items():
            if figure is not None:  # a figure with nothing to show is not drawn
                path = self.out / arrays.file_name(model) / f"{name}.png"
                explanation_figures.save(figure, path)
                files.append(path)
        return files


def model_loaders(
    models: Sequence[str], image_size: int | None
) -> dict[str, Callable[[], Classifier]]:
    """How each of `NAME`, `NAME=WEIGHTS`, `LABEL=WEIGHTS` or the place of weights is loaded, by its
    label.

    Raises InputError for two of one label.
    """
    loaders: dict[str, Callable[[], Classifier]] = {}
    for text in models:
        label, equals, place = text.partition("=")
        if not equals and _is_place(text):
            label, place = "-".join(Path(text).parts[-2:]), text
        if label in loaders:
            raise InputError(
                f"two models are called {label}: write LABEL={place or text} to tell them apart"
            )
        # A label that is no architecture leaves it to the weights to say theirs.
        name = label if _is_architecture(label) or not place else None
        loaders[label] = partial(
            load_model, name, weights=place or None, image_size=image_size
        )
    if not loaders:
        raise InputError("no models: give one or more, such as resnet vit")
    return loaders


def _is_place(text: str) -> bool:
    """Whether the name of a model is where its weights lie."""
    return ("/" in text or Path(text).exists()) and not _is_architecture(text)


def _is_architecture(name: str) -> bool:
    return is_known(name.partition(".")[0])
