"""What a training config names, opened and checked: its data, its network and its steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from flax import nnx

from mdm_jax.data import open_source
from mdm_jax.data.loader import LoaderConfig, batches_per_epoch
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.data.source import Source
from mdm_jax.errors import InputError, first_line
from mdm_jax.models.architectures import build
from mdm_jax.models.transfer import initialize_from
from mdm_jax.training import stages
from mdm_jax.training.config import TrainConfig


@dataclass(frozen=True)
class TrainingJob:
    """A config with what it names."""

    config: TrainConfig
    source: Source
    held_out: Source
    preprocessing: Preprocessing
    arguments: dict[str, Any]
    """of the network; those of the config, but for what a pruning changed"""

    @property
    def fit(self) -> Callable[..., np.ndarray]:
        """Brings an image to the network's size and channels."""
        return self.preprocessing.fit

    def construct(self) -> nnx.Module:
        """The network with fresh weights."""
        model, classes = self.config.model, len(self.source.class_names)
        rngs = nnx.Rngs(self.config.seed)
        sizes: dict[str, Any] = {"channels": model.channels, "size": model.size}
        return build(
            model.architecture,
            num_classes=classes,
            rngs=rngs,
            **sizes,
            **self.arguments,
        )

    def with_prototypes(self, classes: Sequence[int]) -> TrainingJob:
        """The job for a network with prototypes of these classes, as a pruning leaves them."""
        arguments = dict(self.arguments)
        # after a pruning the classes have different numbers of prototypes
        arguments.pop("prototypes_per_class", None)
        return replace(self, arguments=arguments | {"prototype_classes": tuple(classes)})

    @property
    def items(self) -> int:
        """Training images that are used."""
        limit = self.config.data.train_items
        return len(self.source) if limit is None else min(limit, len(self.source))

    @cached_property
    def timeline(self) -> stages.Timeline:
        """The stages, with every step of the training."""
        config = self.config
        if config.has_prototypes:
            return stages.prototype_timeline(
                config.prototypes, config.epochs, self.steps_per_epoch
            )
        return stages.plain_timeline(config.epochs, self.steps_per_epoch)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of a pass over the training images."""
        return batches_per_epoch(self.source, self.training)

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return self.timeline.steps

    @property
    def training(self) -> LoaderConfig:
        data = self.config.data
        return LoaderConfig(
            batch=data.batch,
            workers=data.workers,
            seed=self.config.seed,
            limit=data.train_items,
        )

    @property
    def evaluation(self) -> LoaderConfig:
        """In threads: processes would take seconds to start, after every epoch."""
        return LoaderConfig(
            batch=self.config.data.batch,
            seed=self.config.seed,
            limit=self.config.data.evaluate_items,
        )


def open_job(config: TrainConfig) -> TrainingJob:
    """Open the data and see that the network can be built. Raises InputError where they cannot."""
    data, model = config.data, config.model
    where = (
        f"cropped:{data.source}"
        if data.crop_to_boxes and not data.source.startswith("cropped:")
        else data.source
    )
    source, held_out = (
        open_source(where, data.train),
        open_source(where, data.evaluate),
    )
    if source.class_names != held_out.class_names:
        raise InputError(
            f"the splits {data.train} and {data.evaluate} of {data.source} have different classes"
            f" ({len(source.class_names)} and {len(held_out.class_names)}): give both the same"
            " folders of classes"
        )
    preprocessing = Preprocessing(
        model.channels,
        model.size,
        model.crop,
        model.interpolation,
        model.mean,
        model.std,
        model.crop_mode,
    )
    classes = len(source.class_names)
    if not classes:
        raise InputError(
            f"{data.source} has no labels: train on a folder: with a folder for each class, or on"
            " tfds:"
        )
    if classes == 1:
        name = source.class_names[0]
        warnings.warn(
            f"{data.source} has one class only, {name!r}: a network learns nothing from it",
            stacklevel=2,
        )
    job = TrainingJob(config, source, held_out, preprocessing, model.arguments)
    try:
        images = jax.ShapeDtypeStruct((1, *model.size, model.channels), np.float32)
        # shapes alone: nothing is allocated or computed
        jax.eval_shape(lambda images: job.construct()(images)[0], images)
    except InputError:
        raise
    except Exception as error:  # whatever a network says of arguments that it cannot take
        reason = first_line(error)
        raise InputError(
            f"[model] does not describe a {model.architecture} that can be built ({reason})"
        ) from error
    _ = job.steps  # a source smaller than a batch is found here
    return job


def first_network(job: TrainingJob) -> nnx.Module:
    """The network a training begins with: random weights, or those of `model.start_from`."""
    network, place = job.construct(), job.config.model.start_from
    return initialize_from(network, place) if place else network
