"""A new objective term and a new fill, one function each: what it takes to try an idea.

    mdm explain digit.png --method 'mdm:objective={lost_share=1, area=30,
      "experiments/examples/new_objective.py:edges"=3}'
    mdm sweep experiments/configs/sweep_new_objective.toml
    python experiments/examples/new_objective.py

Both are named as FILE:FUNCTION; nothing is registered and the package stays as it is. The script
scores them on 16 digits."""

import jax.numpy as jnp
import numpy as np

from mdm_jax import MDMConfig, area, consistency, evaluate, explain, load_model, term
from mdm_jax.data.digits import Digits


def edges(view):
    """Mask borders cost where the image is flat: mean |dM| exp(-|dx| / 0.1), over rows and
    columns."""
    flat = [
        jnp.exp(-jnp.abs(jnp.diff(view.image.mean(-1), axis=axis)) / 0.1) for axis in (0, 1)
    ]
    return sum(
        jnp.mean(jnp.abs(jnp.diff(view.mask, axis=axis)) * flat[axis]) for axis in (0, 1)
    )


def checkerboard(image, *, key):
    """Squares of 8 pixels, dark and bright: nothing that was masked looks like a plain
    background."""
    rows, columns = (jnp.arange(side) // 8 for side in image.shape[:2])
    return jnp.broadcast_to(
        0.25 + 0.5 * ((rows[:, None] + columns) % 2)[..., None], image.shape
    )


if __name__ == "__main__":
    examples, network = [Digits("train")[i] for i in range(16)], load_model("resnet")
    images, masks = (
        np.stack([each.image for each in examples]),
        [each.mask for each in examples],
    )
    objective = (consistency(), area(), term(edges, 3.0))
    for config in (
        MDMConfig(),
        MDMConfig(objective=objective),
        MDMConfig(fill=checkerboard),
    ):
        found = explain(network, images, config=config)
        scores = evaluate(
            network,
            images,
            found.saliency,
            ranking=found.ranking,
            object_masks=masks,
            metrics=("insertion", "deletion", "energy"),
        ).summary()
        print({name: round(each.value, 3) for name, each in scores.items()})
