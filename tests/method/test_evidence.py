"""Evidence and the maps that are made of it: exact on networks whose answer is known."""

from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from square_network import SIDE, SQUARE, square_image, square_network

from mdm_jax import MDMConfig, Status, masks, mdm
from mdm_jax.evidence import COARSE, LEVELS, maps, missing, proportional, smooth, support

SETTINGS = MDMConfig(sizes=(4, 8), fill="black", steps=8)


@pytest.fixture(scope="module")
def image():
    return square_image()


def solved(predict, image, config=SETTINGS, **choices):
    choices = {"target": 0, "node": "logit", "key": jax.random.key(0)} | choices
    return mdm.explain(predict, image, config=config, **choices)


def test_evidence_of_a_uniform_square_is_known(image):
    """The gradient is alike in the 16 of 256 pixels and 0 elsewhere, so it is 4 root mean squares
    there at every step."""
    found = solved(square_network, image)
    expected = np.zeros((SIDE, SIDE))
    expected[SQUARE] = 4.0 * SETTINGS.steps
    np.testing.assert_allclose(found.evidence, expected, atol=1e-3)


def curved_network(images):
    """No pixel has the gradient of another, and it changes with the mask."""
    weights = jnp.linspace(-1.0, 2.0, SIDE**2).reshape(SIDE, SIDE, 1)
    score = jnp.tanh((images * weights).mean((1, 2, 3)) * 3.0)
    return jnp.stack([score, jnp.zeros_like(score)], axis=-1)


def test_evidence_adds_up_the_gradients_along_the_way(image):
    """Against jax.grad of the signed share with respect to the rendered mask, fills in turn."""
    settings = replace(SETTINGS, fill=("black", "gray"))
    found = solved(curved_network, image, settings, trace=True)
    reference = curved_network(image[None])[0, 0]
    fill_activation = curved_network(jnp.zeros_like(image)[None])[0, 0]
    full_range = max(abs(reference - fill_activation), 0.3 * abs(reference))

    @jax.grad
    def gradient(mask, color):
        seen = mask[..., None] * image + (1.0 - mask[..., None]) * color
        drop = reference - curved_network(seen[None])[0, 0]
        return drop * jnp.sign(reference - fill_activation) / full_range

    expected = jnp.zeros((SIDE, SIDE))
    for step in range(settings.steps):
        vector = found.trace.mask_vectors[0 if step < 4 else 1][step]
        g = gradient(masks.render(vector, (SIDE, SIDE)), 0.5 * (step % 2))
        rms = jnp.sqrt(jnp.mean(g**2))
        expected -= jnp.where(rms > 0, g / jnp.where(rms > 0, rms, 1.0), 0.0)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found.evidence, expected, atol=1e-3)


def test_proportional_steps_keep_proportions_and_leave_zero():
    gradient = jnp.array([1.0, -2.0, 0.0, 5.0])
    scaled = proportional(1e4 * gradient)
    np.testing.assert_allclose(jnp.mean(scaled**2), 1.0, rtol=1e-5)
    np.testing.assert_allclose(scaled / scaled[0], gradient, rtol=1e-5)
    assert not np.any(proportional(jnp.zeros(3)))


def kept_after(share):
    """Everything is back once a share of the pixels is shown, nothing before."""
    return lambda shown: (shown.mean((1, 2)) >= share - 1e-6).astype(jnp.float32)


def in_order(value, order):
    return np.asarray(value).ravel()[np.argsort(-np.asarray(order).ravel(), kind="stable")]


@pytest.fixture(scope="module")
def order():
    """2000 pixels, so that every level is a whole number of them."""
    return jax.random.permutation(jax.random.key(1), jnp.arange(2000.0)).reshape(40, 50)


def test_what_is_missing_falls_where_the_activation_comes_back(order):
    values = in_order(missing(order, kept_after(0.2)), order)
    shown_before = np.arange(2000) / 2000
    assert values[0] == 1.0
    assert (np.diff(values) <= 0).all()
    # at the level before 0.2 all is missing, at 0.2 nothing; in between it falls in a line
    np.testing.assert_allclose(values[shown_before <= 0.14], 1.0)
    np.testing.assert_allclose(values[shown_before >= 0.2], 0.0, atol=1e-6)
    between = (shown_before > 0.14) & (shown_before < 0.2)
    np.testing.assert_allclose(
        values[between], (0.2 - shown_before[between]) / 0.06, atol=1e-4
    )


def test_what_is_missing_is_read_at_every_level(order):
    """Of an activation that comes back as the square root of the share, at the levels exactly."""
    values = in_order(missing(order, lambda shown: jnp.sqrt(shown.mean((1, 2)))), order)
    at_levels = values[np.round(np.array(LEVELS) * 2000).astype(int)]
    # rounding may show a pixel more or less
    np.testing.assert_allclose(at_levels, 1.0 - np.sqrt(LEVELS), atol=5e-3)


def test_what_came_back_counts_as_back(order):
    """More pixels that take the activation away again do not raise the value; nor does more than
    all of it, or less than nothing."""

    def kept(shown):
        return jnp.array([-3.0, 0.5, 0.1, 7.0, *[0.0] * (len(LEVELS) - 4)])

    values = in_order(missing(order, kept), order)
    assert (np.diff(values) <= 0).all()
    assert values.min() == 0.0
    assert values.max() == 1.0


def test_equal_pixels_are_shown_one_after_another():
    values = missing(jnp.zeros((10, 10)), kept_after(0.2))
    assert values[0, 0] == 1.0
    assert (np.diff(np.asarray(values).ravel()) <= 0).all()
    assert values[-1, -1] == 0.0


@pytest.mark.parametrize("shape", [(12, 20), (8, 8), (1, 30)])
@pytest.mark.parametrize("what", ["usual", "no evidence", "constant mask", "neither"])
def test_maps_are_finite_and_in_range(shape, what):
    key = jax.random.key(2)
    mask, evidence = jax.random.uniform(key, shape), jax.random.normal(key, shape)
    if what in ("no evidence", "neither"):
        evidence = jnp.zeros(shape)
    if what in ("constant mask", "neither"):
        mask = jnp.full(shape, 0.7)
    found = maps(mask, evidence, kept_after(0.2))
    for each in (*found, support(evidence), support(smooth(evidence, COARSE))):
        assert each.shape == shape
        assert np.isfinite(each).all()
        assert each.min() >= 0.0
        assert each.max() <= 1.0
    if what == "usual":
        assert found.saliency.max() == found.ranking.max() == 1.0
    if what == "no evidence":  # the mask alone decides
        np.testing.assert_allclose(found.ranking, masks.normalize(mask), atol=1e-5)
        np.testing.assert_array_equal(jnp.argmax(found.saliency), jnp.argmax(mask))
    if what == "neither":
        assert not np.any(found.saliency)
        assert not np.any(found.ranking)


def test_both_maps_prefer_what_helps_to_what_hurts():
    mask = jnp.full((32, 32), 0.5).at[0, 0].set(0.6)
    evidence = jnp.zeros((32, 32)).at[8, 8].set(5.0).at[24, 24].set(-5.0)
    found = maps(mask, evidence, kept_after(0.5))
    for each in found:
        assert each[8, 8] == each.max()
        assert each[24, 24] < 0.1
        # what hurts comes after what does nothing
        assert each[24, 24] == each.min()
        assert each[24, 24] < each[8, 24]
    # the saliency is a region, the ranking single pixels
    assert found.saliency[8, 9] > 0.5 > found.ranking[8, 10]


def test_evidence_reaches_as_far_at_a_border_as_elsewhere():
    """There is nothing beyond a border that would be blurred into the image."""
    at_border = support(smooth(jnp.zeros((32, 32)).at[0, 16].set(1.0), COARSE))
    inside = support(smooth(jnp.zeros((32, 32)).at[12, 16].set(1.0), COARSE))
    np.testing.assert_allclose(at_border[:12], inside[12:24], atol=1e-3)


def test_a_class_that_the_fill_alone_speaks_for_is_explained_by_what_speaks_for_it(image):
    """On black the second class has the logit 0, and the first the greater, on the image the
    brightness of the square is for the first and that of a corner for the second."""
    image = image.at[12:, 12:].set(0.9)

    def predict(images):
        for_it = images[:, 12:, 12:].mean((1, 2, 3))
        against_it = 4.0 * images[:, *SQUARE].mean((1, 2, 3))
        return jnp.stack([against_it, for_it], axis=-1)

    found = solved(predict, image, target=1, node="probability")
    assert found.info.activation_fill > found.info.activation
    assert found.info.activation_masked >= found.info.activation
    assert found.evidence[12:, 12:].min() > 0 > found.evidence[SQUARE].max()
    for each in (found.saliency, found.ranking):
        y, x = np.unravel_index(np.argmax(each), each.shape)
        assert min(y, x) >= 12


def test_a_constant_network_has_empty_maps(image):
    def constant(images):
        return jnp.broadcast_to(jnp.array([1.0, 0.0]), (len(images), 2))

    found = solved(constant, image)
    assert found.info.status == Status.CONSTANT
    for each in (found.saliency, found.ranking, found.evidence):
        assert not np.any(each)


def breaks_in_the_dark(images):
    dark = images.mean((1, 2, 3)) < 0.03
    return jnp.where(dark[:, None], jnp.nan, square_network(images))


@pytest.mark.parametrize(
    "predict", [lambda x: jnp.nan * square_network(x), breaks_in_the_dark]
)
def test_a_network_that_is_not_finite_has_no_pretty_map(image, predict):
    """In all it says, or only on images of few pixels, which the calibration shows it first."""
    found = solved(predict, image, replace(SETTINGS, fill=jnp.full(1, 0.02), steps=2))
    assert found.info.status == Status.NOT_FINITE
    assert np.isnan(found.saliency).all()
    assert np.isnan(found.ranking).all()


def test_an_image_with_nan_has_no_pretty_map(image):
    found = solved(square_network, image.at[5, 9].set(jnp.nan))
    assert found.info.status == Status.NOT_FINITE
    assert np.isnan(found.saliency).all()


@pytest.mark.parametrize("shape", [(12, 20, 1), (20, 12, 3)])
@pytest.mark.parametrize("sizes", [(1,), (1, 4)])
def test_images_that_are_not_square_and_masks_of_one_cell(shape, sizes):
    image = jax.random.uniform(jax.random.key(3), shape)
    found = solved(square_network, image, replace(SETTINGS, sizes=sizes, steps=4))
    assert found.info.status in (Status.OUT_OF_STEPS, Status.LOST)
    for each in (found.saliency, found.ranking, found.evidence):
        assert each.shape == shape[:2]
        assert np.isfinite(each).all()
    assert float(found.saliency.max()) == 1.0


def counted_network():
    """The network, and how many images went through it forwards and backwards."""
    counts = Counter()

    @jax.custom_vjp
    def watched(image):
        # asks for a value, so that it is called for each of many images at once
        jax.debug.callback(lambda _: counts.update(["forward"]), image[0, 0, 0])
        return image

    def forward(image):
        return watched(image), None

    def backward(_, gradient):
        jax.debug.callback(lambda _: counts.update(["backward"]), gradient[0, 0, 0])
        return (gradient,)

    watched.defvjp(forward, backward)

    def predict(images):
        return square_network(jnp.stack([watched(image) for image in images]))

    return predict, counts


@pytest.mark.parametrize("config", [MDMConfig(), SETTINGS])
def test_evaluations_are_those_that_the_network_saw(image, config):
    predict, counts = counted_network()
    info = jax.block_until_ready(solved(predict, image, config)).info
    jax.effects_barrier()
    assert counts["backward"] == info.evaluations == config.steps
    assert counts["forward"] == info.evaluations + info.forwards
    assert info.forwards == 3 + len(LEVELS)
