"""The settings of a training, read from TOML: `mdm train CONFIG`. Every key, its default and its
meaning are here."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from mdm_jax import images
from mdm_jax.data.augment import Augment
from mdm_jax.errors import InputError
from mdm_jax.models.architectures import PROTOTYPES, is_known, resolve
from mdm_jax.models.spec import DType
from mdm_jax.training.prototypes.config import PrototypeConfig

FREE = ("out", "checkpoint_every", "data.workers", "data.source")
"""settings that may change when a training goes on: the weights it ends with do not depend on them,
nor on where the images lie, which a checksum of them guards"""


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
            is_known(self.model.architecture) and resolve(self.model.architecture)[0] in PROTOTYPES
        )

    def check(self) -> None:
        """Raises InputError naming the first setting whose value cannot be."""
        data, model, optimizer = self.data, self.model, self.optimizer
        for name, count in (
            ("epochs", self.epochs),
            ("checkpoint_every", self.checkpoint_every),
            ("data.batch", data.batch),
            ("data.train_items", data.train_items),
            ("data.evaluate_items", data.evaluate_items),
        ):
            _require(count is None or count >= 1, name, count, "a whole number from 1")
        _require(
            0 <= self.seed < 2**32,
            "seed",
            self.seed,
            f"a whole number from 0 to {2**32 - 1}",
        )
        _require(data.workers >= 0, "data.workers", data.workers, "a whole number from 0")
        _require(
            bool(self.out.strip()) and "\0" not in self.out,
            "out",
            self.out,
            "the folder of the run",
        )
        _require(
            min(model.size) >= images.MIN_SIDE,
            "model.size",
            list(model.size),
            f"{images.MIN_SIDE} pixels a side or more",
        )
        _require(
            model.channels in (1, 3),
            "model.channels",
            model.channels,
            "3 for color or 1 for gray",
        )
        _require(
            0 < model.crop <= 1,
            "model.crop",
            model.crop,
            "a share above 0, at most 1",
        )
        for name, values in (("model.mean", model.mean), ("model.std", model.std)):
            _require(
                len(values) == model.channels,
                name,
                list(values),
                f"one number for each of {model.channels} channels",
            )
        _require(
            all(map(math.isfinite, model.mean)),
            "model.mean",
            list(model.mean),
            "finite numbers",
        )
        _require(
            all(0 < s < math.inf for s in model.std),
            "model.std",
            list(model.std),
            "numbers above 0",
        )
        _require(
            0 < optimizer.learning_rate < math.inf,
            "optimizer.learning_rate",
            optimizer.learning_rate,
            "a number above 0",
        )
        for name in ("weight_decay", "clip"):
            value = getattr(optimizer, name)
            _require(0 <= value < math.inf, f"optimizer.{name}", value, "a number from 0")
        for name in ("momentum", "label_smoothing", "warmup"):
            value = getattr(optimizer, name)
            _require(
                0 <= value < 1,
                f"optimizer.{name}",
                value,
                "a share from 0, below 1",
            )
        self.prototypes.check()
        for table, used in (
            ("optimizer", not self.has_prototypes),
            ("prototypes", self.has_prototypes),
        ):
            if not used and (given := _changed(getattr(self, table))):
                raise InputError(
                    f"the setting {table}.{given} has no meaning for a {model.architecture}: leave"
                    f" out the table [{table}]"
                    + (", whose place [prototypes] takes" if table == "optimizer" else "")
                )
        try:
            self.augment.check()
        except InputError as error:
            raise InputError(f"augment.{error}") from None


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
