"""`mdm explain`: explain image files."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from contextlib import suppress
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
)
from mdm_jax.cli.options import MethodOptions, positional
from mdm_jax.errors import InputError
from mdm_jax.execution.timing import stopwatch
from mdm_jax.methods import ConfiguredMethod
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.fingerprint import network_fingerprint
from mdm_jax.models.spec import ModelSpec
from mdm_jax.progress import task
from mdm_jax.storage import arrays, part_names
from mdm_jax.storage.atomic import check_writable, make_folder
from mdm_jax.text_files import file_id
from mdm_jax.types import Explanation
from mdm_jax.views import explanation_figures

# Pixels; the short side of an overlay is the photograph's own, up to this.
MAX_OVERLAY_SIDE = 768
MIN_OVERLAY_SIDE = 256

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
    """image files: JPEG, PNG, WebP, TIFF, GIF ..."""
    target: int | None = None
    """class to explain; the network's first choice when not given"""
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
        photographs = [images.read(file) for file in self.files]
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
                ids=[self.files[i].name for i in problems.images],
                micro_batch=self.micro_batch,
                on_progress=advance,
            )
        make_folder(self.out)
        settings = _describe_settings(classifier, method, node, self.seed)
        rows: list[dict[str, Any]] = []
        files: list[str] = []
        warnings: list[str] = []
        stems = _result_stems(self.files)
        for row, i in enumerate(problems.images):
            target = int(explanation.info.target[row])
            before, after = map(_number, activations(explanation, row))
            if has_elements:
                kind, name = "target", f"{node} {target}"
                explained = name
            else:
                kind, name = "class", classifier.class_names[target]
                explained = f"{node} of class “{name}”"
            file = str(self.files[i])
            rows.append({"file": file, kind: target, "name": name})
            rows[-1] |= columns(explanation, row, timing)
            warnings += describe_status(explanation, row, f"{file}, {kind} {target}")
            short = file_id(self.files[i].name)
            title = f"{short}: {explained}, {before} before and {after} after masking"
            one = jax.tree.map(lambda leaf, row=row: leaf[row], explanation)
            written = _Written(short, photographs[i], inputs[i], one, title, settings)
            stem = f"{stems[i]}-{kind}{target}"
            prefix = written.free_prefix(self.out / stem, method.name)
            files += written.save(prefix, classifier)
        summary = f"network {classifier.name}, {describe_time(timing, len(rows))}"
        return Result(rows, summary, files, out=self.out, notes=warnings)

    def _element_problems(self, count: int) -> _Problems:
        """For a node whose targets are no classes, such as the number of a prototype."""
        if self.top != 1:
            raise InputError(
                f"--top is for nodes of classes: with --node {self.node} give --target, or neither"
            )
        if self.target is None:
            return _Problems(list(range(count)), None)
        if self.target < 0:
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
            if not 0 <= self.target < classes:
                raise InputError(
                    f"--target {self.target} is out of range: the network has {classes} classes, 0"
                    f" to {classes - 1}"
                )
            return _Problems(each, np.full(len(inputs), self.target))
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


class _Written(NamedTuple):
    """What is written of one explanation."""

    name: str
    photograph: PIL.Image.Image
    image: np.ndarray
    """the photograph as the network sees it"""
    explanation: Explanation
    title: str
    settings: str
    """what the map was made with, as `_describe_settings` gives it"""

    def free_prefix(self, prefix: Path, method: str) -> Path:
        """How the files' names begin: as the prefix says, else with the method's name behind it,
        then numbered. Nothing is overwritten but the same explanation made before."""
        stem, name = prefix.name, f"{prefix.name}-{arrays.file_name(method)}"
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        for each in itertools.chain((stem, name), numbered):
            prefix = prefix.with_name(each)
            if not any(map(os.path.lexists, _files(prefix))) or self._is_there(prefix):
                return prefix
        raise AssertionError  # never reached: numbers do not end

    def _is_there(self, prefix: Path) -> bool:
        """Whether the arrays of the same explanation stand under a prefix."""
        with suppress(InputError):
            own: dict[str, Any] = {
                "image_file": self.name,
                "settings": self.settings,
                "image": self.image,
            }
            stored = arrays.read_arrays(_files(prefix)[-1], tuple(own))
            return stored.keys() == own.keys() and all(
                np.array_equal(stored[name], value) for name, value in own.items()
            )
        return False

    def save(self, prefix: Path, classifier: Classifier) -> list[str]:
        """Write the overlay, the masks and the arrays; their files."""
        overlay, sheet, values = _files(prefix)
        large = images.to_array(self._large_photograph(classifier))
        painted = explanation_figures.overlay(large, self.explanation.saliency)
        explanation_figures.save_png(painted, overlay)
        masks = explanation_figures.masks_sheet(self.image, self.explanation, self.title)
        explanation_figures.save(masks, sheet)
        content = self._arrays()
        arrays.write_arrays(values, content)
        return [str(path) for path in (overlay, sheet, values)]

    def _large_photograph(self, classifier: Classifier) -> PIL.Image.Image:
        """The part of the photograph that the network sees, in the size of an overlay."""
        preprocessing = classifier.preprocessing
        height, width = self.image.shape[:2]
        side = max(min(*self.photograph.size, MAX_OVERLAY_SIDE), MIN_OVERLAY_SIDE)
        scale = max(1.0, side / min(height, width))
        return images.fit(
            self.photograph,
            (round(height * scale), round(width * scale)),
            crop=preprocessing.crop,
            interpolation="bicubic",
            mode=preprocessing.crop_mode,
        )

    def _arrays(self) -> dict[str, Any]:
        explanation = self.explanation
        content: dict[str, Any] = {
            "image_file": self.name,
            "settings": self.settings,
            "image": self.image,
            "saliency": explanation.saliency,
        }
        for name in ("attribution", "evidence", "ranking"):
            if getattr(explanation, name) is not None:
                content[name] = getattr(explanation, name)
        for k, vector in enumerate(explanation.mask_vectors):
            content[f"mask_vector_{k}"] = vector
        for name, value in explanation.info._asdict().items():
            if name != "terms":
                content[name] = np.asarray(value)
        for name, value in explanation.info.terms.items():
            content[f"term_{name}"] = np.asarray(value)
        return content


def _files(prefix: Path) -> tuple[Path, Path, Path]:
    """Overlay, masks and arrays of an explanation."""
    overlay, sheet, values = (
        prefix.with_name(prefix.name + end)
        for end in ("-overlay.png", "-masks.png", ".npz")
    )
    return overlay, sheet, values


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
