"""Insertion and deletion under several fills, and minimal areas: by hand in NumPy and OpenCV."""

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax import InputError, evaluate, fills
from mdm_jax.evaluation.statistics import Measured, Scores
from mdm_jax.metrics import METRICS, Sample, areas, fill_curves, inpainting
from mdm_jax.metrics.curves import rise_blur

SIDE = 12
KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
IMAGE = cv2.GaussianBlur(RNG.uniform(size=(SIDE, SIDE, 3)), (0, 0), 1.5).astype(np.float32)
SALIENCY = (RNG.permutation(SIDE * SIDE).reshape(SIDE, SIDE) / SIDE**2).astype(np.float32)


def contrast(images):
    """Two logits that are not linear in the pixels: the first sees edges and brightness."""
    edges = jnp.abs(jnp.diff(images, axis=1)).mean((1, 2, 3))
    return jnp.stack([8 * edges + images[:, :6].mean((1, 2, 3)), 0 * edges], axis=-1)


def by_hand(order, name):
    """The curve under one fill, one image after the other."""
    rank = np.argsort(np.argsort(-SALIENCY.ravel())).reshape(SIDE, SIDE)
    mean = np.broadcast_to(IMAGE.mean((0, 1)), IMAGE.shape)
    one = {
        "blur": rise_blur(IMAGE, jnp.full(3, 0.5)),
        "zero": np.full_like(IMAGE, 0.5),
        "mean": mean,
        "noise": fills.noise()(jnp.asarray(IMAGE), key=KEY),
    }
    seen = []
    for count in [*range(0, SIDE**2, 11), SIDE**2]:  # 144 pixels in 14 steps of at most 11
        changed = rank < count
        removed = ~changed if order == "insertion" else changed
        if name != "inpaint":
            background = np.asarray(one[name])
        elif removed.all():
            background = mean
        else:
            pixels = np.rint(IMAGE * 255).astype(np.uint8)
            painted = cv2.inpaint(pixels, removed.astype(np.uint8), 3, cv2.INPAINT_TELEA)
            background = painted / 255
        seen.append(np.where(removed[..., None], background, IMAGE))
    return jax.nn.softmax(contrast(jnp.asarray(np.stack(seen), jnp.float32)))[:, 0]


def of_metric(name):
    metric = METRICS[name]
    sample = Sample(IMAGE, SALIENCY, SALIENCY, SALIENCY, 0)
    if metric.prepare is not None:
        sample = sample._replace(prepared=metric.prepare(sample))
    return np.asarray(
        jax.jit(lambda sample: metric.measure(contrast, sample, key=KEY))(sample)
    )


@pytest.mark.parametrize("order", fill_curves.ORDERS)
def test_every_fill_is_as_by_hand_and_as_its_own_protocol(order):
    expected = []
    for name in fill_curves.FILLS:
        curve = by_hand(order, name)
        assert len(curve) == 15
        expected.append(np.trapezoid(curve, dx=1 / 14))
    assert np.ptp(expected) > 1e-3  # the fills are told apart
    together = of_metric(f"{order}:fills-14")
    np.testing.assert_allclose(together, expected, rtol=1e-5)
    np.testing.assert_allclose(of_metric(f"{order}:noise-14"), together[3], rtol=1e-5)


def test_inpainted_pixels_depend_on_those_that_remain_only():
    changed = IMAGE.copy()
    top = np.sort(SALIENCY.ravel())[-11] <= SALIENCY
    changed[top] = 0.0
    asked = {"order": "deletion", "steps": 14}
    first, other = (
        inpainting.inpainted_steps(image, SALIENCY, **asked) for image in (IMAGE, changed)
    )
    np.testing.assert_array_equal(first, other)
    gray = inpainting.inpainted_steps(IMAGE[..., :1], SALIENCY, **asked)
    assert gray.shape == (13, SIDE, SIDE, 1)
    remain = np.rint(IMAGE * 255).astype(np.uint8)[~top]
    np.testing.assert_array_equal(first[0][~top], remain)


def test_what_fills_refuse():
    def curve(**given):
        protocol = fill_curves.FillProtocol(**({"order": "insertion"} | given))
        return fill_curves.fill_curves(
            contrast, IMAGE, SALIENCY, 0, protocol=protocol, key=KEY
        )

    with pytest.raises(InputError, match="needs inpainted="):
        curve()
    with pytest.raises(InputError, match="unknown fill 'blurr'"):
        curve(names=("blurr",))
    with pytest.raises(InputError, match="unknown order 'inserting'"):
        curve(order="inserting")
    with pytest.raises(InputError, match="steps is 0"):
        curve(steps=0)


def test_the_number_of_a_set_has_its_parts_and_their_spread():
    metric = METRICS["insertion:fills-14"]
    statistics = np.random.default_rng(1).uniform(size=(3, 5))
    measured = {metric.id: Measured(statistics, np.arange(3))}
    scores = Scores(("a", "b", "c"), {metric.id: metric}, measured)
    (summary,) = scores.summary(resamples=50).values()
    parts = statistics.mean(axis=0)
    assert summary.value == pytest.approx(statistics.mean())
    assert summary.parts == pytest.approx(dict(zip(fill_curves.FILLS, parts)))
    assert summary.spread == pytest.approx(parts.std())
    fewer = dataclasses.replace(metric, parts=("blur", "zero"))
    with pytest.raises(InputError, match=r"names 2 parts, but .* shape \(5,\)"):
        Scores(scores.ids, {metric.id: fewer}, measured).summary(resamples=50)


def test_what_is_prepared_is_of_each_image_also_in_a_slice_that_is_not_full():
    def number(predict, sample, *, key):
        return sample.prepared + sample.saliency.sum()

    def prepare(sample):
        assert isinstance(sample.image, np.ndarray)
        return np.float32(100 * sample.target)

    base = METRICS["insertion:mean-14"]
    metric = dataclasses.replace(base, name="number", measure=number, prepare=prepare)
    images, maps = np.stack([IMAGE] * 3), np.stack([SALIENCY, 0 * SALIENCY, SALIENCY])
    targets = np.asarray([0, 1, 1])
    # the last slice is filled up with copies of the last image
    scores = evaluate(contrast, images, maps, targets, metrics=(metric,), micro_batch=2)
    expected = 100 * targets + maps.sum((1, 2))
    np.testing.assert_allclose(scores.per_image("number"), expected, rtol=1e-5)


def test_minimal_areas_of_a_network_that_counts_the_object_s_pixels():
    """Nothing else matters, and every pixel as much: 90 % of the way is 90 % of the object."""
    image = np.full((20, 20, 3), 0.2, np.float32)
    image[4:14, 4:14] = 0.7
    blurred = np.asarray(rise_blur(jnp.asarray(image), jnp.full(3, 0.5)))

    def linear(images):
        part = images[:, 4:14, 4:14] - blurred[4:14, 4:14]
        # as many steps to the class as pixels of the image are seen
        seen = (jnp.abs(part).max(axis=-1) > 1e-4).mean((1, 2))
        p = 0.05 + 0.9 * seen
        return jnp.stack([jnp.log(p), jnp.log1p(-p)], axis=-1)

    good = np.zeros((20, 20), np.float32)
    good[4:14, 4:14] = 1.0
    # the object first; the background first: 300 pixels for nothing
    maps = jnp.asarray(np.stack([good, 1 - good]))
    for kind in areas.KINDS:

        @jax.jit
        def found(maps, targets, kind=kind):
            return jax.vmap(
                lambda one, target: areas.minimal_area(
                    linear, image, one, target, kind=kind, steps=100
                )
            )(maps, targets)

        share = 100 / 400
        expected = [0.9 * share, 0.75 + 0.9 * share]
        np.testing.assert_allclose(found(maps, jnp.zeros(2, int)), expected, atol=5e-3)
        # what the fill has more of than the image can be neither kept nor lost
        np.testing.assert_array_equal(found(maps, jnp.ones(2, int)), 1.0)


def test_the_first_crossing_counts():
    places = jnp.array([0.0, 0.1, 0.3, 0.6, 1.0])
    found = areas.first_reached(places, jnp.array([0.0, 0.8, 1.2, 0.5, 1.0]), 0.9)
    assert float(found) == pytest.approx(0.1 + 0.25 * 0.2)
    assert float(areas.first_reached(places, jnp.zeros(5), 0.9)) == 1.0


def test_what_areas_refuse():
    def area(**given):
        given = {"kind": "necessary"} | given
        return areas.minimal_area(contrast, IMAGE, SALIENCY, 0, **given)

    with pytest.raises(InputError, match="unknown kind 'enough'"):
        area(kind="enough")
    with pytest.raises(InputError, match="share is 0"):
        area(share=0.0)
    with pytest.raises(InputError, match="steps is 0"):
        area(steps=0)
