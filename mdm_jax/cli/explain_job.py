"""The work of `mdm explain`: what each method says of each image, and the files of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mdm_jax import explain_batch, nodes, plugins
from mdm_jax.cli.explain_targets import Problems
from mdm_jax.cli.explanation_rows import activations, columns, describe_status
from mdm_jax.cli.written_explanation import (
    PictureTexts,
    SheetMap,
    WrittenExplanation,
    save_sheet,
)
from mdm_jax.execution.timing import Timing, stopwatch
from mdm_jax.methods import ConfiguredMethod
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.fingerprint import network_fingerprint
from mdm_jax.storage import part_names
from mdm_jax.text_files import file_id
from mdm_jax.types import Explanation, Status
from mdm_jax.views.map_pictures import Photograph, ShownMap

# Characters of a file's name in the names of its results, which file systems bound.
MAX_STEM = 60

# Nodes whose activation says how sure the network is.
CONFIDENCES = ("probability", "sigmoid")


class Question(NamedTuple):
    """A method, and what it explains."""

    method: ConfiguredMethod
    node: Any

    @property
    def has_elements(self) -> bool:
        """Whether targets are numbers of something else than classes."""
        return isinstance(nodes.resolve(self.node), nodes.Entry)

    @property
    def node_name(self) -> str:
        return str(getattr(self.node, "__name__", self.node))

    @property
    def identity(self) -> str:
        """What makes a map another one, whatever the method was called."""
        settings = part_names.describe(self.method.config)
        return json.dumps([self.method.name, settings, part_names.describe(self.node)])


class Images(NamedTuple):
    """The image files that could be read."""

    files: Sequence[Path]
    inputs: np.ndarray
    """[n, h, w, c], as the network sees them"""
    photographs: Sequence[Photograph]

    @property
    def stems(self) -> list[str]:
        """How the names of their results begin."""
        return _result_stems(self.files)


@dataclass
class Done:
    """What was explained so far."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    timing: Timing = field(default_factory=Timing)
    maps: dict[int, list[SheetMap]] = field(default_factory=dict)
    """of each image, by its number"""


@dataclass(frozen=True)
class Job:
    """What is explained of which images, by a network."""

    classifier: Classifier
    images: Images
    problems: Problems
    probabilities: np.ndarray | None
    """of each image and class, where the nodes do not say it"""
    questions: Sequence[Question]
    seed: int
    micro_batch: int | None
    out: Path
    notes: Sequence[str] = ()
    """what every picture says"""

    @property
    def count(self) -> int:
        """Maps in all."""
        return len(self.questions) * len(self.problems.images)

    def explain(
        self, question: Question, on_progress: Callable[[int], None]
    ) -> tuple[Explanation, Timing]:
        """What one method says of every image and class, and how long it took.

        Raises InputError where the method cannot explain the network."""
        before = self.questions.index(question) * len(self.problems.images)
        with stopwatch() as timing:
            explanation = explain_batch.explain(
                self.classifier,
                self.images.inputs[self.problems.images],
                self.problems.targets,
                method=question.method,
                node=question.node,
                key=self.seed,
                ids=[self.images.files[i].name for i in self.problems.images],
                micro_batch=self.micro_batch,
                on_progress=lambda done: on_progress(before + done),
            )
        return explanation, timing

    def save(
        self, question: Question, explanation: Explanation, timing: Timing, done: Done
    ) -> None:
        """Write the files of what one method said, and note its rows."""
        method, are_several = question.method, len(self.questions) > 1
        settings = _describe_settings(self._fingerprint, question, self.seed)
        for row, i in enumerate(self.problems.images):
            one: Explanation = jax.tree.map(lambda leaf, row=row: leaf[row], explanation)
            target, name = self._target(question, one)
            file = str(self.images.files[i])
            kind = "target" if question.has_elements else "class"
            subject = {"file": file, kind: target, "name": name}
            asked = {"method": method.label, "node": question.node_name}
            done.rows.append(subject | asked | columns(explanation, row, timing))
            warned = f"{file}, {kind} {target}"
            if are_several:
                warned += f", {method.label}"
            done.warnings += describe_status(explanation, row, warned)
            before, after = map(_number, activations(explanation, row))
            shown = ShownMap(
                one.saliency,
                name if question.has_elements else f"class “{name}”",
                self._answer(question, i, target, before),
                method.label,
                Status(int(one.info.status)),
                method.method.is_pixelwise,
            )
            short = file_id(self.images.files[i].name)
            written = WrittenExplanation(short, self.images.inputs[i], one, settings)
            prefix = written.free_prefix(
                self.out / f"{self.images.stems[i]}-{kind}{target}",
                method.label if are_several else method.name,
                with_method=are_several,
            )
            masked = f"{before} before and {after} after masking"
            texts = PictureTexts(
                f"{short}, {self.classifier.name}",
                f"{short}: {shown.explained}, {question.node_name} {masked}\n"
                f"{method.label}, {self.classifier.name}",
                self.notes,
            )
            photograph = self.images.photographs[i]
            done.files += written.save(prefix, photograph, shown, texts)
            done.maps.setdefault(i, []).append(SheetMap(shown, target, settings))
        done.timing.total += timing.total
        done.timing.compiling += timing.compiling

    def save_sheets(self, done: Done) -> list[str]:
        """Write a sheet for each image of which there are several maps; the files."""
        sheets = []
        for i, maps in done.maps.items():
            if len(maps) == 1:
                continue
            name = file_id(self.images.files[i].name)
            sheet = save_sheet(
                self.out / self.images.stems[i],
                self.images.photographs[i],
                self.images.inputs[i],
                maps,
                PictureTexts(f"{name}, {self.classifier.name}", "", self.notes),
            )
            sheets.append(sheet)
        return sheets

    @cached_property
    def _fingerprint(self) -> dict[str, Any]:
        return network_fingerprint(self.classifier)

    def _target(self, question: Question, one: Explanation) -> tuple[int, str]:
        """The number and the name of what is explained."""
        target = int(one.info.target)
        if question.has_elements:
            return target, f"{question.node_name} {target}"
        return target, self.classifier.class_names[target]

    def _answer(self, question: Question, i: int, target: int, activation: str) -> str:
        """What the network says of a target on image `i`."""
        if question.has_elements:
            return f"activation {activation}"
        answer = f"{question.node_name} {activation}"
        if self.probabilities is not None and question.node not in CONFIDENCES:
            answer = f"probability {self.probabilities[i, target]:.3f}, {answer}"
        return answer


def _describe_settings(fingerprint: dict[str, Any], question: Question, seed: int) -> str:
    """What maps are made with, besides image and target, as JSON."""
    method, node = question
    described = {
        "network": fingerprint,
        "method": method.name,
        "node": part_names.describe(node),
        "config": part_names.describe(method.config),
        "seed": seed,
        "outside": plugins.reference_checksums(method.name, node, method.config),
    }
    return json.dumps(described, sort_keys=True)


def _number(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.3f}"


def _result_stems(files: Sequence[Path]) -> list[str]:
    """Names for the results: the file's own without its suffix, shortened, numbered where two would
    be the same."""
    stems: list[str] = []
    taken: set[str] = set()
    for file in files:
        short = file.stem[:MAX_STEM]
        stem = short
        numbers = itertools.count(2)
        # Some file systems do not tell upper from lower case.
        while stem.casefold() in taken:
            stem = f"{short}-{next(numbers)}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems
