"""What a run does, prepared from its config before the first image."""

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
from mdm_jax.models.fingerprint import argument_defaults, network_fingerprint
from mdm_jax.network_checks import check_network
from mdm_jax.runs import arrays, compiled
from mdm_jax.runs.arrays import Spec
from mdm_jax.runs.batching import BatchPool, PerDevicePools, Pool
from mdm_jax.runs.chunks import Layout
from mdm_jax.runs.compiled import ExplainResult, ProgramParts
from mdm_jax.runs.config import RunConfig
from mdm_jax.runs.continuous_batching import SlotPool
from mdm_jax.runs.description import with_names
from mdm_jax.runs.targets import Targets, check_classes, parse_targets
from mdm_jax.storage import part_names
from mdm_jax.storage.stored_format import FORMAT
from mdm_jax.types import ExplainFunction
from mdm_jax.version import __version__

# Packages whose versions are written down, beside our own.
RECORDED_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "tensorstore",
    "pyarrow",
)


def versions() -> dict[str, str]:
    """What rows were computed with. Our own version needs no installation: a clone has one."""
    return {"mdm_jax": __version__} | {
        name: metadata.version(name) for name in RECORDED_PACKAGES
    }


@dataclass(frozen=True)
class RunPlan:
    """Everything that a run needs besides its store."""

    config: RunConfig
    source: Source
    parts: ProgramParts
    solve: ExplainFunction
    fit: Fit | None
    shape: ImageShape
    """of an image as the network takes it"""
    targets: Targets
    classes: tuple[str, ...]
    """names of the network's classes; empty where they are not known"""
    method_config: Any
    """of the method, as it was given"""
    settings: Mapping[str, Any]
    """what must agree when the run goes on, in plain values"""
    request: Mapping[str, Any] | None
    """how the run is opened again, for verify and report; None where only a program can"""

    @cached_property
    def indices(self) -> list[int]:
        """The items of the source that are used."""
        return evenly_spaced(len(self.source), self.config.limit)

    @cached_property
    def layout(self) -> Layout:
        """Rows and chunks."""
        return Layout(len(self.indices), self.targets.count, self.config.chunk)

    @cached_property
    def numbers(self) -> np.ndarray:
        """The network's number of each class of the data, -1 where it has none of that name."""
        if not self.classes:
            return np.zeros(0, int)
        return class_numbers(tuple(self.source.class_names), self.classes)

    @cached_property
    def programs(self) -> list[compiled.DeviceProgram]:
        """One for each device group."""
        key = as_key(self.config.seed)
        return [
            compiled.build_program(
                self.parts,
                self.solve,
                key,
                mesh,
                ranks=self.targets.ranks,
                saliency=self.config.saliency
                or not draws_maps(self.solve, self.parts.config),
                evidence=self.config.evidence,
            )
            for mesh in compiled.device_groups()
        ]

    @cached_property
    def has_masks(self) -> bool:
        """Whether the method learns mask vectors."""
        return self.solve is methods.METHODS["mdm"].explain

    @cached_property
    def result(self) -> ExplainResult:
        """The shapes of a row's result."""
        image = jax.ShapeDtypeStruct(self.shape, np.float32)
        return compiled.result_shapes(self.programs[0], image)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the objective's terms."""
        return tuple(self.result.info.terms)

    @cached_property
    def specs(self) -> dict[str, Spec]:
        """The arrays of the store."""
        result = self.result
        maps, evidence = (
            None if each is None else each.shape
            for each in (result.saliency, result.evidence)
        )
        sizes = [vector.shape for vector in result.mask_vectors]
        return arrays.specs(sizes, maps, evidence)

    @cached_property
    def micro_batch(self) -> int:
        """Problems on each device at a time."""
        if self.config.micro_batch:
            return self.config.micro_batch
        devices = sum(program.devices for program in self.programs)
        most = max(1, -(-self.layout.rows // devices))
        return choose_micro_batch(self.parts.network, self.shape, most)

    @cached_property
    def uses_slots(self) -> bool:
        """Whether images are replaced one by one, as they converge."""
        if self.config.slots is not None or not self.has_masks:
            return bool(self.config.slots)
        return self.micro_batch > 1 and bool(self.parts.config.until_converged)

    def pool(self) -> Pool:
        """A new pool on all devices of this process."""
        kind = SlotPool if self.uses_slots else BatchPool
        pools = [kind(program, self.micro_batch) for program in self.programs]
        return pools[0] if len(pools) == 1 else PerDevicePools(pools)

    def items(self, chunks: Sequence[int]) -> Generator[ReadResult, None, None]:
        """The items of some chunks, read ahead."""
        wanted = []
        for chunk in chunks:
            wanted += [(item, self.indices[item]) for item in self.layout.items_of(chunk)]
        return read_items(
            self.source, wanted, self.fit, self.config.workers, shape=self.shape
        )

    @cached_property
    def program_settings(self) -> dict[str, Any]:
        """What else must agree where network, node, terms and images come from a program.

        Checksums of the compiled program and of the first image that can be read: what the code and
        `fit` do, no file says."""
        if self.request is not None:
            return {}
        wanted = [(index, index) for index in self.indices[:MIN_SIDE]]
        first = None
        with closing(read_items(self.source, wanted, self.fit, shape=self.shape)) as reads:
            for read in reads:
                if read.image is not None:
                    first = zlib.crc32(read.image.tobytes())
                    break
        return {
            "program": compiled.fingerprint(self.programs[0], self.shape),
            "first_image": first,
        }

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """What a setting was before it existed, by dotted name in run.json."""
        of_config = part_names.defaults_of(self.method_config, "settings.config.")
        of_network = argument_defaults(self.settings["model"], "settings.model.")
        return of_config | of_network | {"settings.evidence": False}

    def description(self) -> dict[str, Any]:
        """What run.json says."""
        described = {
            "format": FORMAT,
            "layout": dataclasses.asdict(self.layout),
            "settings": dict(self.settings) | self.program_settings,
            "classes": list(self.classes),
            "data_classes": list(map(str, self.source.class_names)),
            # Which class of the network each is: by rules that a version may change.
            "class_numbers": self.numbers.tolist(),
            "request": None if self.request is None else dict(self.request),
            "versions": versions(),
        }
        return with_names(described)


def prepare(
    predict: Any,
    source: Source,
    config: RunConfig,
    *,
    fit: Fit | None = None,
    request: Mapping[str, Any] | None = None,
) -> RunPlan:
    """The plan of a run: every question about it is answered before the first image.

    The network is traced, but nothing is compiled and at most one image read. `fit` brings a
    picture to the network's size; by default that of a `Classifier`, and for any other network the
    source's own images are used. Raises InputError for what cannot be."""
    chosen = config.resolve()
    _check_source(source)
    node = chosen.default_node if config.node is None else config.node
    if isinstance(nodes.resolve(node), nodes.Entry):
        raise InputError(
            f"a run explains classes, and the targets of the node {node!r} are none: use mdm"
            " prototypes, or mdm explain"
        )
    if fit is None and isinstance(predict, Classifier):
        fit = predict.preprocessing.fit
    shape = _image_shape(predict, source, fit)
    network, outputs = as_network(predict, shape)
    classes = nodes.logits_of(outputs).shape[-1] if nodes.has_logits(outputs) else None
    targets = parse_targets(config.targets, len(source))
    check_classes(targets, classes)
    names = (
        predict.class_names if isinstance(predict, Classifier) else _names(source, classes)
    )
    if (
        targets.text == "label"
        and (class_numbers(tuple(source.class_names), names) < 0).all()
    ):
        raise InputError(
            "the network has none of the classes of the data: say with classes which they are, or"
            " use its first choice, with the targets prediction",
            setting="targets",
        )
    is_smoothed = getattr(chosen.config, "smoothing", None) is not None
    draws = draws_maps(chosen.explain, chosen.config)
    if is_smoothed and draws and not config.saliency:
        raise InputError(
            "maps drawn from stored mask vectors are not smoothed: keep the maps too, or leave"
            " smoothing out",
            setting="saliency",
        )
    settings = {
        "model": network_fingerprint(network),
        "data": source_fingerprint(source) | {"limit": config.limit},
        "image": list(shape[:2]),
        "method": chosen.name,
        "node": part_names.describe(node),
        "config": part_names.describe(chosen.config),
        "targets": list(targets.given) if targets.given else targets.text,
        "seed": config.seed,
        "saliency": config.saliency,
        "evidence": config.evidence,
        "stack_weights": _stack_weights(chosen.config, shape[:2]),
    }
    if checksums := plugins.reference_checksums(chosen.name, node, chosen.config):
        settings["outside"] = checksums
    solved_node, solved = methods.resolve_references(node, chosen.config)
    return RunPlan(
        config=config,
        source=source,
        parts=ProgramParts(check_network(network, solved_node, shape), solved_node, solved),
        solve=chosen.explain,
        fit=fit,
        shape=shape,
        targets=targets,
        classes=names,
        method_config=chosen.config,
        settings=json.loads(
            json.dumps(settings)
        ),  # lists for tuples, as they are read back
        request=request,
    )


def draws_maps(solve: ExplainFunction, config: Any) -> bool:
    """Whether the maps of a method are drawn from its mask vectors: those of MDM whose map is the
    stacked mask. Any other map has to be kept."""
    is_mdm = solve is methods.METHODS["mdm"].explain
    return is_mdm and config is not None and not config.shows_evidence


def _check_source(source: Any) -> None:
    if not isinstance(source, Source):
        raise InputError(
            f"the source is a {type(source).__name__}: give one with a name, class_names, a length"
            " and source[i]"
        )
    if not len(source):
        raise InputError(f"{source.name} has no items: choose another split or folder")


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
    wanted = [(index, index) for index in range(min(len(source), MIN_SIDE))]
    for read in read_items(source, wanted, fit):
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
    weights = masks.resolve_weights(given, masks.resolve_sizes(config.sizes, shape))
    return np.asarray(weights, float).tolist()
