"""What every metric must keep that runs on the device: one number an image, compiled once, the same
in every way to run it."""

import pathlib
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.special
from reference_network import captum, network

from mdm_jax import InputError
from mdm_jax.metrics import METRICS, Sample, find
from mdm_jax.metrics.metric import BETTER, NEEDS, READS

ON_DEVICE = [
    name for name, metric in METRICS.items() if metric.needs in ("network", "map", "mask")
]
READ_AS_TEXT = [
    name
    for name in ON_DEVICE
    if name.startswith(("road", "sufficient", "necessary")) or name.endswith("-14")
]
"""whose number for a constant map is that of a map which falls row by row"""
RISE = pathlib.Path(__file__).parents[1] / "fixtures" / "rise.npz"
NEUTRAL = np.array([0.45, 0.5, 0.4])
SAME_PROGRAM = {
    "insertion:rise-224",
    "insertion:zero-224",
    "deletion:rise-224",
    "road_morf:linear",
    "road_lerf:linear",
    *(
        f"{order}:{fill}-14"
        for order in ("insertion", "deletion")
        for fill in ("blur", "zero", "mean", "noise", "inpaint")
    ),
}
"""differ from another by the number of steps alone, or are a part of it"""


@pytest.fixture(scope="module")
def reference():
    return network(captum())


@pytest.fixture(scope="module")
def samples():
    """Two samples, stacked, whose three maps have nothing to do with one another."""
    fixture, rng = captum(), np.random.default_rng(3)
    images = fixture["images"].astype(np.float32)
    attribution = rng.normal(size=images.shape[:3]).astype(np.float32)
    mask = rng.random(images.shape[:3]) < 0.3
    saliency, ranking = rng.random((2, *images.shape[:3]), np.float32)
    targets = np.asarray(fixture["targets"], np.int32)
    return Sample(images, saliency, attribution, ranking, targets, mask)


def with_every_map(samples, maps):
    """The samples of a method whose saliency serves for everything."""
    return samples._replace(saliency=maps, attribution=maps, ranking=maps)


def row(samples, i):
    return Sample(*(None if leaf is None else leaf[i] for leaf in samples))


def test_every_metric_says_what_it_is():
    for name, metric in METRICS.items():
        assert metric.id == name == f"{metric.name}:{metric.protocol}"
        assert metric.needs in NEEDS
        assert metric.better in BETTER
        assert metric.reads in READS
        assert metric.description.endswith(".")


@pytest.mark.slow
def test_what_is_declared_to_reduce_the_mean_does(samples):
    declared = [metric for metric in METRICS.values() if metric.reduces_mean]
    assert {metric.name for metric in declared} == {
        "f_measure",
        "maxboxacc",
        "objects",
        "pxap",
    }
    boxes = np.asarray(
        [[[1, 1, 5, 6], [5, 7, 10, 12]], [[0, 0, 9, 4], [3, 6, 8, 11]]], np.float32
    )
    for metric in declared:
        measured = [
            metric.measure(None, row(samples, i)._replace(boxes=boxes[i]), key=None)
            for i in range(2)
        ]
        statistics = np.asarray(measured, np.float64)
        for rows in ([0, 1], [1, 1], [0, 1, 1]):
            chosen = statistics[rows]
            alone = metric.reduce(chosen.mean(axis=0, keepdims=True))
            assert metric.reduce(chosen) == pytest.approx(alone, rel=1e-9, abs=1e-12)


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
    return jax.jit(
        jax.vmap(
            lambda net, sample, key: metric.measure(net, sample, key=key),
            in_axes=(None, 0, 0),
        )
    )


def measured(name, reference, samples, keys):
    """The metric of two samples, after what it does with each on the host."""
    prepare = METRICS[name].prepare
    if prepare is not None:
        prepared = np.stack([prepare(row(samples, i)) for i in range(2)])
        samples = samples._replace(prepared=prepared)
    return batched(name)(reference, samples, keys)


KEYS = jax.random.split(jax.random.key(5), 2)
TURNED = KEYS[::-1]


@pytest.mark.parametrize("name", ON_DEVICE)
def test_finite_and_the_same_in_a_batch_and_alone(name, reference, samples, compilations):
    together = measured(name, reference, samples, KEYS)
    assert np.isfinite(together).all()
    parts = METRICS[name].parts
    shape = (2, len(parts)) if parts else (2,)
    assert METRICS[name].needs == "mask" or together.shape == shape
    assert np.isfinite(METRICS[name].reduce(np.asarray(together)))
    turned = row(samples, [1, 0])
    with compilations as compiled:
        again = measured(name, reference, turned, TURNED)
    assert compiled.count == 0
    np.testing.assert_allclose(again[::-1], together, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(measured(name, reference, samples, KEYS), together)


def test_which_metrics_read_which_map():
    names = {
        reads: {metric.name for metric in METRICS.values() if metric.reads == reads}
        for reads in READS
    }
    assert names["ranking"] == {
        *("insertion", "deletion", "sufficient_area", "necessary_area"),
        *("road", "road_morf", "road_lerf"),
    }
    assert names["attribution"] == {
        *("sensitivity_n", "infidelity", "complexity", "sparseness")
    }
    assert not names["saliency"] & (names["ranking"] | names["attribution"])


@pytest.mark.parametrize("name", ON_DEVICE)
def test_a_metric_changes_with_the_map_that_it_reads_and_with_no_other(
    name, reference, samples
):
    before = measured(name, reference, samples, KEYS)
    rng = np.random.default_rng(7)
    for which in READS:
        # several, since a metric such as "increase" only says yes or no
        others = rng.random((8, *samples.saliency.shape), np.float32) ** np.float32(3)
        # no pixel is 15 from another, so that pointing:torchray-15 says yes to all but this
        others[-1, :, 0, 0] = np.nan
        after = [
            measured(name, reference, samples._replace(**{which: each}), KEYS)
            for each in others
        ]
        is_same = [np.array_equal(before, each) for each in after]
        assert not all(is_same) if which == METRICS[name].reads else all(is_same)


@pytest.mark.parametrize(
    "name", [name for name, metric in METRICS.items() if metric.needs == "boxes"]
)
def test_what_is_measured_by_boxes_changes_with_the_saliency_only(name, samples):
    boxes = np.asarray([[1, 1, 5, 6]], np.float32)
    sample = row(samples, 0)._replace(mask=None, boxes=boxes)
    place = np.zeros_like(sample.saliency)
    place[1:6, 1:5] = 1.0
    elsewhere = place[::-1, ::-1]

    def number(**changed):
        statistics = METRICS[name].measure(None, sample._replace(**changed), key=None)
        return METRICS[name].reduce(np.asarray(statistics)[None])

    assert METRICS[name].reads == "saliency"
    assert number(attribution=place) == number(ranking=place) == number()
    assert number(saliency=place) > number(saliency=elsewhere)


@pytest.mark.parametrize(
    "name", [name for name, metric in METRICS.items() if metric.needs == "explain"]
)
def test_what_runs_the_method_again_changes_with_the_saliency_only(
    name, reference, samples
):
    sample = row(samples, 0)

    @jax.jit
    def number(sample, strength):
        def explain(image, target, key):
            return image.mean(-1) + strength * jax.random.uniform(key, image.shape[:2])

        return METRICS[name].measure(reference, sample, key=KEYS[0], explain=explain)

    before = number(sample, 0.1)
    turned = sample.saliency[::-1]
    assert METRICS[name].reads == "saliency"
    assert number(sample._replace(attribution=turned), 0.1) == before
    assert number(sample._replace(ranking=turned), 0.1) == before
    # the saliency of the sample, or that of the method
    assert number(sample._replace(saliency=turned), 0.9) != before


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ON_DEVICE if name not in SAME_PROGRAM])
def test_compiled_as_without(name, reference, samples):
    metric = METRICS[name]
    together = measured(name, reference, samples, KEYS)
    for i in range(2):
        one = row(samples, i)
        if metric.prepare is not None:
            one = one._replace(prepared=metric.prepare(one))
        plain = np.asarray(metric.measure(reference, one, key=KEYS[i]))
        if name != "pxap:wsol":
            np.testing.assert_allclose(plain, together[i], rtol=1e-4, atol=1e-6)
            continue
        # Histograms: a value at the edge of a bin falls on either side with another rounding, so
        # the counts below each edge may differ by a pixel, and the score must not.
        below = np.cumsum(plain, axis=-1) - np.cumsum(together[i], axis=-1)
        assert np.abs(below).max() <= 1
        score = metric.reduce(together[i][None])
        assert metric.reduce(plain[None]) == pytest.approx(score, rel=1e-4)


def by_hand(name, value, image, blurred, target, mask, key, logits):
    """What a metric is documented to give for a map that is `value` everywhere: text order, and no
    preference."""
    kind, protocol = name.split(":")
    place = np.arange(mask.size).reshape(*mask.shape, 1)

    def p(images):
        return scipy.special.softmax(logits(images), axis=-1)[:, target]

    if kind in ("insertion", "deletion"):
        start, end = {"rise": blurred, "zero": NEUTRAL}[protocol.split("-")[0]], image
        start, end = (image, NEUTRAL) if kind == "deletion" else (start, end)
        pixels = {"28": 5, "224": 1}[protocol.split("-")[1]]  # at a time, of 120
        curve = p(
            np.stack(
                [np.where(place < k, end, start) for k in range(0, mask.size + 1, pixels)]
            )
        )
        return (curve[1:] + curve[:-1]).mean() / 2
    if kind in ("average_drop", "increase", "average_gain"):
        kept = (
            np.where(place < mask.size // 2, value, 0.0)
            if protocol == "scorecam-50"
            else value
        )
        whole, seen = p(np.stack([image, kept * image + (1 - kept) * NEUTRAL]))
        drop, gain = max(0.0, whole - seen) / whole, max(0.0, seen - whole) / (1 - whole)
        return {
            "average_drop": drop,
            "average_gain": gain,
            "increase": float(seen > whole),
        }[kind]
    if kind == "infidelity":
        noise = np.asarray(0.003 * jax.random.normal(key, (10, *mask.shape)))
        changed = (logits(image[None]) - logits(image - noise[..., None]))[:, target]
        sums = value * noise.sum((1, 2))
        factor = (
            sums @ changed / (sums @ sums) if protocol == "captum-scaled" and value else 1.0
        )
        return ((factor * sums - changed) ** 2).mean()
    if kind == "pxap":
        rows, columns = (np.arange(224) * side // 224 for side in mask.shape)
        return mask[rows][:, columns].mean()
    if kind == "weighted_f":
        distance = scipy.ndimage.distance_transform_edt(~mask)
        line = np.exp(-(np.arange(-3, 4) ** 2) / 50)
        kernel = np.outer(line, line) / line.sum() ** 2
        inside = scipy.ndimage.convolve(np.ones(mask.shape), kernel, mode="constant")
        true = mask.sum() - (1 - value) * np.minimum(inside, 1)[mask].sum()
        wrong = value * (2 - 0.5 ** (distance / 5))[~mask].sum()
        precision, recall = true / (true + wrong), true / mask.sum()
        return 2 * precision * recall / (precision + recall)
    # F of all pixels; none has the adaptive threshold of 1
    f = 1.3 * mask.mean() / (0.3 * mask.mean() + 1)
    return {
        "f_measure:max": f,
        "f_measure:mean": f * (int(255 * value) + 1) / 256,
        "f_measure:adaptive": 0.0 if value else f,
        "mae:mask": np.abs(value - mask).mean(),
        "energy:mask": mask.mean() if value else 0.0,
        "pointing:torchray-15": 1.0,  # no pixel is 15 from the top left one
        "pointing:exact": float(mask[0, 0]),
        "complexity:entropy": np.log(mask.size),
    }.get(name, 0.0)  # 0 for sensitivity_n and sparseness


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ON_DEVICE if name not in READ_AS_TEXT])
def test_constant_and_all_zero_maps_have_the_documented_results(name, reference, samples):
    run = jax.jit(lambda images: reference(images))
    blurred = (
        np.load(RISE)["blurred"] * reference.weights["std"] + reference.weights["mean"]
    )
    for value in (0.0, 0.7):
        flat = np.full_like(samples.saliency, value)
        together = measured(name, reference, with_every_map(samples, flat), KEYS)
        for i in range(2):
            case = samples.image[i], blurred[i], samples.target[i], samples.mask[i], KEYS[i]
            expected = by_hand(
                name,
                value,
                *case,
                lambda images: np.asarray(run(np.float32(images))[0], np.float64),
            )
            got = METRICS[name].reduce(np.asarray(together[i])[None])
            assert got == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", READ_AS_TEXT)
def test_pixels_of_a_constant_map_are_removed_row_by_row(name, reference, samples):
    text = samples._replace(
        ranking=np.broadcast_to(
            -np.arange(120, dtype=np.float32).reshape(12, 10), (2, 12, 10)
        )
    )
    for value in (0.0, 0.7):
        flat = samples._replace(ranking=np.full_like(samples.ranking, value))
        np.testing.assert_array_equal(
            *(measured(name, reference, each, KEYS) for each in (flat, text))
        )


def test_constant_maps_have_documented_results_where_the_method_itself_is_asked(
    reference, samples
):
    asked = [metric for metric in METRICS.values() if metric.needs == "explain"]

    @jax.jit
    def measured(flat):
        one = with_every_map(row(samples, 0), flat)
        return {
            each.id: each.measure(reference, one, key=KEYS[0], explain=lambda *_: flat)
            for each in asked
        }

    for value in (0.0, 0.7):
        got = measured(jnp.full((12, 10), value))
        assert {name: float(number) for name, number in got.items()} == dict.fromkeys(
            got, 0.0
        )


@pytest.mark.parametrize(
    "name", [name for name in ON_DEVICE if name != "pxap:wsol"]
)  # its authors take such a map for zeros
def test_a_map_with_a_nan_gives_nan_and_leaves_its_neighbor_alone(name, reference, samples):
    broken = samples.saliency.copy()
    broken[0, 3, 4] = np.nan
    got = measured(name, reference, with_every_map(samples, broken), KEYS)
    assert np.isnan(got[0]).all()
    assert np.isfinite(got[1]).all()
