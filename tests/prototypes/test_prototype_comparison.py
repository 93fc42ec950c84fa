"""The comparison of regions: curves, least areas, overlaps, checks and tables, on cases with known
answers."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_prototype_regions import brightness

from mdm_jax import MDMConfig
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.errors import InputError
from mdm_jax.evaluation import table_text
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.protopnet import LARGEST, ProtoPNet, log_similarity
from mdm_jax.models.reinitialize import named_weights
from mdm_jax.models.resnet import ResNet
from mdm_jax.prototypes import metrics, parts, perturbations
from mdm_jax.prototypes.comparison import (
    CHECKS,
    PairAnnotations,
    compare_regions,
    possible_checks,
)
from mdm_jax.prototypes.curves import (
    AREAS,
    RUNGS,
    Curves,
    Response,
    area_under,
    at_areas,
    curves_of,
    keeps_node,
    least_area,
)

CELL = (slice(8, 16), slice(16, 24))
SEEN = Preprocessing(3, (32, 32), 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)
PIXELS = np.round(np.asarray(AREAS) * 1024)


@pytest.fixture(scope="module")
def scenes():
    """Three images 32x32 that are black but for one white cell."""
    drawn = np.zeros((3, 32, 32, 3), np.float32)
    drawn[:, *CELL] = 1.0
    return drawn


@pytest.fixture(scope="module")
def masks():
    mask = np.zeros((32, 32), bool)
    mask[CELL] = True
    return [mask, mask, None]


def test_curves_of_a_white_cell(scenes):
    """The right map keeps and removes pixel by pixel; the opposite one keeps nothing until it has
    to."""
    right = scenes[:, :, :, 0]
    found = curves_of(
        brightness, scenes[:2], np.stack([right[0], 1 - right[1]]), 0, fills=("black",)
    )
    share = np.minimum(PIXELS / 64, 1.0)
    np.testing.assert_allclose(at_areas(found.kept.similarity)[0, 0], share, atol=1e-6)
    np.testing.assert_allclose(found.removed.similarity[0, 0], 1 - share, atol=1e-6)
    np.testing.assert_allclose(at_areas(found.kept.similarity)[1, 0], 0, atol=1e-6)
    np.testing.assert_allclose(found.removed.similarity[1, 0], 1, atol=1e-6)
    np.testing.assert_allclose(found.kept.distance, 1 - found.kept.similarity, atol=1e-6)
    np.testing.assert_allclose(
        found.kept.similarity[:, 0, [0, -1]], [[0, 1]] * 2, atol=1e-6
    )
    # 58 of 64 pixels, 5.66 % of the image, keep 90 %
    np.testing.assert_allclose(
        least_area(
            keeps_node(jax.tree.map(lambda leaf: leaf[:, 0], found.kept))["similarity"]
        ),
        [0.06, 1.0],
    )


def test_curves_of_many_fills_and_of_nan(scenes):
    maps = np.stack([scenes[0, :, :, 0], np.full((32, 32), np.nan)])
    found = curves_of(brightness, scenes[:2], maps, 0, fills=("black", "gray"))
    assert found.kept.similarity.shape == (2, 2, len(RUNGS))
    assert found.removed.distance.shape == (2, 2, len(AREAS))
    np.testing.assert_allclose(found.kept.similarity[0, :, 0], [0.0, 0.5], atol=1e-6)
    assert np.isnan(found.kept.similarity[1]).all()
    with pytest.raises(InputError, match="one map"):
        curves_of(brightness, scenes[:2], maps[:1], 0)


def test_area_under_a_curve():
    assert area_under(np.full(6, 0.7), 0.7) == pytest.approx(0.7)
    assert area_under(np.asarray(AREAS), 0.0) == pytest.approx(
        0.25
    )  # the diagonal from 0 to 0.5
    np.testing.assert_allclose(
        area_under(np.stack([np.zeros(6), np.ones(6)]), [1.0, 1.0]), [0.01, 1.0]
    )


def test_least_area_is_the_first_that_holds():
    holds = np.zeros((4, len(RUNGS)), bool)
    holds[0, [3, 7]] = True  # what happens above does not count
    holds[1, 0] = True
    holds[2, -1] = True
    np.testing.assert_array_equal(least_area(holds), [RUNGS[3], 0.0, 1.0, np.nan])


def test_similarity_and_distance_differ_near_zero():
    """After the projection a distance of 0.01 of 2 is hardly a change, and the log similarity has
    halved."""
    distance = np.asarray([2.0, 0.3, 0.1, 0.01, 0.0])
    kept = Response(np.asarray(log_similarity(jnp.asarray(distance))), distance)
    held = keeps_node(kept)
    np.testing.assert_array_equal(held["distance"], [False, False, True, True, True])
    np.testing.assert_array_equal(held["similarity"], [False, False, False, False, True])
    assert kept.similarity[-1] == pytest.approx(LARGEST)
    worse = keeps_node(Response(kept.similarity, distance[::-1]))[
        "distance"
    ]  # the fill is closer than the image
    assert worse[0]
    assert worse[-1]


def test_live_pairs():
    def pair(whole, gray, blur):
        return [[gray, whole], [blur, whole]]

    kept = np.asarray(
        [
            pair(1.0, 0.0, 0.0),
            pair(1.0, 1.0, 1.0),
            pair(1.0, 1.0, 0.5),
            pair(0.0, 0.0, 0.0),
            pair(-0.2, 0.0, 0.0),
        ]
    )
    found = metrics.informative_pairs(Curves(Response(kept, kept), Response(kept, kept)))
    np.testing.assert_array_equal(found, [True, False, True, False, False])
    assert metrics.ratio(np.asarray([[1.0, 2.0], [2.0, 2.0]])) == 0.75


@pytest.fixture(scope="module")
def compared(scenes, masks):
    quick = {"mdm": MDMConfig(steps=4)}
    asked = ("mdm", "cell", "receptive_field", "center")
    centers = [np.asarray([[20.0, 12.0], [2.0, 2.0], [np.nan, np.nan]], np.float32)] * 3
    return compare_regions(
        brightness,
        scenes,
        [0, 0, 0],
        regions=asked,
        annotations=PairAnnotations(masks=masks, parts=centers),
        checks=("noise",),
        configs=quick,
        name="white cell",
    )


@pytest.mark.slow
def test_comparison_of_known_regions(compared):
    summary = compared.scores("cell").summary(resamples=10)
    for name, value in {
        "object_overlap:5%": 1.0,
        "object_overlap:20%": 64 / 205,
        "object_iou:own-area": 1.0,
        "stability:noise": 1.0,
        "purity:box-32": 1.0,
        "consistency:box-72": 1.0,
        "least_area:similarity-blur": 0.06,
        "least_area:distance-gray": 0.06,
    }.items():
        assert summary[name].value == pytest.approx(value), name
    assert summary["object_iou:own-area"].counted == 2
    assert summary["object_iou:own-area"].without_truth == 1
    # on gray the fill alone is half a white cell: from there the curve is a straight line to 1 at
    # 64 pixels
    expected = area_under(np.minimum(0.5 + PIXELS / 128, 1.0), 0.5)
    assert summary["retention:gray"].value == pytest.approx(expected, abs=1e-3)
    above = area_under(np.minimum(PIXELS / 64, 1.0), 0.0)
    assert summary["retention:similarity-above-gray"].value == pytest.approx(
        above, abs=1e-3
    )
    assert summary["retention:distance-above-gray"].value == pytest.approx(above, abs=1e-3)
    assert summary["removal:distance-above-gray"].value == pytest.approx(
        area_under(1 - np.minimum(PIXELS / 64, 1.0), 1.0), abs=1e-3
    )
    same = compared.scores("receptive_field").summary(
        resamples=10
    )  # a cell sees itself: the same box
    assert {name: each.value for name, each in same.items()} == {
        name: each.value for name, each in summary.items()
    }
    wrong = compared.scores("center").summary(resamples=10)
    assert wrong["retention:gray"].value < summary["retention:gray"].value
    assert wrong["removal:gray"].value > summary["removal:gray"].value


@pytest.mark.slow
def test_the_table_is_paired_and_written(compared):
    table = compared.table(reference="cell")
    assert [row.method for row in table.rows] == [
        "mdm",
        "cell",
        "receptive_field",
        "center",
    ]
    rows = {row.method: row for row in table.rows}
    assert rows["center"].cells["retention:gray"].verdict == "worse"
    assert rows["receptive_field"].cells["removal:gray"].verdict == "tied"
    text = table_text.markdown(table)
    assert "3 pairs of an image and a prototype, 1 different prototypes" in text
    assert "| **cell** " in text
    assert "sanity" not in text  # that was not asked for
    lines = list(
        csv.DictReader(
            io.StringIO(
                table_text.to_csv(
                    compared.table(
                        metrics=["object_overlap:5%", "object_overlap:20%", "removal:blur"]
                    )
                )
            )
        )
    )
    assert {line["protocol"] for line in lines if line["metric"] == "object_overlap"} == {
        "5%",
        "20%",
    }
    assert all(
        float(line["low"]) <= float(line["value"]) + 1e-9
        for line in lines
        if line["low"] not in ("", "nan")
    )
    with pytest.raises(InputError, match="unknown measure"):
        compared.table(metrics=["retention"])


def test_a_dead_prototype_is_left_out(scenes):
    found = compare_regions(brightness, scenes, [0, 1, 1], regions=("cell",), checks=())
    scores = found.scores("cell").summary(resamples=10)
    assert scores["retention:gray"].counted == 1
    assert np.isfinite(scores["retention:gray"].value)
    assert "2 left out of the curves" in " ".join(found.table().notes)
    assert dict(found.table().rows[0].failures) == {"CONSTANT": 2}
    all_dead = (
        compare_regions(brightness, scenes, 1, regions=("cell",), checks=())
        .scores("cell")
        .summary(resamples=10)
    )
    assert "retention:gray" not in all_dead
    assert all(np.isfinite(each.value) for each in all_dead.values())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"annotations": PairAnnotations(masks=[None])}, "1 masks for 3 pairs"),
        (
            {"annotations": PairAnnotations(masks=[np.ones((4, 4), bool), None, None])},
            "the size of its image",
        ),
        ({"checks": ("nois",)}, "did you mean 'noise'"),
        ({"checks": ("noise", "backbone")}, "the backbone of a function cannot be changed"),
        ({"regions": []}, "no regions"),
        ({"configs": {"cell": MDMConfig()}}, "give a NoSettings"),
        ({"configs": {"mdm": MDMConfig()}}, "unknown region 'mdm'"),
        (
            {
                "annotations": PairAnnotations(
                    parts=[np.zeros((2, 2)), np.zeros((3, 2)), None]
                )
            },
            r"shape \(3, 2\), the first have \(2, 2\)",
        ),
        (
            {"annotations": PairAnnotations(parts=[np.zeros((2, 3)), None, None])},
            r"shape \(2, 3\)",
        ),
        (
            {
                "annotations": PairAnnotations(
                    parts=[np.zeros((2, 2))] * 3, part_names=("beak",)
                )
            },
            "1 part names for 2 parts",
        ),
    ],
)
def test_what_cannot_be_compared(scenes, arguments, sentence):
    searched = []
    with pytest.raises(InputError, match=sentence):
        compare_regions(
            brightness,
            scenes,
            0,
            **{"regions": ("cell",), **arguments},
            on_progress=lambda *done: searched.append(done),
        )
    assert not searched  # said before the search


@pytest.mark.slow
def test_checks_are_those_that_the_network_allows(scenes):
    found = compare_regions(brightness, scenes, 0, regions="cell")
    assert set(found.evidence["cell"].others) == {"noise"}
    backbone = ResNet(num_classes=0, widths=(4,), depths=(1,), rngs=nnx.Rngs(0))
    network = ProtoPNet(
        backbone, num_classes=3, prototypes_per_class=2, width=8, rngs=nnx.Rngs(1)
    )
    assert possible_checks(Classifier(network, "tiny", ("a", "b", "c"), SEEN)) == CHECKS


@pytest.mark.slow
def test_left_and_right_are_one_part_for_purity(scenes):
    """The region finds the left wing in one image and the right one in another."""
    here, there = [20.0, 12.0], [2.0, 2.0]
    places = [
        np.asarray(each, np.float32)
        for each in ([here, there, there], [there, there, here])
    ] + [None]
    evidence = compare_regions(
        brightness,
        scenes,
        0,
        regions="cell",
        annotations=PairAnnotations(
            parts=places, part_names=("left wing", "beak", "right wing")
        ),
        checks=(),
    ).evidence["cell"]
    for names, pure in ((("left wing", "beak", "right wing"), 1.0), ((), 0.5)):
        purity = metrics.METRICS["purity:box-32"]
        assert (
            parts.purity(purity.measure(evidence._replace(part_names=names)).statistics)
            == pure
        )
    assert evidence.part_names == ("left wing", "beak", "right wing")
    merged = parts.merge_sides(
        np.asarray([[1, 0, 0, 0]], bool), ("left leg", "tail", "right leg", "left eye")
    )
    np.testing.assert_array_equal(merged, [[True, False, False]])


@pytest.mark.slow
def test_purity_and_consistency_by_hand():
    near = np.asarray([[1, 0], [1, 0], [0, 1], [0, 0]], bool)
    seen = np.asarray([[1, 1], [1, 1], [1, 1], [1, 0]], bool)
    rows = parts.statistics(np.asarray([0, 0, 1, 1]), near, seen)
    assert parts.purity(rows) == pytest.approx((1.0 + 0.5) / 2)
    assert (
        parts.consistency(rows) == 1.0
    )  # the part of the second prototype is seen once, and found
    seen[3, 1] = True
    assert parts.consistency(parts.statistics(np.asarray([0, 0, 1, 1]), near, seen)) == 0.5
    map_ = np.zeros((32, 32), np.float32)
    map_[10, 20] = 1.0
    np.testing.assert_array_equal(parts.peak(map_), [20.5, 10.5])
    places = np.asarray(
        [[20.5, 10.5], [25.0, 6.0], [25.2, 10.5], [np.nan, np.nan]], np.float32
    )
    np.testing.assert_array_equal(
        parts.near_peak(map_, places, 72 / 224), [True, True, True, False]
    )
    np.testing.assert_array_equal(
        parts.near_peak(map_, places, 32 / 224), [True, False, False, False]
    )
    with pytest.raises(InputError, match="no pairs"):
        parts.purity(rows[:0])


def test_noise_is_bounded_and_drawn_by_id():
    images = np.full((2, 32, 32, 3), 0.5, np.float32)
    images[1] = 0.99

    class Normalized:
        preprocessing = replace(SEEN, std=(0.5, 0.25, 0.25))

    drawn = perturbations.add_noise_to_images(Normalized(), images, ids=["a", "b"])
    moved = drawn[0] - images[0]
    assert np.abs(moved[..., 0]).max() == pytest.approx(0.125)
    assert np.abs(moved[..., 1]).max() == pytest.approx(0.0625)
    assert moved[..., 0].std() == pytest.approx(
        0.5 * 0.1716, rel=0.05
    )  # of N(0, 0.2) cut at 0.25
    assert drawn.max() <= 1.0
    np.testing.assert_array_equal(
        drawn[1:], perturbations.add_noise_to_images(Normalized(), images[1:], ids=["b"])
    )


def test_changed_networks():
    backbone = ResNet(num_classes=0, widths=(4,), depths=(1,), rngs=nnx.Rngs(0))
    network = ProtoPNet(
        backbone, num_classes=3, prototypes_per_class=2, width=8, rngs=nnx.Rngs(1)
    )
    classifier = Classifier(network, "tiny", ("a", "b", "c"), SEEN)
    before = dict(named_weights(network))
    permuted = dict(
        named_weights(perturbations.change_weights(classifier, "prototypes").network)
    )
    assert [
        name for name in before if not np.array_equal(before[name], permuted[name])
    ] == ["prototypes"]
    distances = np.abs(
        np.asarray(before["prototypes"])[:, None] - np.asarray(permuted["prototypes"])
    ).sum(-1)
    assert (np.sort(distances.argmin(axis=0)) == np.arange(6)).all()
    assert (distances.argmin(axis=0) != np.arange(6)).all()  # none stays where it was
    drawn = dict(
        named_weights(perturbations.change_weights(classifier, "backbone").network)
    )
    assert {
        name.partition(".")[0]
        for name in before
        if not np.array_equal(before[name], drawn[name])
    } == {"backbone"}
    with pytest.raises(InputError, match="did you mean 'prototypes'"):
        perturbations.change_weights(classifier, "prototype")
    with pytest.raises(InputError, match="no weights under the name 'prototypes'"):
        perturbations.change_weights(replace(classifier, network=backbone), "prototypes")
    for n in (2, 3, 10):
        assert (perturbations.derangement(n, 0) != np.arange(n)).all()


def test_checks_are_named_alike():
    assert {f"sanity:{what}" for what in perturbations.CHANGES} <= metrics.METRICS.keys()
    assert set(CHECKS) == {"noise", *perturbations.CHANGES}
