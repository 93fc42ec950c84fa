"""Gradient baselines: captum's numbers on the same network, closed forms, what cannot be asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PATCH, patch_network
from reference_network import captum, network

from mdm_jax import InputError, explain, fills
from mdm_jax.baselines.baseline_image import draw_baseline
from mdm_jax.baselines.input_x_gradient import InputXGradient
from mdm_jax.baselines.integrated_gradients import (
    IntegratedGradients,
    integrate,
    quadrature,
)
from mdm_jax.baselines.smoothgrad import SmoothGrad, mean_gradient, noisy
from mdm_jax.execution import chunked

WEIGHTS = jnp.asarray(np.random.default_rng(5).normal(size=(8, 9, 3)).astype(np.float32))


def linear(images):
    """Logits whose first is sum(w * x) and whose gradient is w everywhere."""
    score = (images * WEIGHTS).sum((1, 2, 3))
    return jnp.stack([score, jnp.zeros_like(score)], axis=-1)


def smooth(images):
    """Logits without a kink: tanh of three weighted sums."""
    sums = jnp.stack(
        [(images * WEIGHTS * scale).sum((1, 2, 3)) for scale in (0.3, -0.2, 0.1)], axis=-1
    )
    return 4.0 * jnp.tanh(sums) + jnp.square(sums)


@pytest.fixture(scope="module")
def small():
    return np.random.default_rng(6).uniform(0, 1, (2, 8, 9, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def reference():
    return captum()


def per_image(function, reference):
    return jax.jit(jax.vmap(function))(
        reference["images"], reference["targets"].astype(np.int32)
    )


def assert_parity(got, expected, tolerance=1e-5):
    assert np.abs(np.asarray(got) - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["gauss_legendre", "left", "middle", "right"])
def test_integrated_gradients_are_captums(rule, reference):
    predict = network(reference)

    def one(image, target):
        black = jnp.zeros_like(image)
        return integrate(
            predict, black, image, target, node="logit", steps=20, rule=rule, chunk=8
        )

    assert_parity(per_image(one, reference), reference[f"integrated_gradients/{rule}"])


@pytest.mark.parametrize("kind", ["mean", "squared"])
def test_smoothgrad_is_captums_given_its_noise(kind, reference):
    predict = network(reference)

    def one(image, target, copies):
        options = {"node": "logit", "squared": kind == "squared", "chunk": 3}
        return mean_gradient(predict, lambda copy: copy, copies, target, **options)

    arguments = [
        reference[name].astype(kept)
        for name, kept in (("images", "f4"), ("targets", "i4"), ("smoothgrad/noisy", "f4"))
    ]
    assert_parity(jax.jit(jax.vmap(one))(*arguments), reference[f"smoothgrad/{kind}"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "config", "name"),
    [
        ("input_x_gradient", None, "input_x_gradient"),
        (
            "integrated_gradients",
            IntegratedGradients(steps=20),
            "integrated_gradients/neutral",
        ),
        (
            "integrated_gradients",
            IntegratedGradients(steps=20, baseline="black"),
            "integrated_gradients/gauss_legendre",
        ),
    ],
)
def test_the_methods_are_captums(method, config, name, reference):
    found = explain(
        network(reference),
        reference["images"],
        reference["targets"],
        method=method,
        config=config,
    )
    assert_parity(found.attribution, reference[name].sum(-1))
    assert found.info.evaluations.tolist() == ([20, 20] if config else [1, 1])
    assert found.info.forwards.tolist() == [3, 3]


@pytest.mark.slow
def test_closed_forms_on_a_linear_network(small):
    weights = np.asarray(WEIGHTS)
    product = ((small - 0.5) * weights).sum(-1)
    smoothed = explain(
        linear,
        small,
        0,
        method="smoothgrad",
        config=SmoothGrad(num_samples=7, noise_level=0.3, chunk=3),
    )
    np.testing.assert_allclose(smoothed.attribution[1], weights.sum(-1), rtol=1e-5)
    magnitudes = np.abs(weights).sum(-1)
    stretched = (magnitudes - magnitudes.min()) / np.ptp(magnitudes)
    np.testing.assert_allclose(smoothed.saliency[1], stretched, atol=1e-5)
    squared = explain(
        linear,
        small,
        0,
        method="smoothgrad",
        config=SmoothGrad(num_samples=7, squared=True, chunk=3),
    )
    np.testing.assert_allclose(
        squared.attribution[0], np.square(weights).sum(-1), rtol=1e-5
    )
    np.testing.assert_allclose(
        explain(linear, small, 0, method="input_x_gradient").attribution, product, atol=1e-5
    )
    trapezoid = IntegratedGradients(steps=2, rule="trapezoid")
    found = explain(linear, small, 0, method="integrated_gradients", config=trapezoid)
    np.testing.assert_allclose(found.attribution, product, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["gauss_legendre", "trapezoid"])
def test_integrated_gradients_are_complete(rule, small):
    """On a smooth network they add up to the difference to 1e-4; a kink of a ReLU costs more
    steps."""
    config = IntegratedGradients(
        steps=50 if rule == "gauss_legendre" else 400,
        rule=rule,
        baseline="black",
        chunk=400,
    )
    found = explain(smooth, small, 1, method="integrated_gradients", config=config)
    difference = (smooth(small) - smooth(np.zeros_like(small)))[:, 1]
    assert np.abs(difference).min() > 0.05
    np.testing.assert_allclose(found.attribution.sum((1, 2)), difference, rtol=1e-4)


@pytest.mark.slow
def test_several_baselines_are_averaged(small):
    def attribution(baseline):
        config = IntegratedGradients(steps=8, baseline=baseline)
        found = explain(smooth, small, 0, method="integrated_gradients", config=config)
        return found.attribution, found.info.evaluations[0]

    (black, cost), (gray, _), (both, cost_of_both) = map(
        attribution, ("black", "gray", ("black", "gray"))
    )
    np.testing.assert_allclose(both, (black + gray) / 2, atol=1e-6)
    assert np.abs(black - gray).max() > 0.01
    assert (cost, cost_of_both) == (8, 16)


@pytest.mark.parametrize(
    ("rule", "steps", "degree"),
    [
        ("gauss_legendre", 5, 9),
        ("trapezoid", 5, 1),
        ("middle", 5, 1),
        ("left", 5, 0),
        ("right", 5, 0),
    ],
)
def test_rules_are_exact_up_to_their_degree(rule, steps, degree):
    places, weights = quadrature(rule, steps)
    assert weights.sum() == pytest.approx(1.0)
    assert weights @ places**degree == pytest.approx(1 / (degree + 1))
    assert weights @ places ** (degree + 1) != pytest.approx(1 / (degree + 2), abs=1e-7)


def test_noise_has_the_deviation_asked_for():
    image = jnp.linspace(0.2, 0.6, 40 * 40 * 3).reshape(40, 40, 3)
    noise = noisy(image, 0.15, key=jax.random.key(3)) - image
    assert float(noise.std()) == pytest.approx(0.15 * 0.4, rel=0.05)
    assert abs(float(noise.mean())) < 0.003


def test_absence_is_what_the_network_sees_as_zero(reference, small):
    predict, image = network(reference), jnp.asarray(small[0])
    key = jax.random.key(0)
    np.testing.assert_allclose(
        draw_baseline(predict, image, "zero", key=key)[3, 2], [0.45, 0.5, 0.4]
    )
    np.testing.assert_allclose(draw_baseline(linear, image, "zero", key=key), 0.5)
    np.testing.assert_allclose(
        draw_baseline(predict, image, "blur", key=key), fills.blur()(image, key=key)
    )
    np.testing.assert_allclose(draw_baseline(predict, image, 0.25, key=key), 0.25)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["input_x_gradient", "smoothgrad", "integrated_gradients"]
)
def test_only_the_patch_is_salient(method, images):
    found = explain(patch_network, images, 0, method=method)
    inside = np.zeros(images.shape[1:3], bool)
    inside[PATCH] = True
    assert (found.saliency[:, ~inside] == found.saliency[:, ~inside].min()).all()
    assert found.saliency[:, inside].mean() > found.saliency[:, ~inside].mean() + 0.2


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (SmoothGrad(num_samples=0), "samples is 0"),
        (SmoothGrad(num_samples=True), "samples is True"),
        (SmoothGrad(noise_level=0.0), "noise_level is 0.0"),
        (SmoothGrad(noise_level=float("nan")), "noise_level is nan"),
        (SmoothGrad(noise_level="loud"), "noise_level is 'loud'"),
        (SmoothGrad(reduction="maximal"), "did you mean 'maximum'"),
        (SmoothGrad(chunk=0), "chunk is 0"),
        (IntegratedGradients(steps=0), "steps is 0"),
        (IntegratedGradients(steps=1, rule="trapezoid"), "whole number from 2"),
        (IntegratedGradients(rule="simpson"), "unknown rule 'simpson'"),
        (IntegratedGradients(baseline="blak"), "did you mean 'black'"),
        (IntegratedGradients(baseline=()), "empty tuple"),
        (InputXGradient(baseline={}), "fill is a dict"),
        (InputXGradient(reduction="sum"), "unknown reduction 'sum'"),
    ],
)
def test_what_cannot_be_is_said(config, sentence):
    with pytest.raises(InputError, match=sentence):
        config.check()


def test_numbers_may_be_swept(small):
    """A leaf may be traced: one program for every level of noise."""

    def spread(noise):
        config = SmoothGrad(num_samples=2, noise_level=noise)
        config.check()
        return noisy(jnp.asarray(small[0]), config.noise_level, key=jax.random.key(0)).std()

    low, high = jax.vmap(spread)(jnp.asarray([0.1, 0.9]))
    assert high > low
    with pytest.raises(InputError, match="and below 1"):
        chunked.check_above_zero("kept", 1.0, below=1.0)
