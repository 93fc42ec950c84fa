"""`mdm explain`: explain image files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import PIL.Image
import tyro

from mdm_jax import images
from mdm_jax.cli.console import Result, Terminal
from mdm_jax.cli.explain_job import CONFIDENCES, Done, Images, Job, Question
from mdm_jax.cli.explain_targets import (
    Problems,
    check_class_options,
    class_probabilities,
    class_problems,
    element_problems,
)
from mdm_jax.cli.explanation_rows import describe_time, units
from mdm_jax.cli.options import (
    ComputeOptions,
    NodeOptions,
    Options,
    PresetOptions,
    positional,
)
from mdm_jax.config_files import in_file
from mdm_jax.errors import InputError
from mdm_jax.methods import MethodSpec
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.spec import ModelSpec
from mdm_jax.progress import task
from mdm_jax.storage.atomic import check_writable, make_folder
from mdm_jax.views.map_pictures import show_photograph

# Exit code where some files could not be read, or some methods cannot explain the network; the
# others have done their work.
UNEXPLAINED = 3

UNNAMED = (
    "no network was named, so the embedded one answered, which knows digits only: name yours by"
    " --model or --weights"
)

# A file may name one method without brackets, as files of earlier versions do.
METHODS_IN_FILE = in_file(
    str | tuple[str, ...],
    'a method such as "rise", or a list of them',
    lambda value: (value,) if isinstance(value, str) else value,
)


@dataclass(frozen=True, kw_only=True)
class ExplainCommand(ModelSpec, PresetOptions, ComputeOptions, NodeOptions, Options):
    """Explain image files.

    OUT holds for each file and class an overlay, the learned masks, and an .npz with everything; of
    several classes or methods also a sheet with all maps of a file. Nothing there is overwritten:
    another method or other settings give other names.

    Examples:
      mdm explain photo.jpg --model resnet50 --weights timm/resnet50.tv_in1k
      mdm explain photo.jpg --model resnet50 --method rise:num_samples=1000
      mdm explain photo.jpg --model resnet50 --method mdm --method grad_cam --method gradient
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
    method: tyro.conf.UseAppendAction[tuple[str, ...]] = field(
        default=("mdm",), metadata=METHODS_IN_FILE
    )
    """what explains, mdm when not given: a method, perhaps with settings as in
    rise:num_samples=1000, or a function of yours, as in my_methods.py:inverse; given again, one
    more, and a sheet shows them side by side"""
    KEEPS_EARLIER: ClassVar[bool] = True
    out: Path = Path("mdm-explain")
    """folder for the results"""

    def run(self, terminal: Terminal) -> Result:
        """Explain each file and class by each method, and write pictures and an .npz for it."""
        if not self.files:
            raise InputError(
                "no image files: give one or more, for example mdm explain photo.jpg"
            )
        # What is wrong with a method, the node or a file is said before a network is loaded.
        questions = self.questions()
        files, photographs, unreadable = _read_all(dict.fromkeys(self.files))
        if not files:
            raise InputError("; ".join(unreadable))
        classifier = self.load()
        preprocessing = classifier.preprocessing
        inputs = np.stack([preprocessing.fit(each) for each in photographs])
        problems, probabilities = self._problems(questions, classifier, inputs)
        check_writable(self.out)
        is_unnamed = self.model is None and self.weights is None
        notes = [UNNAMED] if is_unnamed else []
        shown = [show_photograph(each, preprocessing) for each in photographs]
        job = Job(
            classifier,
            Images(files, inputs, shown),
            problems,
            probabilities,
            questions,
            seed=self.seed,
            micro_batch=self.micro_batch,
            out=self.out,
            notes=notes,
        )
        done, failed = self._explain_all(job, terminal)
        summary = f"network {classifier.name}, {describe_time(done.timing, len(done.rows))}"
        left_out = [f"left out: {each}" for each in (*unreadable, *failed)]
        of_nodes = {each.node_name for each in questions}
        node = of_nodes.pop() if len(of_nodes) == 1 else "of the node"
        return Result(
            done.rows,
            "\n".join([summary, *notes]),
            done.files,
            UNEXPLAINED if left_out else 0,
            out=self.out,
            notes=[*done.warnings, *left_out],
            units=units(node),
        )

    def _explain_all(self, job: Job, terminal: Terminal) -> tuple[Done, list[str]]:
        """What was explained, and why some methods could not.

        Raises InputError where none could."""
        done = Done()
        errors: dict[str, InputError] = {}
        with task(terminal.progress, "explaining", job.count) as advance:
            for question in job.questions:
                try:
                    explanation, timing = job.explain(question, advance)
                except InputError as error:
                    # One method that cannot explain the network does not end the others.
                    errors[question.method.label] = error
                    continue
                make_folder(self.out)
                job.save(question, explanation, timing, done)
        failed = [f"{label}: {error}" for label, error in errors.items()]
        if not done.rows:
            raise (
                next(iter(errors.values()))
                if len(errors) == 1
                else InputError("; ".join(failed))
            )
        done.files += job.save_sheets(done)
        return done, failed

    def questions(self) -> list[Question]:
        """Each method with its settings and its node, once. Raises InputError for what cannot
        be."""
        questions: dict[str, Question] = {}
        for each in self.method:
            spec = MethodSpec(method=each, preset=self.preset, mdm=self.mdm)
            if each != "mdm" and "mdm" in self.method:
                # The preset and the settings are those of mdm.
                spec = MethodSpec(method=each)
            method = spec.resolve()
            node = method.default_node if self.node is None else self.node
            question = Question(method, node)
            questions.setdefault(question.identity, question)
        if len({each.has_elements for each in questions.values()}) > 1:
            raise InputError(
                "the methods explain classes and elements of a prototype network: give --node"
            )
        return list(questions.values())

    def _problems(
        self, questions: Sequence[Question], classifier: Classifier, inputs: np.ndarray
    ) -> tuple[Problems, np.ndarray | None]:
        """What is explained of each image, and the probability of each class where it is needed."""
        first = questions[0]
        if first.has_elements:
            count = len(inputs)
            return element_problems(count, self.target, self.top, first.node), None
        names = classifier.class_names
        check_class_options(self.target, self.top, names)
        probabilities = None
        if self.top > 1 or any(each.node not in CONFIDENCES for each in questions):
            probabilities = class_probabilities(classifier, inputs)
        problems = class_problems(len(inputs), self.target, self.top, names, probabilities)
        return problems, probabilities


def _read_all(
    files: Iterable[Path],
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
