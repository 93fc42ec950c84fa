"""What every metric must keep that runs on the device: one number an image, compiled once, the same in every way to run it."""

from functools import cache

import jax
import numpy as np
import pytest
from reference_network import captum, network

from mdm_jax import InputError
from mdm_jax.metrics import METRICS, Sample, find
from mdm_jax.metrics.metric import BETTER, NEEDS

ON_DEVICE = [name for name, metric in METRICS.items() if metric.needs in ("network", "map", "mask")]
RISE_STEPS = {"insertion:rise-224", "insertion:zero-224", "deletion:rise-224"}  # as those of 28, but for the number of steps


@pytest.fixture(scope="module")
def reference():
    return network(captum())


@pytest.fixture(scope="module")
def samples():
    """Two samples, stacked."""
    fixture, rng = captum(), np.random.default_rng(3)
    images = fixture["images"].astype(np.float32)
    attribution = rng.normal(size=images.shape[:3]).astype(np.float32)
    saliency = (attribution - attribution.min()) / np.ptp(attribution)
    return Sample(images, saliency, attribution, np.asarray(fixture["targets"], np.int32), rng.random(images.shape[:3]) < 0.3)


def row(samples, i):
    return Sample(*(None if leaf is None else leaf[i] for leaf in samples))


def test_every_metric_says_what_it_is():
    for name, metric in METRICS.items():
        assert metric.id == name == f"{metric.name}:{metric.protocol}"
        assert metric.needs in NEEDS
        assert metric.better in BETTER
        assert metric.description.endswith(".")


def test_find_by_id_and_by_name():
    assert find("insertion:zero-28") is METRICS["insertion:zero-28"]
    assert find("insertion") is METRICS["insertion:rise-28"]
    with pytest.raises(InputError, match="did you mean 'insertion:rise-28'"):
        find("insertion:rise-29")
    with pytest.raises(InputError, match="unknown metric 'roar'"):
        find("roar")


@cache
def batched(name):
    """The metric over two samples, compiled once for all tests."""
    metric = METRICS[name]
    return jax.jit(jax.vmap(lambda net, sample, key: metric.measure(net, sample, key=key), in_axes=(None, 0, 0)))


KEYS = jax.random.split(jax.random.key(5), 2)
TURNED = KEYS[::-1]


@pytest.mark.parametrize("name", ON_DEVICE)
def test_finite_and_the_same_in_a_batch_and_alone(name, reference, samples, compilations):
    together = batched(name)(reference, samples, KEYS)
    assert np.isfinite(together).all()
    assert METRICS[name].needs == "mask" or together.shape == (2,)
    assert np.isfinite(METRICS[name].reduce(np.asarray(together)))
    turned = row(samples, [1, 0])
    with compilations as compiled:
        again = batched(name)(reference, turned, TURNED)
    assert compiled.count == 0
    np.testing.assert_allclose(again[::-1], together, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(batched(name)(reference, samples, KEYS), together)


@pytest.mark.parametrize("name", [name for name in ON_DEVICE if name not in RISE_STEPS])
def test_compiled_as_without(name, reference, samples):
    metric = METRICS[name]
    together = batched(name)(reference, samples, KEYS)
    for i in range(2):
        plain = metric.measure(reference, row(samples, i), key=KEYS[i])
        np.testing.assert_allclose(plain, together[i], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ON_DEVICE)
def test_a_constant_map_gives_a_finite_number(name, reference, samples):
    flat = np.zeros_like(samples.saliency)
    flat[1] = 0.7
    assert np.isfinite(batched(name)(reference, samples._replace(saliency=flat, attribution=flat), KEYS)).all()


@pytest.mark.parametrize("name", [name for name in ON_DEVICE if METRICS[name].needs == "network"])
def test_a_map_with_a_nan_gives_nan_and_leaves_its_neighbour_alone(name, reference, samples):
    broken = samples.saliency.copy()
    broken[0, 3, 4] = np.nan
    got = batched(name)(reference, samples._replace(saliency=broken, attribution=broken), KEYS)
    assert np.isnan(got[0])
    assert np.isfinite(got[1])
