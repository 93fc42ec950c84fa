"""`mdm explain`: explain image files."""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import numpy as np
import PIL.Image
import tyro

from mdm_jax import explain_batch, images, nodes, plugins
from mdm_jax.cli.console import Result, Terminal
from mdm_jax.cli.explanation_rows import (
    activations,
    columns,
    describe_status,
    describe_time,
    units,
)
from mdm_jax.cli.options import MethodOptions, positional
from mdm_jax.cli.written_explanation import WrittenExplanation
from mdm_jax.errors import InputError
from mdm_jax.execution.timing import stopwatch
from mdm_jax.methods import ConfiguredMethod
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.fingerprint import network_fingerprint
from mdm_jax.models.spec import ModelSpec
from mdm_jax.progress import task
from mdm_jax.storage import part_names
from mdm_jax.storage.atomic import check_writable, make_folder
from mdm_jax.text_files import file_id

# Exit code where some files could not be read; the others are explained.
UNEXPLAINED = 3

# Characters of a file's name in the names of its results, which file systems bound.
MAX_STEM = 60


@dataclass(frozen=True, kw_only=True)
class ExplainCommand(ModelSpec, MethodOptions):
    """Explain image files.

    OUT holds for each file and class an overlay, the learned masks, and an .npz with everything.
    Nothing there is overwritten: another method or other settings give other names.

    Examples:
      mdm explain photo.jpg --model resnet50 --weights timm/resnet50.tv_in1k
      mdm explain photo.jpg --model resnet50 --method rise:num_samples=1000
      mdm explain photos/*.png --model vit_base_patch16_224 --top 3 --out maps
      mdm explain scan.png --weights my_network/ --target 7 --config my_mdm.toml
      mdm explain scan.png --model densenet121 --weights old_densenet121.safetensors
      mdm explain digit.png --method 'mdm:fill=my_fills.py:checkerboard' --node my_nodes.py:margin
    """

    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], positional("FILE ...")] = ()
    """image files: JPEG, PNG, WebP, TIFF, GIF ...; those that cannot be read are left out, and the
    exit code is 3"""
    target: int | str | None = None
    """class to explain, by number or name; the network's first choice when not given"""
    top: int = 1
    """explain the K most likely classes of each image"""
    KEEPS_EARLIER: ClassVar[bool] = True
    out: Path = Path("mdm-explain")
    """folder for the results"""

    def run(self, terminal: Terminal) -> Result:
        """Explain each file and class, and write an overlay, the masks and an .npz for it."""
        if not self.files:
            raise InputError(
                "no image files: give one or more, for example mdm explain photo.jpg"
            )
        method = self.resolve()
        node = method.default_node if self.node is None else self.node
        # What is wrong with the node or a file is said before a network is loaded.
        has_elements = isinstance(nodes.resolve(node), nodes.Entry)
        files, photographs, unreadable = _read_all(self.files)
        if not files:
            raise InputError("; ".join(unreadable))
        classifier = self.load()
        fitted = [classifier.preprocess(photograph) for photograph in photographs]
        inputs = np.stack(fitted)
        if has_elements:
            problems = self._element_problems(len(inputs))
        else:
            problems = self._class_problems(classifier, inputs)
        check_writable(self.out)
        showing = task(terminal.progress, "explaining", len(problems.images))
        with showing as advance, stopwatch() as timing:
            explanation = explain_batch.explain(
                classifier,
                inputs[problems.images],
                problems.targets,
                method=method.name,
                node=node,
                config=method.config,
                key=self.seed,
                ids=[files[i].name for i in problems.images],
                micro_batch=self.micro_batch,
                on_progress=advance,
            )
        make_folder(self.out)
        settings = _describe_settings(classifier, method, node, self.seed)
        rows: list[dict[str, Any]] = []
        results: list[str] = []
        warnings: list[str] = []
        stems = _result_stems(files)
        for row, i in enumerate(problems.images):
            target = int(explanation.info.target[row])
            before, after = map(_number, activations(explanation, row))
            if has_elements:
                kind, name = "target", f"{node} {target}"
                explained = name
            else:
                kind, name = "class", classifier.class_names[target]
                explained = f"{node} of class “{name}”"
            file = str(files[i])
            rows.append({"file": file, kind: target, "name": name})
            rows[-1] |= columns(explanation, row, timing)
            warnings += describe_status(explanation, row, f"{file}, {kind} {target}")
            short = file_id(files[i].name)
            title = f"{short}: {explained}, {before} before and {after} after masking"
            one = jax.tree.map(lambda leaf, row=row: leaf[row], explanation)
            written = WrittenExplanation(
                short, photographs[i], inputs[i], one, title, settings
            )
            stem = f"{stems[i]}-{kind}{target}"
            prefix = written.free_prefix(self.out / stem, method.name)
            results += written.save(prefix, classifier)
        summary = f"network {classifier.name}, {describe_time(timing, len(rows))}"
        if self.model is None and self.weights is None:
            summary += (
                "\nno network was named, so the embedded one, which knows digits, was explained:"
                " name yours by --model or --weights"
            )
        notes = [*warnings, *(f"left out: {each}" for each in unreadable)]
        code = UNEXPLAINED if unreadable else 0
        return Result(
            rows, summary, results, code, out=self.out, notes=notes, units=units(node)
        )

    def _element_problems(self, count: int) -> _Problems:
        """For a node whose targets are no classes, such as the number of a prototype."""
        if self.top != 1:
            raise InputError(
                f"--top is for nodes of classes: with --node {self.node} give --target, or neither"
            )
        if self.target is None:
            return _Problems(list(range(count)), None)
        if isinstance(self.target, str) or self.target < 0:
            raise InputError(
                f"--target {self.target} is out of range: give a whole number from 0"
            )
        return _Problems(list(range(count)), np.full(count, self.target))

    def _class_problems(self, classifier: Classifier, inputs: np.ndarray) -> _Problems:
        """For a node of classes. Raises InputError for classes that do not exist."""
        classes = len(classifier.class_names)
        if self.target is not None and self.top != 1:
            raise InputError("--target and --top exclude each other: give one of them")
        if not 1 <= self.top <= classes:
            raise InputError(f"--top {self.top} is out of range: give 1 to {classes}")
        each = list(range(len(inputs)))
        if self.target is not None:
            target = _class_of(self.target, classifier.class_names)
            return _Problems(each, np.full(len(inputs), target))
        if self.top == 1:
            return _Problems(each, None)
        # Image by image: all files in one batch may not fit into the memory.
        logits = jax.jit(lambda network, image: network(image[None])[0][0])
        best = []
        for image in inputs:
            order = np.argsort(-np.asarray(logits(classifier, image)))
            best.append(order[: self.top])
        repeated = [i for i in each for _ in range(self.top)]
        return _Problems(repeated, np.concatenate(best))


class _Problems(NamedTuple):
    """The image of each explanation, and its target: None for the network's first choice."""

    images: list[int]
    targets: np.ndarray | None


def _describe_settings(
    classifier: Classifier, method: ConfiguredMethod, node: Any, seed: int
) -> str:
    """What maps are made with, besides image and target, as JSON."""
    described = {
        "network": network_fingerprint(classifier),
        "method": method.name,
        "node": part_names.describe(node),
        "config": part_names.describe(method.config),
        "seed": seed,
        "outside": plugins.reference_checksums(method.name, node, method.config),
    }
    return json.dumps(described, sort_keys=True)


def _class_of(target: int | str, names: Sequence[str]) -> int:
    """The class of a number or a name. Raises InputError for neither."""
    if not isinstance(target, str):
        if not 0 <= target < len(names):
            raise InputError(
                f"--target {target} is out of range: the network has {len(names)} classes, 0 to"
                f" {len(names) - 1}"
            )
        return target
    sought = target.casefold()
    named = [i for i, name in enumerate(names) if name.casefold() == sought]
    if len(named) == 1:
        return named[0]
    if named:
        raise InputError(
            f"{len(named)} classes are called {target!r}: give --target one of the numbers {named}"
        )
    holding = [name for name in names if sought in name.casefold()]
    # as a word of its own before a part of one: for "cat", "tiger cat" before "oystercatcher"
    holding.sort(key=lambda name: sought not in re.findall(r"\w+", name.casefold()))
    similar = holding or difflib.get_close_matches(target, names, n=3)
    hint = f"did you mean {' or '.join(map(repr, similar[:3]))}? " if similar else ""
    raise InputError(
        f"the network has no class {target!r}: {hint}give --target a number from 0 to"
        f" {len(names) - 1}, or a class's whole name"
    )


def _read_all(
    files: Sequence[Path],
) -> tuple[list[Path], list[PIL.Image.Image], list[str]]:
    """The files that can be read, their images, and what is wrong with the others."""
    readable: list[Path] = []
    photographs: list[PIL.Image.Image] = []
    unreadable: list[str] = []
    for file in files:
        try:
            photographs.append(images.read(file))
        except InputError as error:
            unreadable.append(str(error))
        else:
            readable.append(file)
    return readable, photographs, unreadable


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
