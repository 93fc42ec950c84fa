"""What one point gave: diagnostics and statistics of every image, and why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mdm_jax.errors import InputError
from mdm_jax.evaluation.benchmark import Cost, failures
from mdm_jax.evaluation.evaluate import Explainer, Scene, measure
from mdm_jax.evaluation.statistics import Measured
from mdm_jax.metrics import Metric
from mdm_jax.types import Explanation, Predict, Status

DIAGNOSTICS = ("target", "kept_area", "objective", "steps", "evaluations", "forwards", "status")
"""fields of Info that are kept, one number an image"""


@dataclass(frozen=True)
class Outcome:
    """One point, solved and scored."""

    diagnostics: Mapping[str, np.ndarray]
    """[n] each, of `DIAGNOSTICS`"""
    measured: Mapping[str, Measured]
    """by metric id"""
    notes: Mapping[str, str] = field(default_factory=dict)
    """why a metric could not be measured, or under "" why no metric was"""

    @property
    def evaluations(self) -> float:
        """Network evaluations with a gradient, mean over images."""
        return self._cost.evaluations

    @property
    def forward_passes(self) -> float:
        """Network evaluations in forward passes, one with a gradient as three, mean over images."""
        return self._cost.equivalent

    @property
    def _cost(self) -> Cost:
        return Cost(
            *(float(np.mean(self.diagnostics[name])) for name in ("evaluations", "forwards"))
        )

    @property
    def failures(self) -> dict[str, int]:
        """Images without an explanation, by the name of the status."""
        return failures(self.diagnostics["status"])

    @property
    def note(self) -> str:
        """All that is to be said, in one line; nothing where all went well."""
        told = [text if not name else f"{name}: {text}" for name, text in self.notes.items()]
        some = (
            []
            if "" in self.notes
            else [f"{count} images {name}" for name, count in self.failures.items()]
        )
        return "; ".join(told + some)

    def of(self, images: Sequence[int]) -> Outcome:
        """The same of some images only, ascending."""
        chosen = np.asarray(images, int)
        return Outcome(
            {name: values[chosen] for name, values in self.diagnostics.items()},
            {name: _some(each, chosen) for name, each in self.measured.items()},
            self.notes,
        )


def _some(measured: Measured, chosen: np.ndarray) -> Measured:
    return Measured(
        measured.statistics[np.isin(measured.rows, chosen)],
        np.flatnonzero(np.isin(chosen, measured.rows)),
    )


def score(
    explanation: Explanation,
    scene: Scene,
    asked: Mapping[str, Metric],
    network: Predict,
    explainer: Explainer,
    key: object,
    micro_batch: int | None,
) -> Outcome:
    """Measure one point's maps; `scene` holds the images and their truth. What cannot be measured
    is a note."""
    diagnostics = {name: np.asarray(getattr(explanation.info, name)) for name in DIAGNOSTICS}
    if reason := _useless(explanation):
        return Outcome(diagnostics, {}, {"": reason})
    scene = scene._replace(saliency=explanation.saliency, attribution=explanation.saliency)
    measured: dict[str, Measured] = {}
    notes: dict[str, str] = {}
    for name, metric in asked.items():
        try:
            measured[name] = measure(
                metric,
                network,
                scene,
                key=key,  # type: ignore[arg-type]
                explainer=explainer,
                micro_batch=micro_batch,
            )
        except InputError as error:
            notes[name] = str(error)
    return Outcome(diagnostics, measured, notes)


def _useless(explanation: Explanation) -> str:
    """Why the maps of a point say nothing, or "" where they do."""
    status = np.asarray(explanation.info.status)
    if not np.isfinite(explanation.saliency).all():
        return "the maps hold NaN"
    if (status == Status.NOT_FINITE).all():
        return "outputs or gradients were not finite for any image"
    if (status == Status.CONSTANT).all():
        return "the activation was the same as on the fill alone for every image"
    return ""
