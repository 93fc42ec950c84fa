"""Train the embedded residual network on cluttered digits and write it into the package.

    python experiments/training/train_digits.py             # 45 minutes on 2 CPU cores

About 308k parameters in a file of 1.25 MB. The first 1000 test items measure it: their scans never
appear in training.

Results: `experiments/results/train_digits.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx
from rich.console import Console
from rich.progress import track

from experiments.record_results import write
from mdm_jax.data.digits import CLASS_NAMES, Digits
from mdm_jax.models import weights
from mdm_jax.models.resnet import ResNet

PACKAGE_WEIGHTS = (
    Path(__file__).parents[2] / "mdm_jax" / "models" / "embedded" / "digits_resnet"
)


@dataclass(frozen=True)
class Config:
    """Training of the embedded network."""

    items: int = 24_000
    """training scenes"""
    epochs: int = 6
    batch: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 5e-3
    seed: int = 0
    out: Path = PACKAGE_WEIGHTS
    results: str = "train_digits"
    """name of the file in experiments/results that is written; none when empty"""


def arrays(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` images (uint8, to fit in memory) and labels of a split."""
    source = Digits(split)
    images = np.empty((count, 64, 64, 3), np.uint8)
    labels = np.empty(count, np.int32)
    for i in track(range(count), f"drawing {split} digits"):
        example = source[i]
        images[i], labels[i] = np.round(example.image * 255), example.label
    return images, labels


def normalize(images: np.ndarray) -> jax.Array:
    return jnp.asarray((images.astype(np.float32) / 255 - 0.5) / 0.25)


@nnx.jit
def train_step(
    model: ResNet, optimizer: nnx.Optimizer, images: jax.Array, labels: jax.Array
) -> jax.Array:
    def loss(model):
        logits, _ = model(images)
        smooth = optax.smooth_labels(jax.nn.one_hot(labels, len(CLASS_NAMES)), 0.05)
        return optax.softmax_cross_entropy(logits, smooth).mean()

    value, gradient = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradient)
    return value


@nnx.jit
def predictions(model: ResNet, images: jax.Array) -> jax.Array:
    return jnp.argmax(model(images)[0], axis=-1)


def accuracy(model: ResNet, images: np.ndarray, labels: np.ndarray) -> float:
    model = nnx.view(model, use_running_average=True)
    hits = [
        predictions(model, normalize(images[i : i + 250])) == labels[i : i + 250]
        for i in range(0, len(images), 250)
    ]
    return float(np.mean(np.concatenate(hits)))


def main(config: Config) -> None:
    console, start = Console(), time.perf_counter()
    images, labels = arrays("train", config.items)
    test_images, test_labels = arrays("test", 1000)
    steps = config.epochs * (config.items // config.batch)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, steps // 10, steps
    )
    model = ResNet(rngs=nnx.Rngs(config.seed))
    optimizer = nnx.Optimizer(
        model, optax.adamw(schedule, weight_decay=config.weight_decay), wrt=nnx.Param
    )
    rng, recorded = np.random.default_rng(config.seed), []
    for epoch in range(config.epochs):
        order = rng.permutation(config.items)[: config.items // config.batch * config.batch]
        losses = [
            train_step(
                model, optimizer, normalize(images[chosen]), jnp.asarray(labels[chosen])
            )
            for chosen in track(order.reshape(-1, config.batch), f"epoch {epoch + 1}")
        ]
        score = accuracy(model, test_images, test_labels)
        what = {"network": "resnet", "quantity": f"accuracy after epoch {epoch + 1}"}
        recorded.append(what | {"value": score})
        console.print(
            f"epoch {epoch + 1}: loss {np.mean(losses):.3f}, test accuracy {score:.3f},"
            f" {time.perf_counter() - start:.0f} s"
        )

    weights.save(model, config.out / "model.safetensors")
    description = {
        "architecture": "resnet",
        "num_classes": len(CLASS_NAMES),
        "model_args": {"widths": [16, 32, 64, 128], "depths": [1, 1, 1, 1]},
        "label_names": list(CLASS_NAMES),
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": [0.5] * 3,
            "std": [0.25] * 3,
        },
    }
    (config.out / "config.json").write_text(json.dumps(description, indent=2) + "\n")
    console.print(f"wrote {config.out}")
    if config.results:
        minutes = (time.perf_counter() - start) / 60
        recorded.append({"network": "resnet", "quantity": "accuracy", "value": score})
        recorded.append({"network": "resnet", "quantity": "minutes", "value": minutes})
        write(config.results, recorded)


if __name__ == "__main__":
    main(tyro.cli(Config))
