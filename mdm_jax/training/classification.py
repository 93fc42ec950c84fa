"""Classification losses and accuracies, for one class an image and for any number of classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from jaxtyping import Array, Bool, Float, Int

# Number of the class, or 1 for each class that an image has, else 0.
Labels = Int[Array, " b"] | Float[Array, "b classes"]


def classification_loss(
    logits: Float[Array, "b classes"],
    labels: Labels,
    valid: Bool[Array, " b"],
    *,
    smoothing: float = 0.0,
    balanced: bool = False,
) -> Float[Array, " b"]:
    """The loss of each image: cross entropy, or binary cross entropy for any number of classes."""
    if labels.ndim == 1:
        return cross_entropy(logits, labels, smoothing)
    return binary_cross_entropy(logits, labels, valid, smoothing, balanced=balanced)


def cross_entropy(
    logits: Float[Array, "b k"], labels: Int[Array, " b"], smoothing: float
) -> Float[Array, " b"]:
    """Cross entropy of each item with its label.

    The fraction `smoothing` of the target is spread evenly over all classes."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def binary_cross_entropy(
    logits: Float[Array, "b classes"],
    labels: Float[Array, "b classes"],
    valid: Bool[Array, " b"],
    smoothing: float = 0.0,
    *,
    balanced: bool = False,
) -> Float[Array, " b"]:
    """Mean over the classes of -[y log p + (1 - y) log(1 - p)], p = sigmoid(logits), of each image.

    `smoothing` moves y towards 1/2. Balanced, in each class the images that have it weigh together
    as much as those that have it not, over the valid ones of the batch; a class that all or none of
    them has is left as it is."""
    losses = optax.sigmoid_binary_cross_entropy(
        logits, (1 - smoothing) * labels + smoothing / 2
    )
    if not balanced:
        return jnp.mean(losses, axis=-1)
    count = jnp.maximum(jnp.sum(valid), 1)
    have = jnp.sum(jnp.where(valid[:, None], labels, 0.0), axis=0)
    shares = jnp.where(labels > 0, have, count - have) / count
    # the bound keeps the unused branch finite, or its gradient would be NaN
    balance = 0.5 / jnp.maximum(shares, 1 / count)
    has_both = (have > 0) & (have < count)
    return jnp.mean(losses * jnp.where(has_both, balance, 1.0), axis=-1)


def hits(logits: Float[Array, "b classes"], labels: Labels) -> Float[Array, " b"]:
    """1 where the first choice is the label, else 0.

    Of images with any number of classes the fraction of right answers."""
    if labels.ndim == 1:
        return (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    return jnp.mean((logits > 0) == (labels > 0), axis=-1, dtype=jnp.float32)


def mean_auc(
    logits: Float[np.ndarray, "n classes"], labels: Float[np.ndarray, "n classes"]
) -> float | None:
    """Area under the ROC curve, mean over the classes that some images have and others have not.

    None where there is no such class.

    AUC = (R - p (p + 1) / 2) / (p q) with the sum R of the ranks of the p images that have the
    class, q have it not; ties count half (Mann and Whitney)."""
    # scikit-learn's roc_auc_score refuses NaN, which a training that diverges has
    have = labels > 0
    p, q = have.sum(axis=0), (~have).sum(axis=0)
    defined = (p > 0) & (q > 0)
    if not defined.any():
        return None
    # a rank of the images without the class does not enter the sum
    ranks = np.where(have, scipy.stats.rankdata(logits, axis=0), 0.0).sum(axis=0)
    return float(np.mean((ranks - p * (p + 1) / 2)[defined] / (p * q)[defined]))
