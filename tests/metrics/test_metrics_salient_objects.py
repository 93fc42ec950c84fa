"""Maps against exact masks: parity with pysodmetrics, and closed forms."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.metrics import METRICS, salient_objects

FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "salient.npz")


@jax.jit
def four(saliency, mask, nearest):
    """The curve of F, adaptive F, the error and weighted F."""
    return (
        salient_objects.f_curve(saliency, mask),
        salient_objects.adaptive_f(saliency, mask),
        salient_objects.absolute_error(saliency, mask),
        salient_objects.weighted_f(saliency, mask, nearest),
    )


def measured(saliency, mask):
    saliency = jnp.asarray(saliency, jnp.float32)
    return four(saliency, jnp.asarray(mask), salient_objects.nearest_object(mask))


def test_all_are_those_of_pysodmetrics():
    curves = []
    for i, (one, mask) in enumerate(zip(FIXTURE["maps"], FIXTURE["masks"])):
        curve, adaptive, error, weighted = measured(one, mask)
        # theirs goes from the highest threshold down
        np.testing.assert_allclose(curve[::-1], FIXTURE["curves"][i], atol=1e-4)
        assert float(adaptive) == pytest.approx(FIXTURE["adaptive"][i], abs=1e-4)
        assert float(error) == pytest.approx(FIXTURE["mae"][i], abs=1e-5)
        assert float(weighted) == pytest.approx(FIXTURE["weighted"][i], abs=1e-4)
        curves.append(curve)
    largest = METRICS["f_measure:max"].reduce(np.stack(curves))
    assert largest == pytest.approx(FIXTURE["curve_of_set"].max(), abs=1e-4)
    # one threshold for the set, not one for each image
    assert largest < np.mean([curve.max() for curve in curves]) - 1e-3


def test_the_object_itself_is_perfect_and_its_opposite_is_not():
    mask = FIXTURE["masks"][0]
    curve, adaptive, error, weighted = measured(mask, mask)
    np.testing.assert_allclose(curve[1:], 1.0, rtol=1e-6)  # the threshold 0 takes all
    np.testing.assert_allclose([adaptive, error, weighted], [1, 0, 1], atol=1e-6)
    curve, adaptive, error, weighted = measured(~mask, mask)
    assert float(curve[1:].max()) == float(adaptive) == 0.0
    assert float(error) == 1.0
    assert float(weighted) < 0.1


def test_the_threshold_of_eight_bits_counts_the_pixel_itself():
    mask = np.zeros((16, 16), bool)
    mask[3, 4] = True
    values = np.arange(1, 256)
    maps = np.where(mask, np.float32(values / 255)[:, None, None], np.float32(0))
    curves = jax.vmap(salient_objects.f_curve, in_axes=(0, None))(maps, jnp.asarray(mask))
    counted = np.arange(256)[None, 1:] <= values[:, None]
    np.testing.assert_allclose(curves[:, 1:], counted, rtol=1e-6)


def test_errors_far_from_the_object_weigh_more():
    mask = FIXTURE["masks"][0]
    near, far = mask.astype(np.float32), mask.astype(np.float32)
    near[20, 10] = 1.0
    far[29, 25] = 1.0
    assert float(measured(far, mask)[3]) < float(measured(near, mask)[3]) < 1.0
