"""What is left of a prototype's similarity when only its region stays."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdm_jax import fills
from mdm_jax.models.classifier import Classifier
from mdm_jax.prototypes.boxes import top_share
from mdm_jax.prototypes.search import activations

# Share of an image by which every way of finding regions is judged.
RETAINED_AREA = 0.1

# Pairs are filled up to a multiple of this.
BATCH_MULTIPLE = 16


def measure_similarities(
    classifier: Classifier,
    images: Float[np.ndarray, "n h w c"],
    maps: Float[np.ndarray, "n h w"],
    prototypes: Int[np.ndarray, " n"],
) -> dict[str, Float[np.ndarray, " n"]]:
    """The similarity of each pair in three images: `similarity`, `retained` and `blurred`.

    In the whole image; where only the strongest `RETAINED_AREA` of its map stays and the rest is
    blurred; and where everything is blurred, which every map is to be compared with."""
    n = len(images)
    # pairs are repeated up to a multiple, so that few shapes are compiled
    padded = -(-n // BATCH_MULTIPLE) * BATCH_MULTIPLE
    rows = np.resize(np.arange(n), padded)
    images, maps = images[rows], maps[rows]
    retained = np.asarray(_keep_region(images, maps, RETAINED_AREA))
    blurred = np.asarray(_keep_region(images, maps, 0.0))
    versions = np.concatenate([images, retained, blurred])
    similarities = activations(classifier, versions).similarities
    of_pairs = similarities[np.arange(3 * padded), np.tile(prototypes[rows], 3)]
    of_versions = of_pairs.reshape(3, -1)[:, :n]
    return dict(zip(("similarity", "retained", "blurred"), of_versions))


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, None))
def _keep_region(
    image: Float[Array, "h w c"], saliency: Float[Array, "h w"], share: Float[Array, ""]
) -> Float[Array, "h w c"]:
    stays = top_share(saliency, share)[..., None]
    blurred = fills.blur()(image, key=jax.random.key(0))  # it draws nothing
    return jnp.where(stays, image, blurred)
