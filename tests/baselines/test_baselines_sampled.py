"""Occlusion, RISE and the trivial maps, and the loop over samples beneath them: parity, closed
forms, what cannot be asked."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PATCH, patch_network
from reference_network import captum, network

from mdm_jax import InputError, explain
from mdm_jax.baselines import center, occlusion, rise, sobel
from mdm_jax.baselines.center import Center
from mdm_jax.baselines.gradient import input_gradient
from mdm_jax.baselines.occlusion import Occlusion
from mdm_jax.baselines.rise import RISE
from mdm_jax.execution import chunked
from mdm_jax.methods import configure


@pytest.fixture(scope="module")
def reference():
    return captum()


def total(images):
    """Logits whose first is the sum of all pixels."""
    score = images.sum((1, 2, 3))
    return jnp.stack([score, jnp.zeros_like(score)], axis=-1)


# ---- the loop


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 3, 5, 7, 100])
def test_loops_give_the_same_for_every_chunk(chunk):
    inputs = {"a": jnp.arange(7.0), "b": jnp.arange(14.0).reshape(7, 2)}

    def function(each):
        return {"one": 1, "product": each["a"] * each["b"]}

    expected = inputs["a"][:, None] * inputs["b"]
    summed = chunked.sum_over(function, inputs, chunk)
    assert summed["one"] == 7
    np.testing.assert_allclose(summed["product"], expected.sum(0), rtol=1e-6)
    np.testing.assert_allclose(
        chunked.mean_over(function, inputs, chunk)["product"], expected.mean(0), rtol=1e-6
    )
    np.testing.assert_array_equal(
        chunked.map_over(function, inputs, chunk)["product"], expected
    )


def test_a_map_in_chunks_is_that_of_lax():
    values = jax.random.uniform(jax.random.key(0), (11, 3))
    expected = jax.lax.map(jnp.cumsum, values, batch_size=4)
    np.testing.assert_allclose(
        chunked.map_over(jnp.cumsum, values, chunk=4), expected, rtol=1e-6
    )


def test_keys_of_samples_do_not_depend_on_their_number():
    key = jax.random.key(4)
    few, many = (jax.random.key_data(chunked.keys(key, n)) for n in (3, 9))
    np.testing.assert_array_equal(few, many[:3])
    drawn = chunked.map_over(lambda own: jax.random.uniform(own), chunked.keys(key, 9), 4)
    assert len(np.unique(drawn)) == 9


def test_no_more_than_a_chunk_at_a_time():
    """The largest array in the program is a chunk's, not all samples'."""

    def looped(inputs):
        return chunked.sum_over(lambda x: jnp.outer(x, x), inputs, 4)

    text = str(jax.make_jaxpr(looped)(jnp.ones((1000, 8))))
    sizes = {
        tuple(map(int, dims.split(","))) for dims in re.findall(r"f32\[([\d,]+)\]", text)
    }
    assert (4, 8, 8) in sizes
    assert max(np.prod(size) for size in sizes - {(1000, 8)}) == 4 * 8 * 8


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the rewriting is for CPU")
def test_convolutions_in_the_loop_are_canonical(reference):
    predict = network(reference)

    def looped(images):
        return chunked.mean_over(
            lambda x: input_gradient(predict, x, jnp.int32(0), node="logit"), images, 2
        )

    text = jax.jit(looped).lower(jnp.zeros((4, 12, 10, 3))).compile().as_text()
    assert set(re.findall(r"dim_labels=(b01f_\w+->b01f)", text)) == {"b01f_01io->b01f"}


# ---- occlusion


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "node", "window", "stride"),
    [
        ("logit", "logit", (5, 4), (3, 2)),
        ("probability", "probability", (5, 4), (3, 2)),
        ("even", "logit", 4, 4),
    ],
)
def test_occlusion_is_captums(name, node, window, stride, reference):
    config = Occlusion(window=window, stride=stride, chunk=7)
    images, targets = reference["images"], reference["targets"]
    found = explain(
        network(reference), images, targets, method="occlusion", node=node, config=config
    )
    expected = reference[f"occlusion/{name}"]
    assert np.abs(found.attribution - expected).max() <= 1e-5 * np.abs(expected).max()
    assert found.info.forwards[0] == 3 + (4 * 4 if name != "even" else 3 * 3)
    assert found.info.evaluations[0] == 0


@pytest.mark.slow
def test_occlusion_of_a_sum_in_closed_form():
    drawn = np.random.default_rng(1).uniform(0, 1, (1, 8, 9, 3)).astype(np.float32)
    single = Occlusion(window=1, stride=1, baseline="black")
    found = explain(total, drawn, 0, method="occlusion", node="logit", config=single)
    np.testing.assert_allclose(found.attribution, drawn.sum(-1), atol=1e-4)

    flat = np.full((1, 8, 9, 3), 0.75, np.float32)
    rows, columns = (
        [1, 2, 3, 3, 3, 3, 2, 1],
        [1, 2, 3, 3, 3, 3, 3, 2, 1],
    )  # windows of 3 x 3 that cover each, stride 1
    for average, expected in (
        (True, np.full((8, 9), 6.75)),
        (False, 6.75 * np.outer(rows, columns)),
    ):
        config = Occlusion(window=3, stride=1, baseline=0.5, average=average)
        found = explain(total, flat, 0, method="occlusion", node="logit", config=config)
        np.testing.assert_allclose(found.attribution[0], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "window", "stride", "windows"),
    [
        ((224, 224), (15, 15), (8, 8), 784),
        ((64, 64), (8, 8), (2, 2), 841),
        ((5, 40), (5, 5), (2, 2), 19),
        ((1, 1), (1, 1), (1, 1), 1),
    ],
)
def test_windows_by_the_size_of_the_image(shape, window, stride, windows):
    assert occlusion.resolve(Occlusion(), shape) == (window, stride)
    corners = occlusion.positions(shape, window, stride)
    assert len(corners) == windows
    assert all(at < side <= at + w for at, w, side in zip(corners[-1], window, shape))


# ---- RISE


def test_rise_masks_are_its_authors():
    with np.load(pathlib.Path(__file__).parents[1] / "fixtures" / "rise_masks.npz") as file:
        for grid, shift, mask in zip(file["grids"], file["shifts"], file["masks"]):
            np.testing.assert_allclose(
                rise.cut(jnp.asarray(grid), jnp.asarray(shift), mask.shape), mask, atol=1e-6
            )


def test_rise_draws_masks_of_the_share_asked_for():
    drawn = jax.jit(jax.vmap(lambda own: rise.draw(5, 0.3, (23, 17), key=own)))
    masks = np.asarray(drawn(jax.random.split(jax.random.key(0), 400)))
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert float(masks.mean()) == pytest.approx(0.3, abs=0.01)
    np.testing.assert_allclose(masks.mean(0), 0.3, atol=0.1)


@pytest.mark.slow
def test_rise_of_a_constant_network():
    """A score of two everywhere: the coverage form gives two, the paper's two in expectation
    only."""

    def constant(images):
        return jnp.full((len(images), 2), 2.0)

    @jax.jit
    def both(image):
        configs = [
            RISE(num_samples=300, cells=4, normalization=name, chunk=300)
            for name in ("expected", "coverage")
        ]
        options = {"node": "logit", "key": jax.random.key(1)}
        return [
            rise.explain(
                constant, image, jnp.int32(0), config=config, **options
            ).attribution
            for config in configs
        ]

    expected, coverage = both(
        np.random.default_rng(2).uniform(0, 1, (16, 12, 3)).astype(np.float32)
    )
    np.testing.assert_allclose(coverage, 2.0, rtol=1e-5)
    assert float(expected.mean()) == pytest.approx(2.0, abs=0.1)
    assert np.ptp(expected) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rise", "occlusion"])
def test_the_patch_is_found(method, images):
    config = (
        RISE(num_samples=600, chunk=100, baseline="black") if method == "rise" else None
    )
    found = explain(patch_network, images, 0, method=method, config=config)
    for each in found.saliency:
        row, column = np.unravel_index(each.argmax(), each.shape)
        assert PATCH[0].start <= row < PATCH[0].stop
        assert PATCH[1].start <= column < PATCH[1].stop
    assert found.info.forwards[0] == 3 + (600 if method == "rise" else 169)


# ---- maps that see no network


def test_random_maps_differ_from_image_to_image(images):
    found = explain(patch_network, images, 0, method="random")
    assert (
        abs(np.corrcoef(found.attribution[0].ravel(), found.attribution[1].ravel())[0, 1])
        < 0.1
    )
    assert found.attribution.mean() == pytest.approx(0.5, abs=0.03)
    assert found.info.evaluations.sum() == 0


def test_center_is_a_gaussian_in_the_middle():
    images = np.random.default_rng(2).uniform(0, 1, (1, 9, 8, 3)).astype(np.float32)
    (found,) = explain(
        lambda x: total(x**2),
        images,
        0,
        method="center",
        node="logit",
        config=Center(sigma=0.2),
    ).attribution
    np.testing.assert_allclose(found, found[::-1, ::-1], atol=1e-6)
    assert found[4, 3] == found.max()
    assert found[0, 3] / found[4, 3] == pytest.approx(
        np.exp(-((4 / 9) ** 2) / (2 * 0.2**2)), rel=1e-4
    )
    assert center.Center().sigma == 0.25


def test_sobel_of_a_step_and_of_a_flat_image():
    step = np.where(np.arange(6) < 3, 0.2, 0.6)[None, :, None] * np.ones((6, 6, 3))
    edges = jax.jit(lambda image: sobel.edges(sobel.gray(image)))
    expected = np.zeros((6, 6))
    expected[:, 2:4] = 0.2  # half of the step on either side of it
    np.testing.assert_allclose(edges(step), expected, atol=1e-6)
    np.testing.assert_allclose(edges(step.transpose(1, 0, 2)), expected.T, atol=1e-6)
    np.testing.assert_allclose(
        sobel.gray(jnp.ones((2, 2, 3)) * jnp.asarray([1.0, 0.0, 0.0])), 0.299, rtol=1e-6
    )
    np.testing.assert_allclose(
        sobel.gray(jnp.arange(8.0).reshape(2, 2, 2)), [[0.5, 2.5], [4.5, 6.5]]
    )
    np.testing.assert_array_equal(edges(np.full((6, 6, 3), 0.25)), 0)


# ---- what cannot be asked


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (RISE(num_samples=0), "samples is 0"),
        (RISE(cells=1), "whole number from 2"),
        (
            RISE(keep_probability=1.0),
            "keep_probability is 1.0: give a number above zero and below 1",
        ),
        (RISE(normalization="mean"), "unknown normalization 'mean'"),
        (RISE(baseline="zeros"), "did you mean 'zero'"),
        (Occlusion(window=0), "window is 0"),
        (Occlusion(window=(3, 3, 3)), "or \\(height, width\\)"),
        (Occlusion(stride=(2, 0)), "stride is 0"),
        (Occlusion(reduction="max"), "unknown reduction 'max'"),
        (Center(sigma=-1.0), "sigma is -1.0"),
    ],
)
def test_what_cannot_be_is_said(config, sentence):
    with pytest.raises(InputError, match=sentence):
        config.check()


@pytest.mark.parametrize(
    ("method", "config", "sentence"),
    [
        (
            "occlusion",
            Occlusion(window=33),
            "window 33x33 does not fit: give at most the image's 32x32",
        ),
        ("occlusion", Occlusion(window=4, stride=5), "leaves gaps"),
        ("rise", RISE(cells=40), "cells is 40: give at most the image's 32 pixels"),
    ],
)
def test_what_does_not_fit_the_image_is_said(method, config, sentence, images):
    with pytest.raises(InputError, match=sentence):
        explain(patch_network, images, 0, method=method, config=config)


def test_settings_from_text():
    assert configure("rise:samples=100,normalization=coverage").config == RISE(
        num_samples=100, normalization="coverage"
    )
    assert configure("occlusion:window=9,average=false").config == Occlusion(
        window=9, average=False
    )
    with pytest.raises(InputError, match="samples is 0"):
        configure("rise:samples=0")
