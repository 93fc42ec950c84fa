"""Insertion, deletion and confidence: against RISE's own steps, and against closed forms."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from conftest import PATCH, patch_network
from reference_network import captum, network

from mdm_jax import InputError, fills
from mdm_jax.metrics import METRICS, Sample, confidence, curves, similarity
from mdm_jax.metrics.perturbed import ranks

RISE = np.load(pathlib.Path(__file__).parents[1] / "fixtures" / "rise.npz")
SIDE = 8


def additive(images):
    """Two logits whose softmax is as linear in the pixels as can be: log of p and 1 - p, p the mean
    brightness."""
    p = jnp.clip(images.mean((1, 2, 3)), 1e-6, 1 - 1e-6)
    return jnp.stack([jnp.log(p), jnp.log1p(-p)], axis=-1)


def test_the_kernel_and_the_blur_are_rise_s():
    kernel, fixture = curves.rise_kernel(), captum()
    np.testing.assert_allclose(np.outer(kernel, kernel), RISE["kernel"], atol=1e-12)
    mean, std = fixture["weights/mean"], fixture["weights/std"]
    for image, expected in zip(fixture["images"].astype(np.float32), RISE["blurred"]):
        blurred = curves.rise_blur(image, jnp.asarray(mean, jnp.float32))
        np.testing.assert_allclose((blurred - mean) / std, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["insertion", "deletion"])
@pytest.mark.parametrize(("steps", "pixels"), [(24, 5), (18, 7)])
def test_curves_and_areas_are_rise_s(mode, steps, pixels):
    fixture, predict = captum(), network(captum())
    run = jax.jit(
        lambda *sample: getattr(curves, f"{mode}_curve")(
            predict, *sample, steps=steps, chunk=9
        )
    )
    for i, image in enumerate(fixture["images"].astype(np.float32)):
        scores = run(image, RISE["saliency"][i].astype(np.float32), RISE["targets"][i])
        np.testing.assert_allclose(scores, RISE[f"{mode}/{pixels}"][i], rtol=1e-4)
        assert float(curves.area(scores)) == pytest.approx(
            RISE[f"{mode}_auc/{pixels}"][i], rel=1e-4
        )


@pytest.mark.slow
def test_curves_of_a_linear_network_in_closed_form():
    """Deletion turns bright pixels to 0.5 in the given order; the probability is the mean
    brightness."""
    rng = np.random.default_rng(0)
    image = np.repeat(rng.uniform(0, 1, (SIDE, SIDE, 1)), 3, axis=2).astype(np.float32)
    saliency = rng.permutation(SIDE * SIDE).reshape(SIDE, SIDE).astype(np.float32) / (
        SIDE * SIDE
    )
    order = np.argsort(-saliency.ravel())
    steps, step = 13, 5  # 64 pixels: 12 steps of 5 and one of 4
    values = image[..., 0].ravel()
    gained = np.concatenate([[0], np.cumsum(0.5 - values[order])])[
        [min(step * k, 64) for k in range(steps + 1)]
    ]
    expected = values.mean() + gained / 64
    scores = curves.deletion_curve(additive, image, saliency, 0, steps=steps)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    area = np.trapezoid(expected, dx=1 / steps)
    assert float(
        curves.deletion(additive, image, saliency, 0, steps=steps)
    ) == pytest.approx(area, rel=1e-5)
    reverse = curves.insertion_curve(
        additive, image, saliency, 0, steps=steps, start="neutral"
    )
    np.testing.assert_allclose(reverse, 0.5 + values.mean() - expected, rtol=1e-5)


@pytest.mark.slow
def test_ends_of_the_curves(images):
    neutral = np.full_like(images[0], 0.5)
    blurred = curves.rise_blur(images[0], fills.neutral_color(patch_network, 3))
    whole, gray, soft = jax.nn.softmax(
        patch_network(jnp.stack([images[0], neutral, blurred]))
    )[:, 0]
    saliency = images[0, ..., 0]
    deleted = curves.deletion_curve(patch_network, images[0], saliency, 0, steps=4)
    inserted = curves.insertion_curve(patch_network, images[0], saliency, 0, steps=4)
    np.testing.assert_allclose(deleted[jnp.array([0, -1])], [whole, gray], rtol=1e-5)
    np.testing.assert_allclose(inserted[jnp.array([0, -1])], [soft, whole], rtol=1e-5)


def test_the_object_is_better_than_the_rest(images, key):
    good = np.zeros((32, 32), np.float32)
    good[*PATCH] = 1.0
    metrics = [
        METRICS[name]
        for name in ("insertion:rise-28", "deletion:rise-28", "average_drop:gradcam++")
    ]

    @jax.jit
    def measured(saliency):
        return [
            metric.measure(
                patch_network, Sample(images[0], saliency, saliency, saliency, 0), key=key
            )
            for metric in metrics
        ]

    for metric, a, b in zip(metrics, measured(good), measured(1 - good)):
        assert a > b + 0.1 if metric.better == "higher" else a < b - 0.1, metric.id


@pytest.mark.slow
def test_areas_and_ranks_are_those_of_scikit_learn_and_scipy():
    rng = np.random.default_rng(0)
    for points in (2, 29, 225):
        scores = rng.uniform(size=points).astype(np.float32)
        expected = sklearn.metrics.auc(np.linspace(0, 1, points), scores)
        assert float(curves.area(jnp.asarray(scores))) == pytest.approx(expected, rel=1e-6)
    ties = rng.integers(0, 9, (12, 10)).astype(np.float32)
    expected = scipy.stats.rankdata(-ties.ravel(), method="ordinal").reshape(12, 10) - 1
    np.testing.assert_array_equal(ranks(ties), expected)
    shared = similarity.ranks(jnp.asarray(ties))
    np.testing.assert_array_equal(shared, scipy.stats.rankdata(ties.ravel()) - 1)


def test_ties_go_row_by_row():
    assert (ranks(np.zeros((3, 4), np.float32)) == np.arange(12).reshape(3, 4)).all()
    assert ranks(np.array([[0.0, -0.0, 1.0], [1.0, 0.5, 0.0]], np.float32)).tolist() == [
        [3, 4, 0],
        [1, 2, 5],
    ]


@pytest.mark.slow
def test_a_constant_map_reads_the_image_as_text(images):
    text = -np.arange(32 * 32, dtype=np.float32).reshape(32, 32)
    for value in (0.0, 0.3):
        flat = np.full((32, 32), value, np.float32)
        for curve in (curves.insertion_curve, curves.deletion_curve):
            np.testing.assert_array_equal(
                *(
                    curve(patch_network, images[0], each, 0, steps=8)
                    for each in (flat, text)
                )
            )


def test_what_curves_refuse(images):
    with pytest.raises(InputError, match="steps is 0"):
        curves.deletion(patch_network, images[0], images[0, ..., 0], 0, steps=0)
    with pytest.raises(InputError, match="unknown start 'blurr'"):
        curves.insertion(patch_network, images[0], images[0, ..., 0], 0, start="blurr")


@pytest.mark.slow
def test_confidence_in_closed_form():
    """The network says the mean brightness of a gray image; a map of mean m moves it to m x + (1 -
    m) / 2."""
    image = np.full((SIDE, SIDE, 3), 0.8, np.float32)
    rng = np.random.default_rng(1)
    saliency = rng.permutation(SIDE * SIDE).reshape(SIDE, SIDE).astype(np.float32) / (
        SIDE * SIDE - 1
    )

    def measured(name, saliency, image=image):
        return METRICS[name].measure(
            additive, Sample(image, saliency, saliency, saliency, 0), key=jax.random.key(0)
        )

    assert float(measured("average_drop:gradcam++", saliency)) == pytest.approx(
        (0.8 - 0.65) / 0.8, rel=1e-5
    )
    half = np.sort(saliency.ravel())[32:].sum() / 64
    assert float(measured("average_drop:scorecam-50", saliency)) == pytest.approx(
        0.3 * (1 - half) / 0.8, rel=1e-5
    )
    assert measured("increase:gradcam++", saliency) == 0.0
    assert measured("average_gain:gradcam++", saliency) == 0.0
    dark = np.full_like(image, 0.2)
    assert measured("average_drop:gradcam++", saliency, dark) == 0.0
    assert measured("increase:gradcam++", saliency, dark) == 1.0
    assert measured("increase:scorecam-50", saliency, dark) == 1.0
    assert float(measured("average_gain:gradcam++", saliency, dark)) == pytest.approx(
        0.15 / 0.8, rel=1e-5
    )
    for name in ("average_drop:gradcam++", "increase:gradcam++", "average_gain:gradcam++"):
        assert measured(name, np.ones_like(saliency)) == 0.0
    assert float(
        measured("average_drop:gradcam++", np.zeros_like(saliency))
    ) == pytest.approx(0.3 / 0.8, rel=1e-5)


def test_adcc_of_known_maps():
    image = np.full((SIDE, SIDE, 3), 0.8, np.float32)
    saliency = (
        np.random.default_rng(1).permutation(64).reshape(SIDE, SIDE).astype(np.float32) / 63
    )

    def measured(saliency, again):
        sample = Sample(image, saliency, saliency, saliency, 0)
        return METRICS["adcc:poppi"].measure(
            additive, sample, key=jax.random.key(0), explain=lambda *_: jnp.asarray(again)
        )

    kept = 1 - 0.15 / 0.8
    assert float(measured(saliency, saliency)) == pytest.approx(
        3 / (1 + 2 + 1 / kept), rel=1e-5
    )
    shuffled = saliency.T
    coherency = (np.corrcoef(saliency.ravel(), shuffled.ravel())[0, 1] + 1) / 2
    assert float(confidence.coherency(saliency, shuffled)) == pytest.approx(
        coherency, rel=1e-5
    )
    assert float(measured(saliency, shuffled)) == pytest.approx(
        3 / (1 / coherency + 2 + 1 / kept), rel=1e-5
    )
    assert float(measured(saliency, 1 - saliency)) == pytest.approx(0.0, abs=1e-6)
    for constant in (0.0, 0.4, 1.0):
        assert measured(np.full_like(saliency, constant), saliency) == 0.0
    assert np.isnan(measured(saliency, np.full_like(saliency, np.nan)))


def test_neutral_is_what_the_network_sees_as_zero():
    np.testing.assert_allclose(fills.neutral_color(network(captum()), 3), (0.45, 0.5, 0.4))
    np.testing.assert_allclose(fills.neutral_color(patch_network, 3), (0.5, 0.5, 0.5))
