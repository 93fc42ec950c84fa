"""The result of one point: diagnostics and statistics of every image, and why some are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Array, Key

from mdm_jax.errors import InputError
from mdm_jax.evaluation.cost import Cost, count_failures
from mdm_jax.evaluation.measure import Explainer, measure
from mdm_jax.evaluation.scene import Scene
from mdm_jax.evaluation.statistics import Measured
from mdm_jax.metrics import Metric
from mdm_jax.types import Explanation, Predict, Status

# Fields of Info that are stored, one number an image.
DIAGNOSTICS = (
    "target",
    "kept_area",
    "objective",
    "steps",
    "evaluations",
    "forwards",
    "status",
)


@dataclass(frozen=True)
class PointResult:
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
        evaluations, forwards = (
            float(np.mean(self.diagnostics[name])) for name in ("evaluations", "forwards")
        )
        return Cost(evaluations, forwards)

    @property
    def failures(self) -> dict[str, int]:
        """Images without an explanation, by the name of the status."""
        return count_failures(self.diagnostics["status"])

    @property
    def note(self) -> str:
        """Everything that went wrong, in one line; "" where nothing did."""
        lines = [f"{name}: {text}" if name else text for name, text in self.notes.items()]
        # a note about the whole point already says what failed
        if "" not in self.notes:
            lines += [f"{count} images {name}" for name, count in self.failures.items()]
        return "; ".join(lines)

    def of_images(self, images: Sequence[int]) -> PointResult:
        """The result on some images only, by their numbers, ascending."""
        chosen = np.asarray(images, int)
        return PointResult(
            {name: values[chosen] for name, values in self.diagnostics.items()},
            {name: _of_images(each, chosen) for name, each in self.measured.items()},
            self.notes,
        )


def _of_images(measured: Measured, chosen: np.ndarray) -> Measured:
    rows = np.flatnonzero(np.isin(chosen, measured.rows))
    return Measured(measured.statistics[np.isin(measured.rows, chosen)], rows)


def score_point(
    explanation: Explanation,
    scene: Scene,
    metrics: Mapping[str, Metric],
    network: Predict,
    explainer: Explainer,
    key: Key[Array, ""],
) -> PointResult:
    """Measure one point's maps; what cannot be measured is a note.

    `scene` holds the images and their truth; its maps are replaced by those of the explanation.
    """
    diagnostics = {
        name: np.asarray(getattr(explanation.info, name)) for name in DIAGNOSTICS
    }
    if reason := _why_useless(explanation):
        return PointResult(diagnostics, {}, {"": reason})
    saliency, ranking = explanation.saliency, explanation.ranking
    scene = scene._replace(
        saliency=saliency,
        # MDM's maps have no sign
        attribution=saliency,
        ranking=saliency if ranking is None else ranking,
    )
    measured: dict[str, Measured] = {}
    notes: dict[str, str] = {}
    for name, metric in metrics.items():
        # other metrics of the point, and other points, are worth having all the same
        try:
            measured[name] = measure(metric, network, scene, key=key, explainer=explainer)
        except InputError as error:
            notes[name] = str(error)
    return PointResult(diagnostics, measured, notes)


def _why_useless(explanation: Explanation) -> str:
    """Why the maps of a point say nothing, or "" where they do."""
    status = np.asarray(explanation.info.status)
    if not np.isfinite(explanation.saliency).all():
        return "the maps hold NaN"
    if (status == Status.NOT_FINITE).all():
        return "outputs or gradients were not finite for any image"
    if (status == Status.CONSTANT).all():
        return "the activation was the same as on the fill alone for every image"
    if (status == Status.EMPTY).all():
        return "every pixel of a map has the same value, for every image"
    return ""
