"""HDM: both of two objects, where MDM may keep one; nothing added where there is one; its cost; and
what counts as found."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PATCH, patch_network

from mdm_jax import InputError, MDMConfig, explain, hdm, methods
from mdm_jax.hdm import HDMConfig
from mdm_jax.metrics import METRICS, Sample, find
from mdm_jax.metrics.objects import object_masks, objects_found

pytestmark = pytest.mark.slow

SECOND = (slice(20, 28), slice(2, 10))
SMALL = HDMConfig(
    benchmark_sizes=(8,),
    auxiliary_sizes=(16,),
    benchmark_steps=10,
    auxiliary_steps=15,
    fill="black",
)


def either_network(images):
    """Two logits; the first is the brightness of the brighter of two patches: either alone is
    enough."""
    means = [images[:, *patch, :].mean((1, 2, 3)) for patch in (PATCH, SECOND)]
    best = jnp.maximum(*means)
    return jnp.stack([8.0 * best - 3.0, jnp.zeros_like(best)], axis=-1)


@pytest.fixture(scope="module")
def two(images):
    """Images with a second patch, a little less bright than the first."""
    both = images.copy()
    both[:, *SECOND, :] += 0.5
    return both


def mass(saliency, patch):
    return saliency[:, *patch].sum((1, 2)) / saliency.sum((1, 2))


def test_both_of_two_sufficient_patches_are_found_where_mdm_keeps_one(two):
    alone = explain(
        either_network,
        two,
        targets=0,
        config=MDMConfig(sizes=(8, 16), steps=25, fill="black", start=0.9),
    )
    found = explain(either_network, two, targets=0, method="hdm", config=SMALL)
    assert (mass(alone.saliency, SECOND) < 0.05).all()
    assert (mass(found.saliency, PATCH) > 0.3).all()
    assert (mass(found.saliency, SECOND) > 0.25).all()
    assert (found.info.terms["weight_2"] > 0.5).all()


def test_a_further_round_adds_nothing_to_an_image_with_one_object(images):
    once, twice = (
        explain(
            patch_network,
            images,
            targets=0,
            method="hdm",
            config=replace(SMALL, rounds=rounds),
        )
        for rounds in (1, 2)
    )
    np.testing.assert_array_equal(twice.info.terms["weight_2"], 0.0)
    np.testing.assert_allclose(twice.saliency, once.saliency, atol=1e-6)
    assert (mass(twice.saliency, PATCH) > 0.6).all()


def test_jit_equals_eager(two, key):
    settings = HDMConfig(
        benchmark_sizes=(4,),
        auxiliary_sizes=(8,),
        benchmark_steps=1,
        auxiliary_steps=1,
        fill="black",
    )

    def one(image):
        return hdm.explain(either_network, image, 0, key=key, config=settings)

    image = jnp.asarray(two[0])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
        jax.jit(one)(image),
        one(image),
    )


def test_evaluations_and_forwards_are_all_that_the_network_is_asked(images, key):
    asked = []

    def counted(batch):
        jax.debug.callback(lambda: asked.append(len(batch)))
        return patch_network(batch)

    settings = replace(SMALL, rounds=3, benchmark_steps=2, auxiliary_steps=4)
    found = jax.jit(lambda image: hdm.explain(counted, image, 0, key=key, config=settings))(
        jnp.asarray(images[0])
    )
    jax.effects_barrier()
    info = found.info
    assert (int(info.evaluations), int(info.forwards), int(info.steps)) == (
        3 * (2 + 4),
        3 * 2 + 3,
        3 * (2 + 4),
    )
    assert sum(asked) == info.evaluations + info.forwards
    assert [vector.shape for vector in found.mask_vectors] == [(8, 8), (16, 16)] * 3


def test_large_masks_start_from_the_small_ones(images, key):
    """Where nothing more is learned, they show what the small masks found, averaged over their
    cells."""
    settings = replace(SMALL, auxiliary_sizes=(8,), auxiliary_steps=1, rounds=1)
    found = jax.jit(
        lambda image: hdm.explain(patch_network, image, 0, key=key, config=settings)
    )(jnp.asarray(images[0]))
    small, large = found.mask_vectors
    assert np.corrcoef(np.ravel(small), np.ravel(large))[0, 1] > 0.95
    assert large[2:4, 4:6].min() > 2 * np.median(large)


def test_what_is_erased_and_what_a_find_weighs():
    image, background = jnp.ones((2, 2, 1)), jnp.zeros((2, 2, 1))
    mask = jnp.array([[0.8, 0.4], [0.2, 0.0]])
    np.testing.assert_allclose(
        hdm.erase(image, mask, background, 2.0)[..., 0], [[0.0, 0.0], [0.5, 1.0]], atol=1e-6
    )
    weights = hdm.region_weights(
        jnp.array([0.0, 0.9, 0.05]), jnp.array([1.0, 0.5, 0.9]), 0.1
    )
    np.testing.assert_allclose(weights, [1.0, 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"benchmark_sizes": ()}, "benchmark_sizes is"),
        ({"auxiliary_sizes": (4, -8)}, "auxiliary_sizes is"),
        ({"erasure": 0.5}, "erasure is 0.5: give 1 or more"),
        ({"least": 1.5}, "least is 1.5: give a share"),
        ({"auxiliary_steps": 0}, "steps is 0"),
        ({"distance": "absolut"}, "did you mean 'absolute'"),
        ({"area_weight": -1.0}, "weight of 'area'"),
    ],
)
def test_a_config_that_cannot_be_is_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        HDMConfig(**settings).check()


def test_written_on_the_command_line():
    chosen = methods.configure("hdm:rounds=3,benchmark_sizes=[4,8],area_weight=5")
    assert chosen.config == HDMConfig(rounds=3, benchmark_sizes=(4, 8), area_weight=5)
    assert methods.configure("hdm").explain is hdm.explain
    with pytest.raises(InputError, match="did you mean 'rounds'"):
        methods.configure("hdm:round=3")


SHAPE = (40, 60)
BOXES = np.array([[4, 4, 16, 16], [30, 20, 42, 32]], np.float32)
BOTH = object_masks(None, BOXES, SHAPE)


def counted(saliency, objects=BOTH, factor=2.0):
    return objects_found(np.asarray(saliency, np.float32), objects, factor=factor).tolist()


def test_objects_that_hold_enough_of_the_most_salient_pixels_are_found():
    rng = np.random.default_rng(0)
    first, second = BOTH
    noise = rng.uniform(0, 0.1, SHAPE)
    assert counted(BOTH.any(axis=0)) == [2, 2]
    assert counted(noise + first) == [1, 2]
    assert counted(noise + first + 0.5 * second) == [2, 2]  # ranks matter, not values
    for spread in (rng.uniform(0, 1, SHAPE), np.ones(SHAPE), np.zeros(SHAPE)):
        assert counted(spread) == [0, 2]
    large = np.zeros(SHAPE)
    large[:24, :24] = 1.0  # as many pixels as are looked at, all about one object
    assert counted(large + 0.5 * second) == [1, 2]
    half = second & (np.arange(SHAPE[0])[:, None] < 26)
    assert counted(noise + first + 0.5 * half) == [2, 2]
    halo = np.zeros(SHAPE)
    halo[2:18, 2:18] = halo[28:44, 18:34] = 0.0
    halo[0:20, 0:20] = 1.0
    assert counted(halo + 0.5 * second, factor=1.0) == [1, 2]
    assert counted(halo + 0.5 * second) == [2, 2]


def test_objects_that_are_too_large_do_not_count_and_a_nan_is_not_hidden():
    wide = object_masks(None, np.array([[0, 0, 60, 14]], np.float32), SHAPE)
    assert counted(np.ones(SHAPE), wide) == [0, 0]
    broken = BOTH.any(axis=0).astype(np.float32)
    broken[0, 0] = np.nan
    metric = find("objects")
    assert (metric.id, metric.needs) == ("objects:half-2x", "boxes")
    sample = Sample(
        np.zeros((*SHAPE, 3), np.float32),
        BOTH[0].astype(np.float32),
        broken,
        broken,
        0,
        BOTH.any(axis=0),
        BOXES,
    )
    statistics = [
        metric.measure(None, each, key=None)
        for each in (sample, sample._replace(saliency=broken))
    ]
    assert metric.reduce(np.asarray(statistics[:1])) == 0.5
    assert np.isnan(metric.reduce(np.asarray(statistics)))
    assert np.isnan(METRICS["objects:half-1x"].reduce(np.zeros((3, 2))))


def test_an_objects_pixels_are_those_of_the_mask_in_its_box():
    mask = np.zeros(SHAPE, bool)
    mask[6:10, 6:10] = True
    first, second = object_masks(mask, BOXES, SHAPE)
    np.testing.assert_array_equal(first, mask)
    np.testing.assert_array_equal(second, BOTH[1])  # none marked there: the whole box
