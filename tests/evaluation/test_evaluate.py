"""Scores of maps: values computed by hand, intervals of known data, frames of known geometry, one
sentence for bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import scipy.stats
from conftest import PATCH, patch_network

from mdm_jax import Explanation, InputError, explain
from mdm_jax.baselines.rise import RISE
from mdm_jax.data import Example
from mdm_jax.data.class_mapping import class_numbers
from mdm_jax.data.network_input import (
    PreparedExample,
    SkippedExample,
    boxes_to_mask,
    evenly_spaced,
    prepare_example,
    prepare_examples,
)
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.evaluation import evaluate, statistics
from mdm_jax.evaluation.measure import measure
from mdm_jax.evaluation.scene import Scene
from mdm_jax.evaluation.statistics import Interval, Measured, Scores
from mdm_jax.images import fit, to_array
from mdm_jax.metrics import Metric


def logit_gap(predict, sample, *, key):
    """What the network says of the masked image, and a draw of the key."""
    logits = predict((sample.saliency[..., None] * sample.image)[None])
    return jnp.stack(
        [logits[0, sample.target] - logits[0, 1 - sample.target], jax.random.uniform(key)]
    )


GAP = Metric("gap", "test", logit_gap, "higher")
SUM = Metric(
    "sum", "test", lambda predict, sample, *, key: sample.attribution.sum(), "none", "map"
)
INSIDE = Metric(
    "inside",
    "test",
    lambda predict, sample, *, key: (sample.saliency * sample.mask).sum(),
    "higher",
    "mask",
)
WIDTH = Metric(
    "width",
    "test",
    lambda predict, sample, *, key: np.float64(sample.boxes[0, 2] - sample.boxes[0, 0]),
    "lower",
    "boxes",
)
AGAIN = Metric(
    "again",
    "test",
    lambda predict, sample, *, key, explain: explain(
        sample.image, sample.target, key
    ).mean(),
    "lower",
    "explain",
)


@pytest.fixture(scope="module")
def maps():
    return np.random.default_rng(1).uniform(0, 1, (3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def masks():
    mask = np.zeros((32, 32), bool)
    mask[PATCH] = True
    return [mask, None, mask.T]


def test_statistics_are_those_computed_by_hand(images, maps, masks):
    boxes = [
        np.asarray([[2.0, 3.0, 9.0, 8.0]]),
        np.asarray([[0.0, 0.0, 32.0, 32.0], [1.0, 1.0, 2.0, 2.0]]),
        None,
    ]
    asked = (GAP, SUM, INSIDE, WIDTH)
    result = evaluate(
        patch_network,
        images,
        maps,
        0,
        attribution=maps - 0.5,
        object_masks=masks,
        boxes=boxes,
        metrics=asked,
    )
    gaps = 8 * (maps[..., None] * images)[:, *PATCH].mean((1, 2, 3)) - 3
    np.testing.assert_allclose(
        result.per_image("gap:test")[:, 0], gaps, rtol=1e-5, atol=1e-6
    )  # differences of numbers near 3
    np.testing.assert_allclose(
        result.per_image("sum:test"), (maps - 0.5).sum((1, 2)), rtol=1e-4
    )
    inside = [maps[0][masks[0]].sum(), np.nan, maps[2][masks[2]].sum()]
    np.testing.assert_allclose(result.per_image("inside:test"), inside, rtol=1e-5)
    np.testing.assert_array_equal(result.per_image("width:test"), [7, 32, np.nan])
    summary = result.summary()
    assert summary["inside:test"].value == pytest.approx(
        (inside[0] + inside[2]) / 2, rel=1e-5
    )
    assert (summary["inside:test"].counted, summary["inside:test"].without_truth) == (2, 1)
    assert (summary["width:test"].protocol, summary["width:test"].better) == (
        "test",
        "lower",
    )


def test_order_metrics_read_the_ranking_and_others_the_saliency(images, maps):
    asked = ("insertion", "deletion:mean-14", "insertion:inpaint-14", "sparseness")
    ranking = maps[:, ::-1]

    def numbers(saliency, **more):
        found = evaluate(patch_network, images, saliency, 0, metrics=asked, **more)
        return {name: found.per_image(name) for name in found.measured}

    both, by_saliency = numbers(maps, ranking=ranking), numbers(maps)
    by_ranking = numbers(ranking)
    for name in both:
        expected = by_saliency if name == "sparseness:gini" else by_ranking
        np.testing.assert_array_equal(both[name], expected[name])
        assert not np.array_equal(by_saliency[name], by_ranking[name])
    # to the last bit, a method whose saliency serves for both
    same = numbers(maps, ranking=maps)
    for name in same:
        np.testing.assert_array_equal(same[name], by_saliency[name])


def test_boxes_stand_for_masks_that_are_not_given(images, maps):
    box = np.asarray([[4.0, 2.0, 6.0, 5.0]])
    result = evaluate(
        patch_network, images, maps, 0, boxes=[box, None, box], metrics=(INSIDE,)
    )
    expected = [maps[0][2:5, 4:6].sum(), np.nan, maps[2][2:5, 4:6].sum()]
    np.testing.assert_allclose(result.per_image("inside:test"), expected, rtol=1e-5)


def test_targets_default_to_the_first_choice(images, maps):
    chosen = np.argmax(patch_network(jnp.asarray(images)), axis=-1)
    free = evaluate(patch_network, images, maps, metrics=(GAP,)).per_image("gap:test")
    told = evaluate(patch_network, images, maps, chosen, metrics=(GAP,)).per_image(
        "gap:test"
    )
    np.testing.assert_array_equal(free, told)
    other = evaluate(patch_network, images, maps, 1 - chosen, metrics=(GAP,)).per_image(
        "gap:test"
    )
    np.testing.assert_allclose(other[:, 0], -told[:, 0], rtol=1e-5)


def test_draws_come_from_the_ids_and_the_key_in_any_order_and_batch(images, maps):
    def drawn(order, ids, **more):
        result = evaluate(
            patch_network, images[order], maps[order], 0, metrics=(GAP,), ids=ids, **more
        )
        return result.per_image("gap:test")

    whole = drawn([0, 1, 2], "abc")
    np.testing.assert_allclose(
        drawn([2, 0, 1], "cab", micro_batch=2), whole[[2, 0, 1]], rtol=1e-5
    )
    assert not np.isclose(drawn([0, 1, 2], "abc", key=1)[:, 1], whole[:, 1]).any()
    assert len(set(whole[:, 1])) == 3


@pytest.mark.parametrize(
    "kind", [jnp.asarray, list, lambda each: each.astype(jnp.bfloat16)]
)
def test_maps_of_every_kind_and_one_metric_by_itself(images, maps, kind):
    result = evaluate(patch_network, images, kind(maps), 0, metrics=SUM).per_image(
        "sum:test"
    )
    np.testing.assert_allclose(result, maps.sum((1, 2)), rtol=1e-2)


def test_a_second_call_compiles_nothing(images, maps, compilations):
    evaluate(patch_network, images, maps, 0, metrics=(GAP, SUM))
    with compilations as compiled:
        evaluate(patch_network, images, maps[::-1], 1, metrics=(GAP, SUM), key=3)
    assert compiled.count == 0


def test_a_metric_runs_the_method_again(images, maps):
    result = evaluate(patch_network, images, maps, 0, metrics=(AGAIN,), method="gradient")
    own = explain(patch_network, images, 0, method="gradient").saliency.mean((1, 2))
    np.testing.assert_allclose(result.per_image("again:test"), own, rtol=1e-5)


def test_reduction_of_the_whole_set():
    statistics = np.asarray([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    for reduces_mean in (False, True):
        best = Metric(
            "best",
            "test",
            lambda *_: None,
            "higher",
            reduce=lambda each: float(np.asarray(each).mean(axis=0).max()),
            reduces_mean=reduces_mean,
        )
        measured = {"best:test": Measured(statistics, np.arange(4))}
        summary = Scores(("a", "b", "c", "d"), {"best:test": best}, measured).summary()
        assert summary["best:test"].value == 0.75
        assert summary["best:test"].interval == (0.5, 1.0)


def test_resampling_by_means_is_resampling():
    values = np.random.default_rng(0).uniform(size=(30, 7))

    def of_mean(each):
        return float(np.asarray(each).mean(axis=0).max())

    fast, slow = (
        statistics.replicates(of_mean, values, reduces_mean=short_cut, resamples=50)
        for short_cut in (True, False)
    )
    np.testing.assert_allclose(fast, slow, rtol=1e-12)
    assert not np.array_equal(fast, np.full(50, fast[0]))


def test_a_nan_reaches_only_the_resamples_that_hold_its_image():
    values = np.random.default_rng(0).uniform(size=(30, 7))
    values[3] = np.nan

    def of_mean(each):
        return float(np.asarray(each).mean(axis=0).max())

    drawn = statistics.replicates(of_mean, values, reduces_mean=True, resamples=200)
    assert 0 < np.isnan(drawn).sum() < 200


@pytest.mark.parametrize("size", [20, 400])
def test_intervals_are_those_of_scipy_but_for_the_draws(size):
    rng = np.random.default_rng(2)
    ours, theirs = rng.normal(1.0, 2.0, size), rng.normal(0.5, 1.0, size)
    measured = [Measured(each, np.arange(size)) for each in (ours, theirs)]
    plain = Metric("x", "test", lambda *_: None, "higher")
    apart = statistics.difference(plain, *measured, resamples=20_000)

    def gap(first, second, axis):
        return first.mean(axis=axis) - second.mean(axis=axis)

    expected = scipy.stats.bootstrap(
        (ours, theirs), gap, paired=True, n_resamples=20_000, method="percentile", rng=rng
    ).confidence_interval
    error = 0.03 * (expected.high - expected.low)  # 20,000 draws
    assert apart.interval == pytest.approx(tuple(expected), abs=error)


def test_interval_of_known_data():
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    value, (low, high) = statistics.estimate(statistics.mean, values)
    half = 1.96 * values.std() / np.sqrt(400)
    assert value == values.mean()
    assert low == pytest.approx(value - half, abs=0.1 * half)
    assert high == pytest.approx(value + half, abs=0.1 * half)
    assert statistics.estimate(statistics.mean, values) == (value, (low, high))
    assert statistics.estimate(statistics.mean, np.full(5, 3.0)) == (3.0, (3.0, 3.0))
    assert np.isnan(statistics.estimate(statistics.mean, np.zeros(0))[0])
    assert np.isnan(statistics.estimate(statistics.mean, np.asarray([1.0, np.nan]))[0])


def test_one_image_has_no_interval():
    value, unknown = statistics.estimate(statistics.mean, np.asarray([0.3]))
    assert value == 0.3
    assert np.isnan(unknown).all()
    plain = Metric("x", "test", lambda *_: None, "higher")
    ours, theirs = (
        Measured(np.asarray([1.0, 0.5]), np.arange(2)),
        Measured(np.asarray([0.0]), np.arange(1)),
    )
    gap, unknown, counted, verdict = statistics.difference(plain, ours, theirs)
    assert gap == 1.0
    assert counted == 1
    assert verdict == statistics.verdict("higher", unknown) == ""


def test_differences_are_paired_and_judged_by_direction():
    noise = np.random.default_rng(0).normal(0.0, 10.0, 100)
    rows = np.arange(100)
    plain = Metric("x", "test", lambda *_: None, "higher")
    ours, theirs = Measured(noise + 0.5, rows), Measured(noise[:90], rows[:90])
    value, apart, counted, verdict = statistics.difference(plain, ours, theirs)
    assert value == pytest.approx(0.5)
    assert apart == pytest.approx((0.5, 0.5))
    assert (counted, verdict) == (90, "better")
    assert statistics.verdict("higher", apart) == "better"
    assert statistics.verdict("lower", apart) == "worse"
    assert statistics.verdict("lower", Interval(-1.0, 0.0)) == "tied"
    assert (
        statistics.verdict("none", apart)
        == statistics.verdict("higher", Interval(np.nan, np.nan))
        == ""
    )
    unpaired = statistics.difference(
        plain, ours, Measured(noise[::-1].copy(), rows)
    ).interval
    assert unpaired.low < 0 < unpaired.high


def test_paired_differences_of_scores_take_short_names():
    noise = np.random.default_rng(0).normal(0.0, 10.0, 100)
    ids, rows = tuple(map(str, range(100))), np.arange(100)
    metrics = {"x:a": Metric("x", "a", lambda *_: None, "lower")}
    ours = Scores(ids, metrics, {"x:a": Measured(noise + 0.5, rows)})
    theirs = Scores(ids, metrics, {"x:a": Measured(noise[:90], rows[:90])})
    apart = ours.paired_difference(theirs, "x")
    assert apart == ours.paired_difference(theirs, "x:a")
    assert apart.value == pytest.approx(0.5)
    assert apart.interval == pytest.approx((0.5, 0.5))
    assert (apart.counted, apart.verdict) == (90, "worse")
    assert theirs.paired_difference(ours, "x").verdict == "better"
    np.testing.assert_array_equal(theirs.per_image("x"), theirs.per_image("x:a"))
    with pytest.raises(InputError, match="unknown metric of these scores 'y'"):
        ours.per_image("y")
    with pytest.raises(InputError, match="scores are of different images"):
        ours.paired_difference(Scores(ids[::-1], metrics, theirs.measured), "x")


def test_a_short_name_of_two_protocols_is_refused():
    metrics = {f"x:{each}": Metric("x", each, lambda *_: None, "lower") for each in "ab"}
    measured = dict.fromkeys(metrics, Measured(np.zeros(2), np.arange(2)))
    with pytest.raises(InputError, match="unknown metric of these scores 'x'"):
        Scores(("a", "b"), metrics, measured).per_image("x")


BAD = {
    "shape": ({"saliency": np.zeros((3, 16, 16))}, "give one map for each image"),
    "explanation": (
        {"saliency": Explanation(np.zeros((3, 32, 32)), (), None)},
        "give its map, explanation.saliency",
    ),
    "number": ({"saliency": np.zeros((2, 32, 32))}, "give one map for each image"),
    "channels": ({"saliency": np.zeros((3, 32, 32, 1))}, "without channels"),
    "differ": (
        {"saliency": [np.zeros((32, 32)), np.zeros((2, 2)), np.zeros((32, 32))]},
        "differ in shape",
    ),
    "ranking": ({"ranking": np.zeros((3, 16, 16))}, "give one map for each image"),
    "nan": ({"saliency": np.full((3, 32, 32), np.nan)}, "saliency map 0 holds NaN"),
    "range": ({"saliency": np.full((3, 32, 32), 2.0)}, "maps lie in [0, 1]"),
    "text": ({"saliency": np.full((3, 32, 32), "x")}, "give floats"),
    "attribution": (
        {"attribution": np.full((3, 32, 32), np.inf)},
        "attribution map 0 holds NaN",
    ),
    "empty mask": (
        {"object_masks": [None, np.zeros((32, 32), bool), None]},
        "mask 1 is empty",
    ),
    "mask shape": (
        {"object_masks": [None, None, np.ones((3, 3), bool)]},
        "mask 2 has shape (3, 3)",
    ),
    "mask type": (
        {"object_masks": [np.ones((32, 32)), None, None]},
        "type float64: give bool",
    ),
    "masks": ({"object_masks": [None]}, "1 masks for 3 images"),
    "boxes": ({"boxes": [None]}, "boxes of 1 images for 3"),
    "outside": (
        {"boxes": [None, [[0, 0, 40, 8]], None]},
        "image 1 is empty or outside its 32x32 pixels: x0, y0, x1, y1 = 0, 0, 40, 8",
    ),
    "empty box": ({"boxes": [[[5, 5, 5, 8]], None, None]}, "image 0 is empty or outside"),
    "box shape": ({"boxes": [[1, 2, 3, 4], None, None]}, "have shape (4,): give [k, 4]"),
    "no mask": (
        {"metrics": (INSIDE,)},
        "inside:test compares a map with the object's pixels: give masks or boxes",
    ),
    "no boxes": ({"metrics": (WIDTH,)}, "give boxes"),
    "no method": ({"metrics": (AGAIN,)}, "say with method="),
    "metric": ({"metrics": ("energi",)}, "unknown metric 'energi'"),
    "protocol": ({"metrics": ("energy:maks",)}, "did you mean 'energy:mask'"),
    "ids": ({"ids": "ab"}, "2 ids for 3 images"),
    "targets": ({"targets": [0, 1]}, "give one class index, or 3 of them"),
    "class": ({"targets": 7}, "class index 7 is out of range"),
    "micro batch": ({"micro_batch": 0}, "micro_batch is 0"),
    "method": ({"method": "grad", "metrics": (AGAIN,)}, "unknown method 'grad'"),
    "config": (
        {"method": "rise", "config": "paper", "metrics": (AGAIN,)},
        "config is a MDMConfig: rise takes a RISE",
    ),
    "config value": (
        {"method": "rise", "config": RISE(num_samples=0), "metrics": (AGAIN,)},
        "samples is 0",
    ),
    "no metrics": ({"metrics": ()}, "no metrics"),
    "one mask": ({"object_masks": True}, "0 masks for 3 images"),
    "ragged mask": (
        {"object_masks": [[[1], [1, 2]], None, None]},
        "rows of different lengths",
    ),
    "one box": ({"boxes": 5}, "boxes of 0 images for 3"),
    "ragged boxes": (
        {"boxes": [[[1, 2, 3], [1, 2, 3, 4]], None, None]},
        "boxes are not numbers",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(images, maps, case):
    changed, message = BAD[case]
    given = {"saliency": maps, "metrics": (SUM,)} | changed
    with pytest.raises(InputError) as error:
        evaluate(patch_network, images, **given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_is_measured_where_no_image_has_the_truth(images, maps):
    scene = Scene(
        images,
        maps,
        maps,
        maps,
        np.zeros(3, np.int32),
        [None] * 3,
        [None] * 3,
        np.arange(3, dtype=np.uint32),
    )
    for metric in (INSIDE, WIDTH):
        assert len(measure(metric, patch_network, scene).rows) == 0


def preprocessing(size, crop=1.0):
    return Preprocessing(3, size, crop, "bilinear", (0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize(
    ("original", "size", "crop"),
    [((90, 60), (32, 32), 0.8), ((50, 400), (16, 16), 1.0), ((40, 70), (24, 36), 0.9)],
)
def test_boxes_and_masks_go_the_way_of_the_pixels(original, size, crop):
    height, width = original
    box = np.asarray(
        [[0.3 * width, 0.42 * height, 0.72 * width, 0.7 * height]], np.float32
    ).round()
    mask = boxes_to_mask(box, original)
    image = np.repeat(mask[..., None].astype(np.float32), 3, axis=-1)
    framed = prepare_example(Example("a", image, 0, mask, box), preprocessing(size, crop))
    assert framed.image.shape == (*size, 3)
    bright = framed.image[..., 0] > 0.5
    assert 0 < bright.mean() < 1
    assert (framed.mask != bright).mean() < 0.06
    assert (boxes_to_mask(framed.boxes, size) != bright).mean() < 0.06
    expected = fit(PIL.Image.fromarray((image * 255).astype(np.uint8)), size, crop=crop)
    np.testing.assert_array_equal(framed.image, to_array(expected))


def test_truth_outside_of_the_frame_is_no_truth():
    image = np.full((32, 64, 3), 0.5, np.float32)
    corner = np.zeros((32, 64), bool)
    corner[:4, :4] = True
    boxes = np.asarray([[0.0, 0.0, 4.0, 4.0]], np.float32)
    lost = prepare_example(Example("a", image, 0, corner, boxes), preprocessing((16, 16)))
    assert lost.mask is None
    assert lost.boxes is None
    two = np.concatenate([boxes, [[20.0, 8.0, 36.0, 24.0]]]).astype(np.float32)
    kept = prepare_example(Example("a", image, 0, None, two), preprocessing((16, 16)))
    np.testing.assert_allclose(kept.boxes, [[2.0, 4.0, 10.0, 12.0]])
    assert kept.mask.sum() == 64
    assert kept.digest != lost.digest


def test_a_damaged_item_is_named_and_the_rest_goes_on():
    class Damaged:
        name, class_names = "damaged", ("one",)

        def __len__(self):
            return 3

        def __getitem__(self, index):
            if index == 1:
                raise InputError("b.png is damaged")
            return Example(str(index), np.zeros((16, 16, 3), np.float32), 0, None, None)

    found = list(prepare_examples(Damaged(), range(3), preprocessing((16, 16))))
    assert [type(each) for each in found] == [
        PreparedExample,
        SkippedExample,
        PreparedExample,
    ]
    assert found[1].reason == "b.png is damaged"


def test_a_limit_spreads_over_the_items():
    assert evenly_spaced(10, None) == list(range(10))
    assert evenly_spaced(10, 4) == [0, 2, 5, 7]
    assert evenly_spaced(3, 9) == [0, 1, 2]


def test_classes_are_matched_by_name():
    network = ("tench, Tinca tinca", "goldfish", "crane", "crane", "white shark, man-eater")
    data = (
        "Goldfish, Carassius",
        "tench",
        "crane",
        "4",
        "whale",
        "9",
        "tench, Tinca tinca",
    )
    with pytest.warns(UserWarning, match=r"3 of the data's 7 classes are none of"):
        assert class_numbers(data, network).tolist() == [1, 0, -1, 4, -1, -1, 0]
    assert class_numbers(("a", "b"), ("a", "b")).tolist() == [0, 1]
    assert class_numbers(("n1", "n2", "n3"), ("cat", "dog")).tolist() == [-1, -1, -1]


def test_masks_is_the_old_name_of_object_masks(images, maps, masks):
    with pytest.warns(DeprecationWarning, match="masks= is now object_masks="):
        old = evaluate(patch_network, images, maps, 0, masks=masks, metrics=INSIDE)
    new = evaluate(patch_network, images, maps, 0, object_masks=masks, metrics=INSIDE)
    np.testing.assert_array_equal(old.per_image("inside"), new.per_image("inside"))
    with pytest.raises(InputError, match="both object_masks and its old name masks"):
        evaluate(
            patch_network, images, maps, masks=masks, object_masks=masks, metrics=INSIDE
        )
