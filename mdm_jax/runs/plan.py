"""What a run is to do, worked out from what was asked: every question about it is answered before
the first image."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from typing import Any

import jax
import numpy as np

from mdm_jax import masks, methods, nodes, plugins
from mdm_jax.data.class_mapping import class_numbers
from mdm_jax.data.fingerprint import source_fingerprint
from mdm_jax.data.item_reader import ReadResult, read_items
from mdm_jax.data.loader import Fit
from mdm_jax.data.network_input import evenly_spaced
from mdm_jax.data.source import Source
from mdm_jax.errors import InputError
from mdm_jax.execution.keys import as_key
from mdm_jax.execution.micro_batches import choose_micro_batch
from mdm_jax.execution.network import ImageShape, as_network
from mdm_jax.images import MIN_SIDE
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.fingerprint import network_fingerprint
from mdm_jax.runs import arrays, compiled
from mdm_jax.runs.arrays import Spec
from mdm_jax.runs.batching import Batches, Pool, SideBySide
from mdm_jax.runs.chunks import Layout
from mdm_jax.runs.compiled import Answer, Parts
from mdm_jax.runs.config import RunConfig
from mdm_jax.runs.continuous_batching import Slots
from mdm_jax.runs.targets import Targets, checked, targets
from mdm_jax.storage import part_names
from mdm_jax.storage.stored_format import FORMAT
from mdm_jax.types import ExplainFunction

TOLD = ("mdm_jax", "jax", "jaxlib", "flax", "optax", "numpy", "tensorstore", "pyarrow")
"""packages whose versions are written down"""


@dataclass(frozen=True)
class Job:
    """A run, worked out."""

    asked: RunConfig
    source: Source
    parts: Parts
    solve: ExplainFunction
    fit: Fit | None
    shape: ImageShape
    """of an image as the network takes it"""
    targets: Targets
    classes: tuple[str, ...]
    """names of the network's classes; empty where they are not known"""
    config: Any
    """of the method, as it was given"""
    settings: Mapping[str, Any]
    """what must agree when the run goes on, in plain values"""
    request: Mapping[str, Any] | None
    """how the run is opened again, for verify and report; None where only a program can"""

    @cached_property
    def indices(self) -> list[int]:
        """The items of the source that are used."""
        return evenly_spaced(len(self.source), self.asked.limit)

    @cached_property
    def layout(self) -> Layout:
        return Layout(len(self.indices), self.targets.count, self.asked.chunk)

    @cached_property
    def numbers(self) -> np.ndarray:
        """The network's number of each class of the data, -1 where it has none of that name."""
        return (
            class_numbers(tuple(self.source.class_names), self.classes)
            if self.classes
            else np.zeros(0, int)
        )

    @cached_property
    def programs(self) -> list[compiled.Program]:
        """One for each team of devices."""
        key, keeps = (
            as_key(self.asked.seed),
            self.asked.saliency or not self.has_masks,
        )
        return [
            compiled.program(
                self.parts, self.solve, key, mesh, ranks=self.targets.ranks, saliency=keeps
            )
            for mesh in compiled.teams()
        ]

    @cached_property
    def has_masks(self) -> bool:
        """Whether the method learns mask vectors, from which its maps can be drawn."""
        return self.solve is methods.METHODS["mdm"].explain

    @cached_property
    def answer(self) -> Answer:
        """The shapes of an answer."""
        return compiled.shapes(self.programs[0], jax.ShapeDtypeStruct(self.shape, np.float32))

    @property
    def terms(self) -> tuple[str, ...]:
        return tuple(self.answer.info.terms)

    @cached_property
    def specs(self) -> dict[str, Spec]:
        """The arrays of the store."""
        maps = None if self.answer.saliency is None else self.answer.saliency.shape
        return arrays.specs([vector.shape for vector in self.answer.mask_vectors], maps)

    @cached_property
    def micro_batch(self) -> int:
        """Problems on each device at a time."""
        most = -(-self.layout.rows // sum(program.devices for program in self.programs))
        return self.asked.micro_batch or choose_micro_batch(
            self.parts.network, self.shape, max(1, most)
        )

    @cached_property
    def uses_slots(self) -> bool:
        if self.asked.slots is not None or not self.has_masks:
            return bool(self.asked.slots)
        return self.micro_batch > 1 and bool(self.parts.config.until_converged)

    def pool(self) -> Pool:
        """A new pool on all devices of this process."""
        kind = Slots if self.uses_slots else Batches
        pools = [kind(program, self.micro_batch) for program in self.programs]
        return pools[0] if len(pools) == 1 else SideBySide(pools)

    def items(self, chunks: Sequence[int]) -> Generator[ReadResult, None, None]:
        """The items of some chunks, read ahead."""
        wanted = [
            (item, self.indices[item]) for chunk in chunks for item in self.layout.items_of(chunk)
        ]
        return read_items(self.source, wanted, self.fit, self.asked.workers, shape=self.shape)

    @cached_property
    def program_settings(self) -> dict[str, Any]:
        """What else must agree where the network, the node, the terms and the images come from a
        program, not from files.

        Checksums of the compiled program and of the first image that can be read: neither code nor
        `fit` has a name."""
        if self.request is not None:
            return {}
        reads = read_items(
            self.source,
            [(index, index) for index in self.indices[:MIN_SIDE]],
            self.fit,
            shape=self.shape,
        )
        with closing(reads):
            first = next(
                (zlib.crc32(read.image.tobytes()) for read in reads if read.image is not None), None
            )
        return {"program": compiled.fingerprint(self.programs[0], self.shape), "first_image": first}

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """What a setting was before it existed, by dotted name in run.json."""
        return part_names.defaults_of(self.config, "settings.config.")

    def description(self) -> dict[str, Any]:
        """What run.json says."""
        return {
            "format": FORMAT,
            "layout": dataclasses.asdict(self.layout),
            "settings": dict(self.settings) | self.program_settings,
            "classes": list(self.classes),
            "data_classes": list(map(str, self.source.class_names)),
            "request": None if self.request is None else dict(self.request),
            "versions": {name: metadata.version(name) for name in TOLD},
        }


def work_out(
    predict: Any,
    source: Source,
    asked: RunConfig,
    *,
    fit: Fit | None = None,
    request: Mapping[str, Any] | None = None,
) -> Job:
    """The job that was asked for; the network is traced, but nothing is compiled and at most one
    image read.

    `fit` brings a picture to the network's size; by default that of a `Classifier`, and for any
    other network the source's own images are used. Raises InputError for what cannot be."""
    chosen = asked.resolve()
    if not isinstance(source, Source):
        raise InputError(
            f"the source is a {type(source).__name__}: give one with a name, class_names, a length"
            " and source[i]"
        )
    if not len(source):
        raise InputError(f"{source.name} has no items: choose another split or folder")
    node = chosen.default_node if asked.node is None else asked.node
    fit = predict.preprocessing.fit if fit is None and isinstance(predict, Classifier) else fit
    shape = _image_shape(predict, source, fit)
    if isinstance(nodes.resolve(node), nodes.Entry):
        raise InputError(
            f"a run explains classes, and the targets of the node {node!r} are none: use mdm"
            " prototypes, or mdm explain"
        )
    network, outputs = as_network(predict, shape)
    classes = nodes.logits_of(outputs).shape[-1] if nodes.has_logits(outputs) else None
    wanted = targets(asked.targets, len(source))
    checked(wanted, classes)
    names = predict.class_names if isinstance(predict, Classifier) else _names(source, classes)
    if wanted.text == "label" and (class_numbers(tuple(source.class_names), names) < 0).all():
        raise InputError(
            "the network has none of the classes of the data: leave --targets label out to use its"
            " first choice"
        )
    settings = {
        "model": network_fingerprint(network),
        "data": source_fingerprint(source) | {"limit": asked.limit},
        "image": list(shape[:2]),
        "method": chosen.name,
        "node": part_names.describe(node),
        "config": part_names.describe(chosen.config),
        "targets": wanted.text if not wanted.given else list(wanted.given),
        "seed": asked.seed,
        "saliency": asked.saliency,
        "stack_weights": _stack_weights(chosen.config, shape[:2]),
    }
    if getattr(chosen.config, "smoothing", None) is not None and not asked.saliency:
        raise InputError(
            "maps drawn from stored mask vectors are not smoothed: keep the maps too, with"
            " --saliency, or leave it out"
        )
    if told := plugins.reference_checksums(chosen.name, node, chosen.config):
        settings["outside"] = told
    plain = json.loads(json.dumps(settings))
    parts = Parts(network, *methods.resolve_references(node, chosen.config))
    return Job(
        asked,
        source,
        parts,
        chosen.explain,
        fit,
        shape,
        wanted,
        names,
        chosen.config,
        plain,
        request,
    )


def _names(source: Source, classes: int | None) -> tuple[str, ...]:
    """Names of a network's classes that has none of its own: the data's, where there are as
    many."""
    if classes is None or len(source.class_names) == classes:
        return tuple(source.class_names)
    return tuple(map(str, range(classes)))


def _image_shape(predict: Any, source: Source, fit: Fit | None) -> ImageShape:
    """The shape of an image as the network sees it."""
    if fit is not None and isinstance(predict, Classifier):
        return (*predict.preprocessing.size, predict.preprocessing.channels)
    for read in read_items(
        source, [(index, index) for index in range(min(len(source), MIN_SIDE))], fit
    ):
        if read.image is not None:
            return read.image.shape
    raise InputError(
        f"none of the first images of {source.name} could be read ({read.reason}): check the data"
    )


def _stack_weights(config: Any, shape: tuple[int, int]) -> list[float] | None:
    """The weight of each mask size, as whoever draws the maps needs them."""
    given = getattr(config, "stack_weights", None)
    if given is None:
        return None
    return np.asarray(
        masks.resolve_weights(given, masks.resolve_sizes(config.sizes, shape)), float
    ).tolist()
