"""ROAD: the imputation against a direct sparse solution of the same equations, written
separately."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg
from conftest import PATCH, patch_network

from mdm_jax import InputError
from mdm_jax.metrics import METRICS, Sample, imputation, road

PERCENTAGES = (10, 50, 90)


def direct(image, removed):
    """The image with removed pixels solved for by a sparse factorization, in float64."""
    height, width, channels = image.shape
    y, x = np.nonzero(removed)
    number = np.full((height, width), -1)
    number[y, x] = np.arange(len(y))
    diagonal, right, entries = np.zeros(len(y)), np.zeros((len(y), channels)), []
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
        own = np.flatnonzero(
            (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        )
        beside = y[own] + dy, x[own] + dx
        unknown = number[beside] >= 0
        diagonal[own] += weight
        entries.append(
            (own[unknown], number[beside][unknown], np.full(unknown.sum(), -weight))
        )
        right[own[~unknown]] += weight * image[beside][~unknown]
    rows, columns, values = (
        np.concatenate(each)
        for each in zip(*entries, (range(len(y)), range(len(y)), diagonal))
    )
    matrix = scipy.sparse.csc_matrix((values, (rows, columns)), shape=(len(y), len(y)))
    filled = image.astype(np.float64)
    filled[y, x] = scipy.sparse.linalg.spsolve(matrix, right).reshape(-1, channels)
    return filled


def scenes(side):
    """An image, and maps whose order leaves scattered holes, large ones, one in the middle and one
    all round."""
    rng = np.random.default_rng(0)
    image = (
        0.5
        + scipy.ndimage.gaussian_filter(rng.normal(size=(side, side, 3)), (2, 2, 0))
        + 0.1 * rng.normal(size=(side, side, 3))
    )
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(side, side)), side / 10)
    blob = -np.hypot(*(np.indices((side, side)) - 0.3 * side))
    maps = [rng.normal(size=(side, side)), smooth, blob, -blob]
    return np.clip(image, 0, 1).astype(np.float32), [
        each.astype(np.float32) for each in maps
    ]


@pytest.mark.slow
@pytest.mark.parametrize("side", [32, 64])
def test_imputation_is_the_direct_solution(side):
    image, maps = scenes(side)
    removed = np.concatenate([road.removals(each, PERCENTAGES) for each in maps])
    filled, steps = jax.jit(imputation.solve)(image, removed)
    for got, mask in zip(np.asarray(filled), removed):
        np.testing.assert_allclose(got, direct(image, mask), atol=1e-4, rtol=0)
        np.testing.assert_array_equal(got[~mask], image[~mask])
    assert steps < 25  # it grows with the logarithm of the side, at most


@pytest.mark.slow
def test_borders_odd_sides_and_extremes():
    rng = np.random.default_rng(1)
    image = rng.uniform(size=(13, 9, 2)).astype(np.float32)
    corner = np.ones((13, 9), bool)
    corner[0, 0] = False
    frame = np.zeros((13, 9), bool)
    frame[0] = frame[-1] = frame[:, 0] = frame[:, -1] = True
    masks = np.stack([corner, frame, rng.random((13, 9)) < 0.5, np.ones((13, 9), bool)])
    run = jax.jit(
        lambda image, masks: imputation.impute(image, masks, at_once=3)
    )  # in two parts, the second padded
    filled = np.asarray(run(image, masks))
    for got, mask in zip(filled[:3], masks):
        np.testing.assert_allclose(got, direct(image, mask), atol=1e-4)
    np.testing.assert_allclose(
        filled[0], np.broadcast_to(image[0, 0], image.shape), atol=1e-4
    )
    assert (filled[3] == 0).all()
    # neighbors' means keep a plane, inside: a hole in one cannot be seen; and without a hole
    # nothing changes
    y, x = np.indices((13, 9)) / 16
    plane = np.stack([x, 1 - 0.3 * x - 0.2 * y], axis=-1).astype(np.float32)
    masks = np.zeros((4, 13, 9), bool)
    masks[0, 2:11, 1:8] = True
    filled = np.asarray(run(plane, masks))
    np.testing.assert_allclose(filled[0], plane, atol=1e-4)
    np.testing.assert_array_equal(filled[1], plane)


@pytest.mark.slow
def test_preconditioner_is_symmetric_and_positive():
    rng = np.random.default_rng(2)
    unknown = jnp.asarray(rng.random((11, 14, 1)) < 0.7, jnp.float32)
    basis = unknown[..., 0].ravel()[:, None] * np.eye(11 * 14, dtype=np.float32)
    fields = jnp.asarray(basis.reshape(-1, 11, 14, 1))
    matrix = np.asarray(jax.jit(jax.vmap(imputation.multilevel(unknown)))(fields)).reshape(
        154, 154
    )[:, basis.any(1)][basis.any(1)]
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-5)
    assert np.linalg.eigvalsh(matrix).min() > 0.5


def test_as_many_pixels_as_asked_for_whatever_the_map(images):
    for saliency in (images[0, ..., 0], np.zeros((32, 32), np.float32)):
        morf, lerf = (
            np.asarray(road.removals(saliency, PERCENTAGES, order)) for order in road.ORDERS
        )
        assert morf.sum((1, 2)).tolist() == lerf.sum((1, 2)).tolist() == [102, 512, 921]
        assert (morf[1] ^ lerf[1]).all()
    for bad in ((100,), (-1,)):
        with pytest.raises(InputError, match="percentages"):
            road.removals(saliency, bad)
    with pytest.raises(InputError, match="order"):
        road.removals(saliency, order="random")


@pytest.mark.slow
def test_probabilities_are_the_network_s_on_the_imputed_images(images, key):
    saliency = np.random.default_rng(4).random((32, 32)).astype(np.float32)
    run = jax.jit(
        lambda noise: road.probabilities(
            patch_network, images[0], saliency, 0, key=key, noise=noise, chunk=5
        )
    )
    got = run(0.0)
    assert got.shape == (2, 9)
    for scores, order in zip(got, road.ORDERS):
        filled = np.stack(
            [
                direct(images[0], np.asarray(mask))
                for mask in road.removals(saliency, order=order)
            ]
        )
        expected = jax.nn.softmax(patch_network(jnp.asarray(filled, jnp.float32)))[:, 0]
        np.testing.assert_allclose(scores, expected, rtol=1e-3)
    assert 0 < np.abs(run(road.NOISE) - got).max() < 0.05


@pytest.mark.slow
def test_combination_and_orders(images, key):
    good = np.zeros((32, 32), np.float32)
    good[*PATCH] = 1.0
    metrics = [METRICS[f"{name}:linear"] for name in ("road", "road_morf", "road_lerf")]
    sample = Sample(images[0], good, good, good, 0)
    both, morf, lerf = jax.jit(
        lambda key: [metric.measure(patch_network, sample, key=key) for metric in metrics]
    )(key)
    assert float(both) == pytest.approx(float(lerf - morf) / 2, abs=1e-6)
    assert lerf > morf + 0.3
