"""The settings of a training, read from TOML: `mdm train CONFIG`. Every key, its default and its
meaning are here."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from mdm_jax import images
from mdm_jax.config_files import check_choices
from mdm_jax.data.augment import Augment
from mdm_jax.data.preprocessing import MAX_SIDE
from mdm_jax.errors import InputError
from mdm_jax.models.architectures import PROTOTYPES, is_known, resolve
from mdm_jax.models.spec import DType
from mdm_jax.training.prototypes.config import MOST, PrototypeConfig

# Settings that may change when a training goes on: the weights it ends with do not depend on them,
# nor on where the images lie, which a checksum of them guards.
FREE = ("out", "checkpoint_every", "tensorboard", "data.workers", "data.source")


@dataclass(frozen=True)
class DataConfig:
    """`[data]`: which images, and how they are loaded."""

    source: str = "digits"
    """digits, folder:PATH, tfds:NAME, cub:PATH or chestxray14:PATH; a relative PATH starts at the
    current directory"""
    crop_to_boxes: bool = False
    """cut each image to the boxes of its objects, as cropped:SOURCE does"""
    train: str = "train"
    """split to train on"""
    evaluate: str = "test"
    """split measured after each epoch"""
    train_items: int | None = None
    """use only so many training items, spread evenly over the split"""
    evaluate_items: int | None = None
    """measure only so many items, spread evenly over the split"""
    batch: int = 64
    """images a step"""
    workers: int = 0
    """processes that load the images to train on; 0 loads in threads of this one"""


@dataclass(frozen=True)
class ModelConfig:
    """`[model]`: the network and the images it takes."""

    architecture: str = "resnet"
    """resnet, densenet, vit, or a published network such as resnet50"""
    size: tuple[int, int] = (64, 64)
    """[height, width] of its input in pixels"""
    channels: int = 3
    """3 for color, 1 for gray"""
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    """subtracted from each channel of images in [0, 1]"""
    std: tuple[float, ...] = (0.25, 0.25, 0.25)
    """then divided by"""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    """how images are resized: nearest, bilinear, bicubic or lanczos"""
    crop: float = 1.0
    """share of the resized short side that the center crop keeps"""
    crop_mode: Literal["center", "squash"] = "center"
    """center keeps the aspect of an image; squash stretches it to the network's, so that nothing is
    cut off"""
    start_from: str = ""
    """weights to start from, as `mdm explain --weights` takes them, or an embedded network such as
    resnet; empty starts from random ones; a prototype network also takes those of a plain
    classifier, into its backbone"""
    arguments: dict[str, Any] = field(default_factory=dict)
    """the network's own settings, such as widths and depths"""


@dataclass(frozen=True)
class OptimizerConfig:
    """`[optimizer]`: how the weights move."""

    name: Literal["adamw", "sgd"] = "adamw"
    """adamw, or sgd with Nesterov momentum"""
    learning_rate: float = 1e-3
    """its highest value: reached after the warm-up, then falling to zero along a cosine"""
    weight_decay: float = 0.05
    """decay of matrices and kernels; biases, norms and embeddings of positions and tokens do not
    decay"""
    momentum: float = 0.9
    """of sgd"""
    warmup: float = 0.1
    """share of all steps in which the learning rate rises, in equal steps from its highest value /
    (their number + 1)"""
    clip: float = 0.0
    """longest gradient (global norm), longer ones are shortened; 0 leaves all as they are"""
    label_smoothing: float = 0.0
    """share of the target that is spread evenly over all classes"""


@dataclass(frozen=True)
class TrainConfig:
    """A whole training; the tables are the other classes here."""

    out: str = "mdm-train"
    """folder of the run; a relative one starts at the current directory"""
    seed: int = 0
    """of the first weights, the order of the images and their augmentation"""
    epochs: int = 10
    """passes over the training images"""
    checkpoint_every: int = 500
    """steps between checkpoints; each epoch's end has one too"""
    dtype: DType = "float32"
    """what the network computes in: float32 or bfloat16; weights are float32 always"""
    tensorboard: bool = False
    """write each line of the metrics for TensorBoard too, into out/tensorboard"""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    augment: Augment = field(default_factory=Augment)
    prototypes: PrototypeConfig = field(default_factory=PrototypeConfig)

    @property
    def has_prototypes(self) -> bool:
        """Whether the network is one of prototypes, which `[prototypes]` trains in stages and not
        `[optimizer]`."""
        return (
            is_known(self.model.architecture)
            and resolve(self.model.architecture)[0] in PROTOTYPES
        )

    def check(self) -> None:
        """Raises InputError naming the first setting whose value cannot be."""
        self._check_counts()
        _require(
            bool(self.out.strip()) and "\0" not in self.out, "out", self.out, "a folder"
        )
        check_choices(self)
        check_choices(self.optimizer, "optimizer.")
        check_choices(self.model, "model.")
        _check_model(self.model)
        _check_optimizer(self.optimizer)
        self.prototypes.check()
        self._check_tables()
        try:
            self.augment.check()
        except InputError as error:
            raise InputError(f"augment.{error}") from None

    def _check_counts(self) -> None:
        counts = {
            "epochs": self.epochs,
            "checkpoint_every": self.checkpoint_every,
            "data.batch": self.data.batch,
            "data.train_items": self.data.train_items,
            "data.evaluate_items": self.data.evaluate_items,
        }
        for name, count in counts.items():
            wanted = f"a whole number from 1 to {MOST}"
            _require(count is None or 1 <= count <= MOST, name, count, wanted)
        _require(
            0 <= self.seed < 2**32,
            "seed",
            self.seed,
            f"a whole number from 0 to {2**32 - 1}",
        )
        workers = self.data.workers
        _require(workers >= 0, "data.workers", workers, "a whole number from 0")

    def _check_tables(self) -> None:
        """Raises InputError for a table that the network does not use."""
        unused = "optimizer" if self.has_prototypes else "prototypes"
        given = _changed(getattr(self, unused))
        if given is None:
            return
        # Nobody who writes [optimizer] for a prototype network knows yet where it went.
        hint = ", whose place [prototypes] takes" if self.has_prototypes else ""
        raise InputError(
            f"the setting {unused}.{given} has no meaning for a {self.model.architecture}: leave"
            f" out the table [{unused}]{hint}"
        )


def _check_model(model: ModelConfig) -> None:
    least, size = images.MIN_SIDE, list(model.size)
    wanted = f"{least} to {MAX_SIDE} pixels a side"
    _require(least <= min(size) and max(size) <= MAX_SIDE, "model.size", size, wanted)
    channels = model.channels
    _require(channels in (1, 3), "model.channels", channels, "3 for color or 1 for gray")
    _require(0 < model.crop <= 1, "model.crop", model.crop, "a share above 0, at most 1")
    mean, std = list(model.mean), list(model.std)
    for name, values in (("model.mean", mean), ("model.std", std)):
        wanted = f"one number for each of {channels} channels"
        _require(len(values) == channels, name, values, wanted)
    _require(all(map(math.isfinite, mean)), "model.mean", mean, "finite numbers")
    # Images are divided by it.
    _require(all(0 < each < math.inf for each in std), "model.std", std, "numbers above 0")


def _check_optimizer(optimizer: OptimizerConfig) -> None:
    rate = optimizer.learning_rate
    _require(0 < rate < math.inf, "optimizer.learning_rate", rate, "a number above 0")
    for name in ("weight_decay", "clip"):
        value = getattr(optimizer, name)
        _require(0 <= value < math.inf, f"optimizer.{name}", value, "a number from 0")
    for name in ("momentum", "label_smoothing", "warmup"):
        value = getattr(optimizer, name)
        _require(0 <= value < 1, f"optimizer.{name}", value, "a share from 0, below 1")


def _changed(table: Any) -> str | None:
    """The first setting of a table that is not its default."""
    default = type(table)()
    changed = (
        each.name
        for each in dataclasses.fields(table)
        if getattr(table, each.name) != getattr(default, each.name)
    )
    return next(changed, None)


def _require(holds: bool, name: str, value: Any, wanted: str) -> None:
    if not holds:
        raise InputError(f"the setting {name} is {value!r}: give {wanted}")
