"""Sensitivity-n, infidelity and max-sensitivity: exact on a linear network, and captum's numbers on
a small one."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_network import captum, network

from mdm_jax import InputError
from mdm_jax.metrics import METRICS, Sample, sensitivity

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(12, 10, 3)).astype(np.float32)
IMAGE = RNG.uniform(0, 1, (12, 10, 3)).astype(np.float32)
EXACT = (WEIGHTS * (IMAGE - 0.5)).sum(axis=-1)
"""the contribution of each pixel against the color 0.5"""


def linear(images):
    score = jnp.einsum("nhwc,hwc->n", images, WEIGHTS, precision="highest") + 1.5
    return jnp.stack([score, jnp.zeros_like(score)], axis=-1)


def measured(name, attribution, image=IMAGE, predict=linear):
    return float(_program(name, predict)(image, attribution))


@cache
def _program(name, predict):
    def measure(image, attribution):
        return METRICS[name].measure(
            predict,
            Sample(image, attribution, attribution, attribution, 0),
            key=jax.random.key(0),
        )

    return jax.jit(measure)


def still(images):
    """A network that does not react."""
    return 0 * linear(images) + 3.3


@pytest.mark.slow
def test_exact_attributions_of_a_linear_network():
    assert measured("sensitivity_n:ancona", EXACT) == pytest.approx(1.0, abs=1e-4)
    assert measured("sensitivity_n:ancona", -EXACT) == pytest.approx(-1.0, abs=1e-4)
    assert measured("sensitivity_n:ancona", 5 * EXACT + 2) == pytest.approx(1.0, abs=1e-4)
    gradient = WEIGHTS.sum(axis=-1)
    assert measured("infidelity:captum", gradient) < 1e-9
    assert measured("infidelity:captum", 0 * gradient) > 1e-4
    assert measured("infidelity:captum-scaled", 7 * gradient) < 1e-9
    assert measured("infidelity:captum", 7 * gradient) > 1e-3


def test_an_unrelated_attribution_does_not_correlate():
    other = np.random.default_rng(9).normal(size=EXACT.shape).astype(np.float32)
    assert abs(measured("sensitivity_n:ancona", other)) < 0.2


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_attribution_correlates_with_nothing(value):
    flat = np.full(EXACT.shape, value, np.float32)
    assert measured("sensitivity_n:ancona", flat) == 0.0


def test_a_network_that_does_not_react_correlates_with_nothing():
    assert measured("sensitivity_n:ancona", EXACT, predict=still) == 0.0


@pytest.mark.slow
def test_pearson_against_numpy():
    """Sums and changes of every set, done one by one."""
    sizes, subsets, key = (1, 30, 90), 12, jax.random.key(3)
    predict = network(captum())
    got = jax.jit(
        lambda key: sensitivity.sensitivity_n(
            predict, IMAGE, EXACT, 2, key=key, sizes=sizes, subsets=subsets, chunk=7
        )
    )(key)
    orders = [jax.random.permutation(each, 120) for each in jax.random.split(key, subsets)]
    whole, r = predict(IMAGE[None])[0][0, 2], []
    for size in sizes:
        sums, lost = [], []
        for order in orders:
            inside = np.asarray(order < size).reshape(12, 10)
            altered = np.where(inside[..., None], np.float32([0.45, 0.5, 0.4]), IMAGE)
            sums.append(EXACT[inside].sum())
            lost.append(float(whole - predict(altered[None])[0][0, 2]))
        r.append(np.corrcoef(sums, lost)[0, 1])
    assert float(got) == pytest.approx(np.mean(r), abs=1e-4)


def test_sizes_of_the_sets():
    sizes = sensitivity.set_sizes(224 * 224)
    assert (sizes[0], sizes[-1], len(sizes)) == (1, 40140, 10)
    assert sensitivity.set_sizes(1) == (1,)
    for sizes in ((), (0,), (120,)):
        with pytest.raises(InputError, match="give sizes from 1"):
            sensitivity.sensitivity_n(
                linear, IMAGE, EXACT, 0, key=jax.random.key(0), sizes=sizes
            )


@pytest.mark.slow
def test_infidelity_is_captum_s():
    fixture, predict = captum(), network(captum())
    signed = fixture["integrated_gradients/gauss_legendre"].sum(axis=-1)
    for i, image in enumerate(fixture["images"].astype(np.float32)):
        for attribution, drawn, names in (
            (fixture["gradient"][i], "infidelity/perturbations", ("plain", "normalised")),
            (signed[i], "infidelity/map_perturbations", ("map", "map_normalised")),
        ):
            for name, scaled in zip(names, (False, True)):
                arrays = (
                    attribution.astype(np.float32),
                    fixture["targets"][i],
                    fixture[drawn][i].astype(np.float32),
                )
                got = sensitivity.infidelity(predict, image, *arrays, scaled=scaled)
                assert float(got) == pytest.approx(
                    fixture[f"infidelity/{name}"][i], rel=1e-4
                )


@pytest.mark.slow
def test_max_sensitivity_is_captum_s():
    fixture, predict = captum(), network(captum())
    for i, image in enumerate(fixture["images"].astype(np.float32)):
        target = fixture["targets"][i]
        noise = fixture["sensitivity/perturbations"][i].astype(np.float32)

        def gradient(x, target=target):
            return jax.grad(lambda x: predict(x[None])[0][0, target])(x)

        assert float(sensitivity.largest_change(image, noise, gradient)) == pytest.approx(
            fixture["sensitivity/gradient"][i], rel=1e-4
        )
        largest = sensitivity.largest_change(
            image, noise, lambda x: jnp.abs(gradient(x)).max(-1), chunk=4
        )
        assert float(largest) == pytest.approx(fixture["sensitivity/map"][i], rel=1e-4)


@pytest.mark.slow
def test_max_sensitivity_of_known_methods():
    sample = Sample(IMAGE, np.abs(EXACT), EXACT, np.abs(EXACT), 0)
    metric = METRICS["max_sensitivity:captum"]
    assert (
        metric.measure(
            None,
            sample,
            key=jax.random.key(0),
            explain=lambda image, target, key: jnp.ones((12, 10)),
        )
        == 0
    )
    drawn = metric.measure(
        None,
        sample,
        key=jax.random.key(0),
        explain=lambda image, target, key: jax.random.uniform(key, (12, 10)),
    )
    assert drawn == 0  # the method's own draws are the same for every copy
    itself = metric.measure(
        None,
        sample,
        key=jax.random.key(0),
        explain=lambda image, target, key: image[..., 0],
    )
    relative = 0.02 * np.sqrt(IMAGE[..., 0].size) / np.linalg.norm(IMAGE[..., 0])
    assert relative / 2 < itself <= relative
    away = jnp.asarray(IMAGE)
    zero = metric.measure(
        None,
        sample,
        key=jax.random.key(0),
        explain=lambda image, target, key: jnp.abs(image - away).sum(-1),
    )
    assert 0 < zero <= 0.02 * 3 * np.sqrt(120)  # the norm of an all-zero map counts as 1
