"""What a training config names: its data, its network and the steps there are, opened and seen to fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx

from mdm_jax.data.loader import Loading, batches_per_epoch
from mdm_jax.data.sources import Source, open_source
from mdm_jax.errors import InputError
from mdm_jax.models.architectures import build
from mdm_jax.models.preprocessing import Preprocessing
from mdm_jax.models.transfer import start_from
from mdm_jax.training.config import TrainConfig


@dataclass(frozen=True)
class Job:
    """A config with what it names."""

    config: TrainConfig
    source: Source
    held_out: Source
    fit: Callable[..., np.ndarray]
    construct: Callable[[], nnx.Module]

    @property
    def steps_per_epoch(self) -> int:
        return batches_per_epoch(self.source, self.training)

    @property
    def steps(self) -> int:
        return self.config.epochs * self.steps_per_epoch

    @property
    def training(self) -> Loading:
        data = self.config.data
        return Loading(batch=data.batch, workers=data.workers, seed=self.config.seed, limit=data.train_items)

    @property
    def evaluation(self) -> Loading:
        """In threads: processes would take seconds to start, after every epoch."""
        return Loading(batch=self.config.data.batch, seed=self.config.seed, limit=self.config.data.evaluate_items)


def open_job(config: TrainConfig) -> Job:
    """Open the data and see that the network can be built. Raises InputError where they cannot."""
    data, model = config.data, config.model
    source, held_out = open_source(data.source, data.train), open_source(data.source, data.evaluate)
    if source.class_names != held_out.class_names:
        raise InputError(
            f"the splits {data.train} and {data.evaluate} of {data.source} have different classes "
            f"({len(source.class_names)} and {len(held_out.class_names)}): give both the same folders of classes"
        )
    preprocessing = Preprocessing(model.channels, model.size, model.crop, model.interpolation, model.mean, model.std)
    classes = len(source.class_names)
    if not classes:
        raise InputError(f"{data.source} has no labels: train on a folder: with a folder for each class, or on tfds:")
    if classes == 1:
        name = source.class_names[0]
        warnings.warn(f"{data.source} has one class only, {name!r}: a network learns nothing from it", stacklevel=2)

    def construct() -> nnx.Module:
        rngs = nnx.Rngs(config.seed)
        arguments = model.arguments
        return build(model.architecture, num_classes=classes, channels=model.channels, size=model.size, rngs=rngs, **arguments)

    try:
        images = jax.ShapeDtypeStruct((1, *model.size, model.channels), np.float32)
        jax.eval_shape(lambda images: construct()(images)[0], images)
    except InputError:
        raise
    except Exception as error:  # whatever a network says of arguments that it cannot take
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"[model] does not describe a {model.architecture} that can be built ({reason})") from error
    job = Job(config, source, held_out, preprocessing.fit, construct)
    _ = job.steps  # a source smaller than a batch is found here
    return job


def first_network(config: TrainConfig, construct: Callable[[], nnx.Module]) -> nnx.Module:
    """The network that a training begins with: random weights, or those of `config.model.start_from`."""
    network = construct()
    return start_from(network, config.model.start_from) if config.model.start_from else network
