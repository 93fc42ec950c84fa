r"""Is every size of mask used? What each keeps alone, and the stack against each size by itself.

    python experiments/quality/mask_sizes.py --model resnet --limit 48
    python experiments/quality/mask_sizes.py --annotated imagenet_val300 --limit 24 \
        --model vit_tiny_patch16_224 --weights WEIGHTS --results mask_sizes_photographs

Of each size's mask alone, under the first fill: the share of the activation that the image keeps
through it (1: as the image, 0: as the fill), its area and its greatest value. Then the map of all
sizes against those of one size at equal steps, with paired 95 % intervals.

Results: `experiments/results/mask_sizes_*.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import mdm_jax
from experiments.quality import ablation
from experiments.record_results import write
from mdm_jax import fills, masks
from mdm_jax.config import PRESETS
from mdm_jax.errors import InputError
from mdm_jax.evaluation.statistics import difference
from mdm_jax.problem import activation, blend
from mdm_jax.view import kept_share

Row = dict[str, Any]

LEAST = 0.9
"""share of the activation that a used mask keeps"""


@dataclass(frozen=True)
class Config(ablation.ImagesConfig):
    """Network, images, and where results go."""

    limit: int = 48
    out: Path = Path("mask_sizes")


def kept_by_each(classifier: Any, images: np.ndarray, explanation: Any) -> np.ndarray:
    """The share of the activation [n, sizes + 1] kept through each size's mask, and the stack."""
    fill = fills.resolve_turns(PRESETS["fast"].fill)[0]
    shape = images.shape[1:3]

    @jax.jit
    def one(image: Any, vectors: Any, target: Any) -> Any:
        background = fills.draw(fill, image, key=jax.random.key(0))
        each = jnp.stack([masks.render(vector, shape) for vector in vectors])
        seen = jnp.concatenate([each, each.mean(axis=0)[None]])
        whole = jnp.stack([jnp.ones(shape), jnp.zeros(shape)])
        inputs = blend(jnp.concatenate([seen, whole]), image, background)
        outputs = classifier(inputs)
        values = jax.vmap(lambda out: activation("probability", out, target))(outputs)
        *of_masks, reference, of_fill = values
        shares = [kept_share(value, reference, of_fill, 1.0) for value in of_masks]
        return jnp.stack(shares)

    rows = zip(images, zip(*explanation.mask_vectors), explanation.info.target)
    return np.stack([np.asarray(one(*row)) for row in rows])


def use_of_sizes(classifier: Any, images: np.ndarray) -> list[Row]:
    """What every size's mask keeps, and how large it is."""
    found = mdm_jax.explain(classifier, images)
    kept = kept_by_each(classifier, images, found)
    names = [f"{vector.shape[1]}x{vector.shape[2]}" for vector in found.mask_vectors]
    rows: list[Row] = []
    for k, name in enumerate([*names, "stack"]):
        quantities = {
            "share kept, mean": float(kept[:, k].mean()),
            "least": float(kept[:, k].min()),
            f"images that keep {LEAST:g}": int((kept[:, k] >= LEAST).sum()),
        }
        if name != "stack":
            vectors = found.mask_vectors[k]
            quantities |= {
                "area": float(vectors.mean()),
                "greatest value above 0.5": int((vectors.max(axis=(1, 2)) > 0.5).sum()),
            }
        row: Row = {"part": "use", "mask": name, "images": len(images)}
        rows += [
            row | {"quantity": what, "value": each} for what, each in quantities.items()
        ]
    return rows


def stack_against_sizes(config: Config, classifier: Any, used: list[Any]) -> list[Row]:
    """The default map against that of each size alone, at equal steps."""
    shape = used[0].image.shape[:2]
    cells = [size[0] for size in masks.resolve_sizes(None, shape)]
    points = [{}, *({"sizes": [each]} for each in cells)]
    sweep = mdm_jax.sweep(
        classifier,
        np.stack([each.image for each in used]),
        points,
        metrics=ablation.METRICS,
        object_masks=[each.mask for each in used],
        ids=[each.id for each in used],
        out=config.out / Path(config.model).name,
    )
    rows: list[Row] = []
    of_stack = sweep.outcomes[0].measured
    for i, name in enumerate(["all sizes", *(f"{each}x{each} alone" for each in cells)]):
        for metric_name, metric in sweep.metrics.items():
            row: Row = {"masks": name, "metric": metric_name, "images": len(used)}
            value = float(sweep.values(metric_name)[i])
            rows.append(row | {"part": "values", "value": value})
            ours = sweep.outcomes[i].measured.get(metric_name)
            if i > 0 and ours is not None:
                gap = difference(metric, of_stack[metric_name], ours)
                low, high = gap.interval
                row |= {"value": gap.value, "low": low, "high": high}
                rows.append(row | {"part": "all sizes minus this"})
    return rows


def main(config: Config) -> int:
    try:
        classifier = mdm_jax.load_model(config.model, weights=config.weights)
        used = ablation.images_of(config, classifier)
        images = np.stack([each.image for each in used])
        rows = use_of_sizes(classifier, images)
        rows += stack_against_sizes(config, classifier, used)
        network = Path(config.model).name
        name = f"mask_sizes_{network}" if config.results is None else config.results
        if name:
            write(name, [{"network": network} | row for row in rows])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for row in rows:
        print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
