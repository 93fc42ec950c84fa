"""Metrics with a known truth: pointing, energy, boxes and pixels, complexity; parity with the
authors' evaluations."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_jax.errors import InputError
from mdm_jax.metrics import METRICS, Sample, complexity, localization, region_boxes, wsol

SHAPE = (40, 56)
BOX = np.array([[12.0, 8.0, 36.0, 28.0]], np.float32)
MASK = localization.box_mask(BOX, SHAPE)
FIXTURE = Path(__file__).parents[1] / "fixtures" / "wsol.npz"

pointing = jax.jit(localization.pointing)
entropy, gini = jax.jit(complexity.entropy), jax.jit(complexity.gini)
pixel_histograms = jax.jit(wsol.pixel_histograms)


def measured(name, saliency, mask=MASK, boxes=BOX, attribution=None):
    """A metric's number for one image."""
    saliency = np.asarray(saliency, np.float32)
    image = np.zeros((*saliency.shape, 3), np.float32)
    attribution = saliency if attribution is None else attribution
    sample = Sample(image, saliency, attribution, saliency, 0, mask, boxes)
    metric = METRICS[name]
    return metric.reduce(np.asarray(metric.measure(None, sample, key=None))[None])


LOCAL = [
    "energy:mask",
    "energy:box",
    "pointing:torchray-15",
    "pointing:exact",
    "maxboxacc:v1",
    "maxboxacc:v2",
    "pxap:wsol",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCAL)
def test_a_map_equal_to_the_object_is_perfect_and_one_elsewhere_is_not(name):
    mask = MASK
    if name == "pxap:wsol":  # exact where nothing is interpolated
        mask = localization.box_mask(BOX, (224, 224))
    elsewhere = np.zeros(mask.shape)
    elsewhere[33:39, 50:55] = 1.0
    assert measured(name, mask, mask=mask) == pytest.approx(1.0, abs=1e-6)
    assert measured(name, elsewhere, mask=mask) < 0.1


CONSTANT = {  # constant map, all-zero map
    "energy:mask": (MASK.mean(), 0.0),
    "energy:box": (MASK.mean(), 0.0),
    "pointing:torchray-15": (1.0, 1.0),  # the top left pixel, 14.4 pixels from the box
    "pointing:exact": (0.0, 0.0),
    "maxboxacc:v1": (0.0, 0.0),
    "maxboxacc:v2": (0.0, 0.0),
    "pxap:wsol": (MASK.mean(), MASK.mean()),
    "complexity:entropy": (np.log(MASK.size), np.log(MASK.size)),
    "sparseness:gini": (0.0, 0.0),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_and_all_zero_maps_have_the_documented_results(name):
    constant, zero = CONSTANT[name]
    assert measured(name, np.full(SHAPE, 0.7)) == pytest.approx(
        constant, rel=2e-3, abs=1e-6
    )
    assert measured(name, np.zeros(SHAPE)) == pytest.approx(zero, rel=2e-3, abs=1e-6)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.floats(0.01, 100.0), st.floats(0.3, 6.0))
def test_scores_lie_in_their_range_and_ignore_the_maps_scale(seed, scale, power):
    rng = np.random.default_rng(seed)
    saliency = (rng.uniform(0, 1, SHAPE) ** power).astype(np.float32)
    saliency[rng.uniform(size=SHAPE) < 0.3] = 0.0
    scaled = (np.float32(scale) * saliency).astype(np.float32)
    for name in [*LOCAL, "complexity:entropy", "sparseness:gini"]:
        if name.startswith("maxboxacc"):
            continue  # its 8 bits are decided by the last digit of the map, and noise tells no box
        score = measured(name, saliency)
        assert (
            0 <= score <= (np.log(MASK.size) + 1e-4 if name == "complexity:entropy" else 1)
        )
        assert measured(name, scaled) == pytest.approx(score, rel=1e-3, abs=1e-5)


def test_box_hits_ignore_a_scale_that_rounds_nothing():
    saliency = np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32)
    np.testing.assert_array_equal(
        wsol.box_hits(saliency, BOX), wsol.box_hits(saliency * np.float32(4.0), BOX)
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 1.0, 2.5, 15.0]))
def test_pointing_is_the_distance_to_the_nearest_pixel(seed, tolerance):
    rng = np.random.default_rng(seed)
    saliency = rng.integers(0, 60, SHAPE).astype(np.float32)  # maxima are tied
    mask = np.zeros(SHAPE, bool)
    mask[rng.integers(40), rng.integers(56)] = True
    mask[rng.integers(40), rng.integers(56)] = True
    point = np.argwhere(saliency == saliency.max())[0]
    distance = np.linalg.norm(np.argwhere(mask) - point, axis=1).min()
    expected = distance < tolerance or distance == 0
    assert pointing(saliency, mask, tolerance=tolerance) == expected


def test_pointing_at_the_edge_of_its_tolerance():
    saliency = np.zeros((40, 56), np.float32)
    saliency[20, 10] = 1.0
    for column, hit in ((24, 1.0), (25, 0.0)):  # 14 and 15 pixels away
        mask = np.zeros((40, 56), bool)
        mask[20, column] = True
        assert measured("pointing:torchray-15", saliency, mask=mask) == hit
        assert measured("pointing:exact", saliency, mask=mask) == 0.0


def test_class_mean_weighs_classes_alike():
    assert (
        localization.class_mean(np.array([1.0, 1.0, 1.0, 0.0]), np.array([4, 4, 4, 7]))
        == 0.5
    )
    with pytest.raises(InputError, match="no images"):
        localization.class_mean(np.zeros(0), np.zeros(0, int))


def test_box_energy_counts_overlapping_boxes_once():
    saliency = np.ones(SHAPE, np.float32)
    boxes = np.array([[0, 0, 20, 10], [10, 0, 30, 10]], np.float32)
    assert localization.box_energy(saliency, boxes) == pytest.approx(300 / saliency.size)
    assert localization.box_mask(np.array([[1.6, 0, 3.4, 1]]), (1, 5)).tolist() == [
        [False, False, True, False, False]
    ]


@pytest.mark.parametrize(
    ("mask", "boxes", "says"),
    [
        (np.zeros(SHAPE, bool), None, "the mask is empty"),
        (np.ones((3, 3), bool), None, r"the mask is bool \(3, 3\): give bool \(40, 56\)"),
        (np.ones(SHAPE), None, "the mask is float64"),
        (None, np.zeros((2, 3)), r"boxes are float64 \(2, 3\): give numbers"),
        (None, np.zeros((0, 4)), "boxes are empty"),
        (None, [[0, 0, np.nan, 4]], "is not finite"),
        (None, [[5, 5, 5, 9]], "is empty: x1 must exceed x0"),
        (None, [[-2, 0, 9, 9]], "lies outside its image of 56x40"),
        (
            None,
            [[0, 0, 9, 9], [50, 0, 57, 9]],
            "50, 0, 57, 9 lies outside its image of 56x40",
        ),
    ],
)
def test_truth_that_cannot_be_is_named(mask, boxes, says):
    with pytest.raises(InputError, match=says):
        localization.check_truth(mask, boxes, SHAPE)


def test_truth_that_can_be_passes():
    localization.check_truth(MASK, BOX, SHAPE)
    localization.check_truth(None, None, SHAPE)
    localization.check_truth(None, [[0, 0, 56.005, 40]], SHAPE)


def test_maxboxacc_and_pxap_refuse_impossible_truth():
    with pytest.raises(InputError, match="negative or reversed"):
        wsol.box_hits(np.ones(SHAPE, np.float32), np.array([[9.0, 0.0, 3.0, 5.0]]))
    with pytest.raises(InputError, match="no pixel belongs to an object"):
        wsol.pixel_average_precision(np.zeros((2, 2, wsol.BINS)))


def test_a_map_with_nan_misses_and_tells_nothing():
    saliency = np.where(MASK, 1.0, np.nan)
    assert not wsol.box_hits(saliency, BOX).any()
    assert measured("pxap:wsol", saliency) == pytest.approx(MASK.mean(), rel=2e-3)


def test_one_threshold_is_chosen_for_the_whole_set():
    hits = np.zeros((2, 1000, 1), bool)
    hits[0, 100], hits[1, 200] = True, True  # each image alone could be hit
    assert wsol.max_box_acc(hits) == 0.5
    hits[1, 100] = True
    assert wsol.max_box_acc(hits) == 1.0


def test_v1_takes_the_largest_region_and_v2_all():
    saliency = np.zeros((64, 64), np.float32)
    saliency[4:20, 4:20], saliency[30:60, 30:60] = 1.0, 1.0
    small = np.array([[4.0, 4.0, 20.0, 20.0]], np.float32)
    assert measured("maxboxacc:v1", saliency, boxes=small) == 0.0
    assert measured("maxboxacc:v2", saliency, boxes=small) == 1.0


def straightforward_hits(saliency, boxes, ious, largest):
    """Every contour of every threshold, one after the other."""
    import cv2

    gray = (wsol._resize_and_stretch(saliency) * 255).astype(np.uint8)
    true = (boxes * 224 / np.array([saliency.shape[1], saliency.shape[0]] * 2)).astype(int)
    best = {}
    for level in np.unique((wsol.THRESHOLDS * int(gray.max())).astype(int)):
        binary = (gray > level).astype(np.uint8)
        contours = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
        if largest:
            with_area = [each for each in contours if len(each) > 2]
            top = max(with_area, key=cv2.contourArea, default=contours[0])
            contours = [top if cv2.contourArea(top) > 0 else contours[0]]
        overlaps = [0.0]
        for contour in contours:
            x, y, width, height = cv2.boundingRect(contour)
            x1, y1 = min(x + width, 223), min(y + height, 223)
            for x0, y0, true_x1, true_y1 in true:
                sides = min(x1, true_x1) - max(x, x0) + 1, min(y1, true_y1) - max(y, y0) + 1
                overlap = max(sides[0], 0) * max(sides[1], 0)
                areas = (x1 - x + 1) * (y1 - y + 1), (true_x1 - x0 + 1) * (true_y1 - y0 + 1)
                overlaps.append(overlap / (sum(areas) - overlap))
        best[level] = max(overlaps)
    levels = (wsol.THRESHOLDS * int(gray.max())).astype(int)
    return np.array([best[level] for level in levels])[:, None] >= np.array(ious)


@pytest.mark.slow
@pytest.mark.parametrize("pixels", [20, 48])
@pytest.mark.parametrize(("ious", "largest"), [((0.3, 0.5, 0.7), False), ((0.5,), True)])
def test_the_fast_search_of_boxes_is_the_straightforward_one(pixels, ious, largest):
    rng = np.random.default_rng(pixels)
    saliency = rng.uniform(0, 1, (pixels, pixels)).astype(np.float32)
    gray = (wsol._resize_and_stretch(saliency) * 255).astype(np.uint8)
    changes = np.abs(np.diff(gray.astype(int), axis=1)).sum() / 255
    assert changes > region_boxes.ROUGH  # so that it is searched by labels
    boxes = np.array([[0.1, 0.2, 0.4, 0.6], [0.05, 0.0, 0.9, 0.95]]) * pixels
    found = wsol.box_hits(saliency, boxes, ious=ious, largest=largest)
    expected = straightforward_hits(saliency, boxes, ious, largest)
    np.testing.assert_array_equal(found, expected)
    assert found.any()


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_boxes_of_labels_are_those_of_all_contours(share):
    rng = np.random.default_rng(int(10 * share))
    for _ in range(20):
        gray = (rng.uniform(size=rng.integers(3, 14, 2)) < share).astype(np.uint8)
        contours = region_boxes.contour_boxes(gray, 0, largest=False)
        regions = region_boxes._components(region_boxes.REGIONS, gray, 0)
        holes = region_boxes._components(region_boxes.HOLES, gray, 0)
        found = [*regions.boxes, *holes.boxes[~holes.at_border]]
        if found:
            assert {tuple(each) for each in found} == {tuple(each) for each in contours}


def test_ignored_pixels_count_nowhere():
    saliency = np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32)
    ignore = np.zeros(SHAPE, bool)
    ignore[:, 28:] = True
    counts = wsol.pixel_histograms(
        jnp.asarray(saliency), jnp.asarray(MASK), jnp.asarray(ignore)
    ).sum(axis=1)
    assert (
        counts[0] == pixel_histograms(saliency, MASK).sum(axis=1)[0]
    )  # the object's own pixels are not ignored
    assert counts[1] < pixel_histograms(saliency, MASK).sum(axis=1)[1]


def test_entropy_and_gini_of_known_attributions():
    single = np.zeros(SHAPE, np.float32)
    single[3, 4] = -5.0
    half = np.zeros(SHAPE, np.float32)
    half[:20] = 2.0
    pixels = single.size
    assert entropy(single) == 0.0
    assert gini(single) == pytest.approx(1 - 1 / pixels)
    assert entropy(half) == pytest.approx(np.log(pixels / 2), rel=1e-5)
    assert gini(half) == pytest.approx(0.5, abs=1e-4)
    assert measured(
        "sparseness:gini", np.zeros(SHAPE), attribution=single
    ) == pytest.approx(1 - 1 / pixels)


def cases():
    stored = np.load(FIXTURE)
    for number in range(int(stored["count"])):
        saliency = (stored[f"saliency{number}"] / 255.0).astype(np.float32)
        mask = np.unpackbits(stored[f"mask{number}"], axis=1)[
            :, : saliency.shape[1]
        ].astype(bool)
        yield saliency, stored[f"boxes{number}"], mask


@pytest.mark.slow
def test_box_accuracies_are_those_of_the_wsol_evaluation():
    stored = np.load(FIXTURE)
    for name, options in (("v1", {"ious": (0.5,), "largest": True}), ("v2", {})):
        expected = np.unpackbits(stored[f"hits_{name}"], axis=1)[
            :, : len(wsol.THRESHOLDS)
        ].astype(bool)
        hits = np.stack(
            [wsol.box_hits(saliency, boxes, **options) for saliency, boxes, _ in cases()]
        )
        assert (hits != expected).mean() <= 1e-4
        assert wsol.max_box_acc(hits) == pytest.approx(stored[f"accuracy_{name}"], abs=1e-4)


def test_pixel_precision_is_that_of_the_wsol_evaluation():
    stored = np.load(FIXTURE)
    histograms = [
        np.asarray(pixel_histograms(saliency, mask)) for saliency, _, mask in cases()
    ]
    alone = [wsol.pixel_average_precision(each[None]) for each in histograms]
    np.testing.assert_allclose(alone, stored["pxap_alone"], atol=1e-4)
    assert wsol.pixel_average_precision(histograms) == pytest.approx(
        stored["pxap"], abs=1e-4
    )


@pytest.mark.parametrize("pixels", [48, 64, 80, 224, 300])
def test_resizing_on_the_device_is_opencvs(pixels):
    import cv2

    line = np.random.default_rng(0).uniform(0, 1, (pixels, 1))
    expected = cv2.resize(line, (1, 224), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(wsol._cubic(pixels) @ line, expected, atol=1e-6)
    nearest = cv2.resize(line, (1, 224), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(line[wsol._nearest(pixels)], nearest)
