"""What every method must keep, run over all of them: the one-image contract and the batch that is built on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import patch_network

from mdm_jax import MDMConfig, explain
from mdm_jax.methods import METHODS
from mdm_jax.types import Explanation

CONFIGS = {"mdm": MDMConfig(sizes=(4, 8), steps=6, start="half"), "gradient": None}


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


def close(a, b, atol=1e-4):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


def test_every_method_has_a_test_config():
    assert CONFIGS.keys() == METHODS.keys()


def test_shape_range_and_finiteness(method, tiny, images):
    explanation = explain(tiny, images, method=method, config=CONFIGS[method])
    assert isinstance(explanation, Explanation)
    assert explanation.saliency.shape == images.shape[:3]
    assert explanation.saliency.dtype == np.float32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(explanation))
    assert explanation.saliency.min() >= 0
    assert explanation.saliency.max() == pytest.approx(1.0, abs=1e-6)
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves(explanation))


def test_batch_equals_a_loop_over_images(method, tiny, images):
    together = explain(tiny, images, [0, 1, 2], method=method, config=CONFIGS[method])
    one = jax.jit(
        lambda image, target, i: METHODS[method](
            tiny, image, target, key=jax.random.fold_in(jax.random.key(0), i), config=CONFIGS[method]
        )
    )
    for i, image in enumerate(images):
        close(jax.tree.map(lambda leaf, i=i: leaf[i], together), one(jnp.asarray(image), jnp.int32(i), jnp.uint32(i)))


def test_same_key_same_result_and_other_batch_sizes_and_orders(method, tiny, images):
    whole = explain(tiny, images, method=method, config=CONFIGS[method], ids=["a", "b", "c"])
    again = explain(tiny, images, method=method, config=CONFIGS[method], ids=["a", "b", "c"])
    jax.tree.map(np.testing.assert_array_equal, whole, again)
    order = [2, 0, 1]
    turned = explain(tiny, images[order], method=method, config=CONFIGS[method], ids=["c", "a", "b"])
    close(turned, jax.tree.map(lambda leaf: leaf[order], whole))
    padded = explain(tiny, images, method=method, config=CONFIGS[method], ids=["a", "b", "c"], micro_batch=2)
    close(padded, whole)


def test_a_second_call_compiles_nothing(method, tiny, images, compilations):
    for network in (tiny, patch_network):
        explain(network, images, method=method, config=CONFIGS[method])
        with compilations as compiled:
            explain(network, images[::-1], method=method, config=CONFIGS[method])
        assert compiled.count == 0


def test_explicit_target_of_first_choice_changes_nothing(method, tiny, images):
    free = explain(tiny, images, method=method, config=CONFIGS[method])
    told = explain(tiny, images, free.info.target, method=method, config=CONFIGS[method])
    close(free, told, atol=1e-6)
    np.testing.assert_array_equal(free.info.target, np.argmax(tiny(jnp.asarray(images))[0], axis=-1))
