"""`mdm demo`: explain test digits, whose decisive pixels are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from mdm_jax import explain_batch
from mdm_jax.cli.console import RESULT_PARTS, Result, Terminal
from mdm_jax.cli.explanation_rows import columns, describe_status, describe_time, units
from mdm_jax.cli.options import MethodOptions
from mdm_jax.config import MDMConfig
from mdm_jax.data.digits import Digits
from mdm_jax.data.source import Example
from mdm_jax.errors import InputError
from mdm_jax.execution.timing import stopwatch
from mdm_jax.metrics import energy_pointing
from mdm_jax.models.pretrained import load_model
from mdm_jax.progress import task
from mdm_jax.storage import claims
from mdm_jax.types import Explanation
from mdm_jax.views import explanation_figures

# Digits in the figure, however many the table has.
FIGURE_DIGITS = 16
FILES = ("demo.png", "learning.gif", "results.json")
DEMO = claims.Kind(
    "demo",
    (*FILES, claims.options_file("demo")),
    lambda folder: claims.has_settings(folder / "results.json", RESULT_PARTS),
)
DigitNetwork = Literal["resnet", "densenet", "vit"]


@dataclass(frozen=True, kw_only=True)
class DemoCommand(MethodOptions):
    """Explain digits of the embedded test set with an embedded network.

    The pixels that decide are known here: those of the digit. OUT holds a figure, an animation of a
    mask that is learned, and every row of the table.

    Examples:
      mdm demo
      mdm demo --model vit
      mdm demo --limit 32 --out figures
      mdm demo --preset paper --json
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"--count": "--limit"}

    method: tyro.conf.Suppress[Literal["mdm"]] = "mdm"
    node: tyro.conf.Suppress[str | None] = None
    model: Annotated[DigitNetwork, tyro.conf.arg(help="the embedded network")] = "resnet"
    limit: int = 16
    """test digits to explain, from the first one"""
    out: Path = Path("mdm-demo")
    """folder for the figure, the animation and the results"""

    def run(self, terminal: Terminal) -> Result:
        """Explain the digits and write the figure, the animation and the table."""
        config = self.resolve().config
        source = Digits("test")
        if not 1 <= self.limit <= len(source):
            raise InputError(f"--limit is {self.limit}: give 1 to {len(source)}")
        classifier = load_model(self.model)
        claims.check(self.out, DEMO)
        examples = [source[i] for i in range(self.limit)]
        showing = task(terminal.progress, "explaining digits", self.limit)
        with showing as advance, stopwatch() as timing:
            explanation = explain_batch.explain(
                classifier,
                np.stack([example.image for example in examples]),
                config=config,
                node=self.node,
                key=self.seed,
                ids=[example.id for example in examples],
                micro_batch=self.micro_batch,
                trace=True,
                on_progress=advance,
            )
        energies = _energies(explanation, examples)
        predictions = [int(target) for target in explanation.info.target]
        rows: list[dict[str, Any]] = []
        for i, example in enumerate(examples):
            name = {"id": example.id, "label": example.label, "prediction": predictions[i]}
            rows.append(name | columns(explanation, i, timing, energy=float(energies[i])))
        right = sum(row["label"] == row["prediction"] for row in rows)
        chance = np.mean([np.mean(np.asarray(example.mask)) for example in examples])
        summary = (
            f"mean energy inside the digit {energies.mean():.3f} (chance {chance:.3f}),"
            f" {right} of {self.limit} predictions right, {describe_time(timing, self.limit)}"
        )
        notes = []
        for row, example in enumerate(examples):
            notes += describe_status(explanation, row, example.id)
        files = [str(self.out / name) for name in FILES]
        result = Result(
            rows,
            summary,
            files,
            out=self.out,
            notes=notes,
            units=units("probability", energy="of the map"),
        )
        claims.claim(self.out, DEMO)
        sheet = explanation_figures.demo_sheet(
            examples[:FIGURE_DIGITS], explanation, predictions, energies.tolist()
        )
        explanation_figures.save(sheet, self.out / "demo.png")
        _save_animation(examples[0], explanation, config, self.out / "learning.gif")
        result.save(self.out / "results.json", self)
        return result


def _energies(explanation: Explanation, examples: Sequence[Example]) -> np.ndarray:
    """The share of each map that lies on the digit."""
    digits = jnp.stack([np.asarray(example.mask) for example in examples])
    return np.asarray(jax.vmap(energy_pointing)(explanation.saliency, digits))


def _save_animation(
    example: Example, explanation: Explanation, config: MDMConfig, path: Path
) -> None:
    """Write how the masks of the first digit are learned."""
    trace = jax.tree.map(lambda leaf: leaf[0], explanation.trace)
    frames = explanation_figures.learning_frames(example, trace, config.stack_weights)
    explanation_figures.save_animation(frames, path)
