"""Every method and metric once, in whatever settings of JAX this process has.

    python jax_settings_worker.py RESULTS.npz

Run in a process of its own, because what is read while modules are imported depends on settings
too; tests and tests/contracts are in its path."""

from __future__ import annotations

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from test_methods_contract import CONFIGS, FUNCTIONS

import mdm_jax
from mdm_jax.methods import METHODS
from mdm_jax.metrics import METRICS

PATCH = (slice(8, 16), slice(16, 24))


def with_constants(function):
    """The same function of images, behind constants of every type, which are all 1."""
    constants = [
        np.ones(3, np.float32),
        np.ones(3, np.float64),
        np.float64(1.0),
        jnp.ones(3, jnp.float32),
        jnp.ones(3),  # float64 where that is enabled
        jnp.asarray(1.0),  # weakly typed
        jnp.arange(1, 2),
        1.0,
    ]

    def behind(images):
        for constant in constants:
            images = (images * jnp.asarray(constant)).astype(jnp.float32)
        return function(images)

    return behind


def drawn_images():
    images = np.random.default_rng(0).uniform(0.0, 0.3, (2, 32, 32, 3))
    images[:, *PATCH] += 0.6
    return images  # float64: what NumPy gives


def results():
    """The leaves of every explanation and the numbers of every metric, by name."""
    images = drawn_images()
    with jax.transfer_guard("allow"):  # what is done here by ourselves
        networks = {each: with_constants(each) for each in set(FUNCTIONS.values())}
    found = {}
    for name in METHODS:
        if name == "fullgrad":  # shows biases, and a function of this kind has none
            continue
        network = networks[FUNCTIONS[name]]
        found[name] = mdm_jax.explain(network, images, method=name, config=CONFIGS[name])
    # under `jit` and `vmap` of the caller, as one image's method may be used
    rise = jax.jit(
        jax.vmap(
            lambda image: METHODS["rise"].explain(
                networks[FUNCTIONS["rise"]],
                image,
                key=jax.random.key(0),
                config=CONFIGS["rise"],
            )
        )
    )
    with jax.transfer_guard("allow"):
        found["rise of one image"] = rise(np.float32(images))
    found["embedded"] = mdm_jax.explain(
        mdm_jax.load_model(),
        np.random.default_rng(1).uniform(size=(1, 64, 64, 3)),
        method="hdm",
        config=CONFIGS["hdm"],
    )
    maps = np.random.default_rng(2).random(images.shape[:3])
    mask = np.zeros(images.shape[:3], bool)
    mask[:, *PATCH] = True
    scores = mdm_jax.evaluate(
        networks[FUNCTIONS["gradient"]],
        images,
        maps,
        object_masks=mask,
        boxes=[np.asarray([[16, 8, 24, 16]])] * 2,
        metrics=sorted({metric.name for metric in METRICS.values()}),
        method="gradient",
    )
    found |= {name: each.statistics for name, each in scores.measured.items()}
    return {
        f"{name}{jax.tree_util.keystr(path)}": np.asarray(leaf)
        for name, each in found.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(each)
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.savez(sys.argv[1], **results())
